"""Tuning: no reader's record, the pool's noise, every trial once, the best one proposed."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.conftest import LABELS, made_rows
from tests.fakes.instruments.typed import typed
from tests.fakes.made_runs import write_run

from presspool.common.base.errors import DataError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.runs.run_file import freeze
from presspool.common.tasks.classification import labelled
from presspool.common.tasks.generation import Generation
from presspool.common.tasks.metric import Metric
from presspool.simulations import tune as tuning
from presspool.simulations.tune import proposal, trials_of, tune

POOLED = {"colluders": 0, "dropouts": 0}


@pytest.fixture
def public() -> pa.Table:
    rows = made_rows("archive", 120)
    return labelled([row["text"] for row in rows], [LABELS.index(row["label"]) for row in rows])


@pytest.fixture
def contract(contract_body: dict[str, Any]) -> Contract:
    privacy = {"epsilon": 3.0, "clip": {"adapter": 1.0, "head": 1.0}, "sampling_rate": 0.5}
    rates = {"learning_rate": {"adapter": 1.0, "head": 5.0}}
    outlets = {"north-post": 900, "south-echo": 600}
    body = {**contract_body, "privacy": privacy, "optimizer": rates, "outlets": outlets}
    return parse_contract(body)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "SAMPLING", ((0.5, 2), (1.0, 2)))


def test_every_trial_is_made_once_and_a_second_start_makes_none(
    contract: Contract, public: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks: list[int] = []
    trials = tune(contract, public, tmp_path, on_trial=lambda: ticks.append(1))
    assert len(ticks) == trials_of(contract) >= len(trials) > 5
    assert trials[0].metrics["accuracy"] == max(trial.metrics["accuracy"] or 0 for trial in trials)
    lines = (tmp_path / "trials.jsonl").read_text().splitlines()
    assert len({json.loads(line)["contract"] for line in lines}) == len(lines) == len(trials)
    monkeypatch.setattr(tuning, "train_round", None)  # whoever trains now fails
    assert tune(contract, public, tmp_path) == trials


@pytest.mark.parametrize(
    "changes",
    [
        {"federation": {"robust": "median", "attackers": 1, "quorum": 3}},
        {"federation": {"trust": "pooled", "local_steps": 1}, "pooled": POOLED},
    ],
    ids=["robust", "pooled"],
)
def test_a_run_that_counts_on_many_outlets_is_tuned_on_one(
    contract: Contract, public: pa.Table, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """All public rows are one outlet's: nobody is there to lie, or to share noise."""
    outlets = {"north-post": 900, "south-echo": 600, "west-sun": 600}
    run = freeze(contract.replace(outlets=outlets, **changes))
    assert tune(run, public, tmp_path)


def test_trials_of_an_older_version_are_not_repeated(
    contract: Contract, public: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, file = tune(contract, public, tmp_path), tmp_path / "trials.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    old = [{"contract": one["contract"], **one["metrics"]} for one in lines]
    file.write_text("".join(json.dumps(one) + "\n" for one in old))
    monkeypatch.setattr(tuning, "train_round", None)  # whoever trains now fails
    assert tune(contract, public, tmp_path) == trials


def test_the_best_trial_is_best_in_the_primary_metrics_direction(
    contract: Contract, public: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A made task: its perplexity has to be small, and one candidate diverges."""
    perplexity = Metric(name="perplexity", title="Perplexity", higher_is_better=False, primary=True)
    values = iter([9.0, 9.0, None, 8.0, *[7.0] * 2, *[7.5] * 100])
    monkeypatch.setattr(tuning, "_primary", lambda _: perplexity)
    monkeypatch.setattr(tuning._Bench, "_value", lambda *_: next(values))
    trials = tune(contract, public, tmp_path)
    assert [trials[0].metrics["perplexity"], trials[-1].metrics["perplexity"]] == [7.0, None]
    text = proposal(contract, trials, Path("archive.csv"), 120)
    assert "perplexity 7.000 on validation rows\n# (worst –)" in text


def test_the_proposal_is_a_part_of_a_run_file(
    contract: Contract, public: pa.Table, tmp_path: Path
) -> None:
    trials = tune(contract, public, tmp_path)
    text = proposal(contract, trials, Path("archive.csv"), len(public))
    tables = tomllib.loads(text)
    best = contract.replace(privacy={"epsilon": None, "noise_multiplier": 1.0})
    merged = {
        k: {**v, "noise_multiplier": None} if k == "privacy" else v for k, v in tables.items()
    }
    proposed = best.replace(**merged).with_noise()
    assert proposed.plan.epsilon() <= 3.0
    assert proposed.privacy.noise_multiplier == trials[0].tables["privacy"]["noise_multiplier"]
    assert "archive.csv" in text


def test_the_made_outlet_has_the_pools_noise(contract: Contract, public: pa.Table) -> None:
    """Standard deviation of the noise on the mean gradient, in both."""
    bench = tuning._Bench(contract, public, Path("unused"))
    contract = contract.with_noise()
    small = bench._small(contract).plan
    (readers,) = bench._small(contract).outlets.values()
    weights = contract.weights()
    pool = math.sqrt(
        sum(
            (weights[name] * contract.plan.noise_std / contract.plan.expected_batch(n)) ** 2
            for name, n in contract.outlets.items()
        )
    )
    assert small.noise_std / small.expected_batch(readers) == pytest.approx(pool)
    assert small.steps == contract.steps


def test_where_cohorts_take_turns_the_noise_is_a_rounds(
    contract: Contract, public: pa.Table
) -> None:
    outlets = dict.fromkeys(("a", "b", "c", "d"), 40)
    some = contract.replace(outlets=outlets, federation={"cohort": 2, "quorum": 1}).with_noise()
    small = tuning._Bench(some, public, Path("unused"))._small(some)
    (readers,) = small.outlets.values()
    each = 0.5 * some.plan.noise_std / some.plan.expected_batch(40)
    assert small.plan.noise_std / small.plan.expected_batch(readers) == pytest.approx(
        math.sqrt(2) * each
    )


def test_where_the_coordinator_takes_the_steps_its_rates_are_tuned(
    contract: Contract, public: pa.Table, tmp_path: Path
) -> None:
    """Adam divides the outlets' own rate out; to move that would move nothing."""
    adam = contract.replace(
        server={"name": "adam", "learning_rate": {"adapter": 0.01, "head": 0.3}}
    )
    trials = tune(adam, public, tmp_path)
    assert len(trials) > 5
    assert len({str(trial.tables["server"]["learning_rate"]) for trial in trials}) > 3
    assert "[server]" in (text := proposal(adam, trials, Path("archive.csv"), 120))
    assert "[optimizer]" not in text


def test_too_few_public_rows_are_refused(contract: Contract, tmp_path: Path) -> None:
    few = labelled(["a"] * 20, [0] * 20)
    with pytest.raises(DataError, match="too few public rows"):
        tune(contract, few, tmp_path)
    assert not (tmp_path / "trials.jsonl").exists()


def test_a_language_model_is_tuned_on_perplexity_and_writes_nothing(
    contract: Contract, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no head whose rate could be tried; writing would take most of the time."""
    body = contract.body() | {
        "model": {"id": str(tiny_llama)},
        "task": {"kind": "generation", "max_length": 16},
        "adapter": {"rank": 1, "targets": ["o_proj"], "layers": 1},
        "optimizer": {"learning_rate": 1.0},
    }
    body["privacy"] |= {"clip": 1.0}
    texts = [row["text"] for row in made_rows("archive", 60)]
    table = pa.table({"text": pa.array(texts, pa.large_string())})
    monkeypatch.setattr(tuning, "NOISE_DRAWS", 1)
    monkeypatch.setattr(tuning, "SAMPLING", ((0.5, 1),))
    monkeypatch.setattr(tuning, "FACTORS", ())
    monkeypatch.setattr(Generation, "write", None)  # whoever writes now fails
    asked = parse_contract(body)
    trials = tune(asked, table, tmp_path)
    assert len(trials) == trials_of(asked) == 2
    assert trials[0].metrics["perplexity"] == min(t.metrics["perplexity"] or 0 for t in trials)
    said = tomllib.loads(proposal(asked, trials, tmp_path, len(table)))
    assert isinstance(said["optimizer"]["learning_rate"], int | float)


def test_what_is_printed_is_a_part_of_a_run_file_on_a_narrow_screen(
    contract: Contract,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [f"oldermoor-courier-{number}" for number in range(4)]
    asked = contract.replace(outlets=dict.fromkeys(names, 200))
    tables = asked.body() | {"adapter": {"targets": ["query"]}, "optimizer": {"learning_rate": 1}}
    tables["privacy"] = {"epsilon": 3.0, "clip": 1.0, "sampling_rate": 0.5}
    run = write_run(tmp_path, tables)
    trials = [tuning._trial(asked.with_noise(), {"accuracy": 0.5})]
    monkeypatch.setattr(tuning, "tune", lambda *_, **__: trials)
    answer = typed(monkeypatch, capsys, "tune", width=80)(str(run))
    assert answer.code == 0
    assert tomllib.loads(answer.out)["privacy"]["sampling_rate"] == 0.5
    assert names[-1] in answer.out
