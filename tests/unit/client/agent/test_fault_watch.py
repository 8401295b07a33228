"""`presspool outlet run`: what the agent does not stop for is loud on its operator's own screen."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.fakes.instruments.typed import typed
from tests.fakes.made_runs import toml

from presspool.client.agent import assembly
from presspool.client.agent.fault_watch import FaultWatch
from presspool.client.data.snapshots import SNAPSHOT
from presspool.client.data.suppression_list import FOLDER, SuppressionList


@pytest.fixture
def home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Path:
    """An outlet's folder with imported data."""
    (tmp_path / "readers.csv").write_text("reader,text,label\nr1,some words,a\n")
    (tmp_path / "outlet.toml").write_text(toml({"name": "north-post", "data": "readers.csv"}))
    assert typed(monkeypatch, capsys, "outlet")("import", "--home", tmp_path).code == 0
    return tmp_path


def told(lines: list[str], count: int) -> list[str]:
    until = time.monotonic() + 120
    while len(lines) < count and time.monotonic() < until:
        time.sleep(0.01)
    return lines


def test_a_snapshot_that_goes_while_it_works_is_said_once_and_again_when_it_is_back(
    home: Path,
) -> None:
    lines: list[str] = []
    with FaultWatch(home, lines.append, every=0.02):
        assert lines == []
        kept = (home / SNAPSHOT).rename(home / "elsewhere")
        [fault] = told(lines, 1)
        assert fault.startswith("FAULT, and the agent goes on: data: ")
        assert fault.endswith("to do: presspool outlet import")
        kept.rename(home / SNAPSHOT)
        assert told(lines, 2)[1:] == ["data: mended"]
    assert not [thread for thread in threading.enumerate() if thread.name == "faults"]


def test_erased_readers_that_cannot_be_told_apart_are_said(home: Path) -> None:
    erased = SuppressionList(home / FOLDER)
    erased.exclude("r2")
    lines: list[str] = []
    (erased.folder / "key").unlink()
    with FaultWatch(home, lines.append):
        pass
    assert [line.split(": ")[1] for line in lines] == ["erased"]


def test_the_operator_of_outlet_run_reads_it_on_the_screen(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The agent keeps working; its screen is the only place where the fault is."""

    class Working:
        def run(self) -> None:
            """As long as a look at the home takes."""

    @contextmanager
    def agent(_home: Path) -> Iterator[Working]:
        (home / SNAPSHOT).unlink()
        yield Working()

    monkeypatch.setattr(assembly, "agent", agent)
    said = typed(monkeypatch, capsys, "outlet")("run", "--home", home)
    assert said.code == 0
    assert "FAULT, and the agent goes on: data: " in said.err
    assert "presspool outlet import" in said.err
    assert said.out == ""
