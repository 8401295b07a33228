"""What long work says where nobody watches a bar."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

import pytest

from presspool.common.base.console import guarded, progress, start_logging


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that goes on by the first number at each look."""
    seconds = [1.0, 0.0]

    def look() -> float:
        seconds[1] += seconds[0]
        return seconds[1]

    monkeypatch.setattr(time, "monotonic", look)
    return seconds


def test_without_a_terminal_a_line_comes_now_and_then_and_at_the_end(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("trials", total=25) as advance:
        for _ in range(25):
            advance()
    said = capsys.readouterr()
    assert [line.split(" ", 1)[1] for line in said.err.splitlines()] == [
        "trials: 10 of 25",
        "trials: 20 of 25",
        "trials: 25 of 25",
    ]
    assert said.out == ""


def test_short_work_says_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    clock[0] = 0.1
    with progress("trials", total=3) as advance:
        for _ in range(3):
            advance()
    assert capsys.readouterr().err == ""


def test_what_an_earlier_run_did_is_counted(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    clock[0] = 60.0
    with progress("runs", total=5, done=3) as advance:
        advance()
    assert "runs: 4 of 5" in capsys.readouterr().err


def test_a_path_that_the_system_refuses_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded((tmp_path / ("n" * 300)).exists) == 2
    said = capsys.readouterr().err
    assert "cannot be used" in said
    assert "Traceback" not in said


def test_a_fault_of_ours_is_not_taken_for_a_path() -> None:
    def fault() -> None:
        raise OSError("no path")

    with pytest.raises(OSError, match="no path"):
        guarded(fault)


class Full:
    """What takes no line."""

    def write(self, _: str) -> None:
        raise OSError(28, "no space left")


def test_a_line_that_cannot_be_written_does_not_tell_what_it_was_about(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("presspool.somewhere")
    with monkeypatch.context() as hurt:
        hurt.setattr(sys, "stderr", Full())
        start_logging(quiet=False)
    try:
        raise RuntimeError("a reader's words")
    except RuntimeError as error:
        log.error("a call failed: %s", type(error).__name__)
    assert "reader" not in "".join(capsys.readouterr())
