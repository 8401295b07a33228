"""Bases that are trained from scratch, and what `experiment paired` makes of them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from presspool.common.contract.contract_schema import Model
from presspool.common.tasks.generation import Generation, GenerationTable
from presspool.simulations.experiments.declared import paired
from presspool.simulations.experiments.scratch_bases import SIZES, Pair, Schooling, scratch_base

PAIRS: list[Pair] = [
    (f"The {what} of the {where} was {how} on Monday.", f"{where}'s {what} {how}")
    for what in ("budget", "harbour", "mayor")
    for where in ("north", "city", "island")
    for how in ("closed", "praised")
]
SHORT = Schooling(vocabulary=400, epochs=30, batch=6, rate=3e-3)


def _nats(base: Path, pairs: list[Pair]) -> float:
    """The mean loss of the task itself, of an adapter that says nothing yet."""
    import torch

    from presspool.common.contract.contract import parse_contract
    from presspool.common.models.frozen_trunk import FrozenTrunk
    from presspool.common.models.models import build
    from presspool.common.runs.run_file import freeze

    tables = {**paired.adapted("t5"), "task": {**paired.TASK, "max_length": 64}}
    body = {"name": "t", "seed": 1, "outlets": {"a": 10}, **tables, "model": {"id": str(base)}}
    body["privacy"] = {**tables["privacy"], "epsilon": "inf"}
    contract = freeze(parse_contract(body), fetch=False)
    trunk = FrozenTrunk(build(contract), contract)
    table = pa.table({"article": [a for a, _ in pairs], "summary": [s for _, s in pairs]})
    with torch.no_grad():
        outputs = trunk.outputs(trunk.run(trunk.task.texts(table).to_pylist()))
        return float(trunk.task.losses(outputs, table).mean())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scratch_base("t5", PAIRS, tmp_path_factory.mktemp("bases") / "t5", SHORT)


def test_a_base_has_learnt_its_pairs_as_the_task_asks_for_them(base: Path, tmp_path: Path) -> None:
    untaught = scratch_base(
        "t5", PAIRS, tmp_path / "t5", Schooling(vocabulary=400, epochs=1, batch=18, rate=1e-9)
    )
    some = PAIRS[:4]
    assert _nats(base, some) < 0.3 * _nats(untaught, some)
    # The tokens that it learnt are the task's: another answer's are not the likely ones.
    exchanged = [(asked, said) for (asked, _), (_, said) in zip(some, PAIRS[4:8], strict=True)]
    assert _nats(base, some) < 0.5 * _nats(base, exchanged)


@pytest.mark.parametrize("family", SIZES)
def test_the_same_pairs_give_the_same_base(family: str, tmp_path: Path) -> None:
    brief = Schooling(vocabulary=300, epochs=1, batch=9)
    one, other = (scratch_base(family, PAIRS, tmp_path / name, brief) for name in "ab")
    for file in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (one / file).read_bytes() == (other / file).read_bytes()
    task = Generation(GenerationTable(**{**paired.TASK, "max_length": 64}), Model(id=str(one)))
    assert task.loads == "AutoModelForSeq2SeqLM"


def test_a_base_that_is_there_stays_and_half_of_one_does_not(tmp_path: Path) -> None:
    brief = Schooling(vocabulary=300, epochs=1, batch=9)
    (tmp_path / "t5.draft").mkdir()
    (tmp_path / "t5.draft" / "left.over").write_text("from a killed process")
    made = scratch_base("t5", PAIRS, tmp_path / "t5", brief)
    assert not (made / "left.over").exists()
    before = (made / "model.safetensors").stat().st_mtime_ns
    scratch_base("t5", PAIRS[:3], tmp_path / "t5", brief)
    assert (made / "model.safetensors").stat().st_mtime_ns == before


def test_tested_articles_are_trained_on_by_nobody_and_the_search_never_sees_them(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paired, "scratch_base", lambda *given: given[-1])
    declared, searched = (
        pools(data_root, tmp_path)[0] for pools in (paired.pools, paired.search_pools)
    )
    assert sorted(declared.readers) == ["entertainment", "politics", "us-news", "world-news"]
    columns = [pq.read_table(pool.test)["reader"].to_pylist() for pool in (declared, searched)]
    tested, judged = map(set, columns)
    trained = {
        row
        for pool in (declared, searched)
        for row in pq.read_table(pool.folder / "everybody.parquet")["reader"].to_pylist()
    }
    assert not tested & (trained | judged)
    assert len(judged) > 1000
