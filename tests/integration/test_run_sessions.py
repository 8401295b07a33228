"""A researcher's run as it is watched: one sample for the line, and a stop that is gone on from."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_runs import write_run

from presspool.common.audit.pages.comparison import compare
from presspool.common.base.errors import FolderError
from presspool.common.runs.result_file import parse_result, read_result
from presspool.common.runs.run_file import read_run_file
from presspool.common.runs.run_folder import RunFolder
from presspool.server.rounds import evaluation
from presspool.simulations.cli import researcher_cli
from presspool.simulations.local_only.local_models import train_beside
from presspool.simulations.simulate import SimulateOptions, rounds_done, simulate


@pytest.fixture
def run(tmp_path: Path, contract_body: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three rounds, and a held-out file that is larger than the sample."""
    monkeypatch.setattr(evaluation, "SAMPLE", 7)
    federation = contract_body["federation"] | {"rounds": 3}
    return write_run(tmp_path, contract_body | {"federation": federation})


@pytest.fixture
def presspool(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return typed(monkeypatch, capsys)


def test_rounds_are_compared_on_one_sample_and_the_whole_stands_apart(
    run: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        options = SimulateOptions(out=tmp_path / name, workers=0, deterministic=3)
        result = simulate(read_run_file(run), options)
    first, *between, last = result.rounds
    assert first.whole is not None
    assert last.whole is not None
    records = len(pq.read_table(run.parent / "held_out.parquet"))
    assert (last.whole.records, last.whole.sample) == (records, 7)
    assert [entry.whole for entry in between] == [None, None]
    for entry in result.rounds:  # an accuracy of seven records is a number of sevenths
        assert (7 * (entry.metrics["accuracy"] or 0.0)) % 1 == pytest.approx(0.0, abs=1e-9)
    text = (tmp_path / "two" / "result.json").read_text()
    assert parse_result(text) == result == read_result(tmp_path / "two")
    assert ['"whole"' in json.dumps(entry) for entry in json.loads(text)["rounds"]] == [
        *(True, False, False, True)
    ]
    page = html.unescape((tmp_path / "two" / "report.html").read_text())
    was, now = (f"{entry.whole.metrics['accuracy']:.1%}" for entry in (first, last) if entry.whole)
    assert re.search(f"from {was} before training to {now} of all public held-out records", page)
    assert f"The line is of the same 7 of the {last.whole.records} in every round." in page
    row = compare([tmp_path / "one", tmp_path / "two"]).rows[0]
    assert row.metrics == last.whole.metrics


def test_a_run_that_goes_on_counts_on(
    run: Path, tmp_path: Path, presspool: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, answers = tmp_path / "stopped", iter(range(5))

    def stop_in_the_third_round() -> None:
        if next(answers, None) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(
            read_run_file(run),
            SimulateOptions(out=out, workers=0, deterministic=3),
            on_reply=stop_in_the_third_round,
        )
    assert rounds_done(out) == 2
    shown = list[tuple[int, int]]()

    @contextmanager
    def bar(_what: str, *, total: int, done: int = 0) -> Iterator[Any]:
        shown.append((done, total))
        yield lambda: None

    monkeypatch.setattr(researcher_cli, "progress", bar)
    answer = presspool("simulate", run, "--out", out, "--resume", "--deterministic", 3)
    assert answer.code == 0, answer.err
    assert shown == [(4, 6)]
    assert rounds_done(out) == 3


def test_who_types_it_again_while_it_still_works_is_told_so(
    run: Path, tmp_path: Path, presspool: Command
) -> None:
    out, told = tmp_path / "one", list[str]()

    def type_it_again() -> None:
        said = presspool("simulate", run, "--out", out, "--resume", "--deterministic", 3)
        assert said.code == 2
        told.append(said.err)

    options = SimulateOptions(out=out, workers=0, deterministic=3)
    file = read_run_file(run)
    result = simulate(file, options, on_reply=type_it_again)
    with RunFolder(out).alone(), pytest.raises(FolderError, match="another process works"):
        train_beside(file, options)
    assert all("another process works on this run" in said for said in told)
    assert (len(told), len(result.rounds)) == (6, 4)
    assert result == read_result(out)
