"""The language model's demo: what it writes, and what it says at the end, on a tiny base."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.fakes.bases.language_bases import write_tiny_llama
from tests.fakes.instruments.typed import typed

from presspool.common.runs.run_file import read_run_file
from presspool.simulations import demo_llm
from presspool.simulations.demo_llm import prepare_llm_demo, side_by_side
from presspool.simulations.newsroom.grammar import TOPICS
from presspool.simulations.simulate import SimulateOptions, simulate


def test_the_demo_trains_on_made_headlines(tmp_path: Path) -> None:
    file = prepare_llm_demo(tmp_path, outlets=2, epsilon=8.0)
    run = read_run_file(file)
    assert run.contract.privacy.epsilon == 8.0
    assert set(run.contract.outlets.values()) == {demo_llm.READERS}
    held_out = pq.read_table(tmp_path / "newsroom" / "held_out.parquet").to_pylist()
    shown = pq.read_table(tmp_path / "newsroom" / "few_shot.parquet").to_pylist()
    assert [row["answer"] for row in held_out] == [row["answer"] for row in shown]
    assert {row["prompt"] for row in held_out} == {demo_llm.ASKED.format(t) for t in TOPICS}
    for name in run.contract.outlets:
        rows = pq.read_table(tmp_path / "newsroom" / "outlets" / f"{name}.parquet").to_pylist()
        assert not {row["answer"] for row in rows} & {row["answer"] for row in held_out}
        assert len({row["reader"] for row in rows}) == demo_llm.READERS


def test_without_its_model_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    found = typed(monkeypatch, capsys, "demo")("--llm", "--out", tmp_path / "demo")
    assert found.code == 2
    assert f"presspool models fetch {demo_llm.MODEL}" in found.err
    assert not (tmp_path / "demo").exists()


def test_base_and_adapter_stand_side_by_side(tmp_path: Path) -> None:
    """With a tiny base in place of the real one, without noise and for one round."""
    file = prepare_llm_demo(tmp_path, outlets=1, epsilon=float("inf"))
    base = write_tiny_llama(tmp_path / "base")
    text = file.read_text()
    for before, after in (
        ('id = "smollm2-135m-instruct"', f'id = "{base}"'),
        ("layers = 6", "layers = 1"),
        ("rounds = 8", "rounds = 1"),
        ("max_length = 24", "max_length = 96"),
    ):
        assert before in text
        text = text.replace(before, after)
    file.write_text(text)
    result = simulate(read_run_file(file), SimulateOptions(out=tmp_path / "run", workers=0))
    said = side_by_side(result, tmp_path).splitlines()
    assert [line.split("  ")[-1] for line in said[1:4]] == [
        "plain base",
        "few-shot base",
        "adapter, without privacy",
    ]
    assert [line for line in said if line.startswith("News headline")] == [
        demo_llm.ASKED.format(topic) for topic in TOPICS[: demo_llm.ANSWERED]
    ]
    assert sum(line.startswith("  base   : ") for line in said) == demo_llm.ANSWERED
    assert sum(line.startswith("  adapter: ") for line in said) == demo_llm.ANSWERED
