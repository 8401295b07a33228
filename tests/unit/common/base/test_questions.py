"""Questions: what is typed wrongly is said, and asked again."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from presspool.common.base.questions import Stopped, ask, positive


class Typed(io.RawIOBase):
    """A keyboard: one line at a time."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self.lines = lines

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        line = next(self.lines, b"")
        buffer[: len(line)] = line
        return len(line)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    lines: list[bytes] = []
    keyboard = io.BufferedReader(Typed(iter(lines)))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(keyboard, encoding="utf-8"))
    return lines


def test_a_wrong_answer_is_said_and_asked_again(
    typed: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    typed += [b"nothing\n", b"3\n"]
    assert ask("\u03b5", positive) == 3.0
    assert "one above 0" in capsys.readouterr().err


def test_bytes_that_are_no_text_are_a_wrong_answer(
    typed: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    typed += [b"Pr\xe9\n", b"Pr\xc3\xa9\n"]
    assert ask("name", str) == "Pr\u00e9"
    assert "text in UTF-8" in capsys.readouterr().err


def test_the_end_of_the_input_stops(typed: list[bytes]) -> None:
    assert not typed
    with pytest.raises(Stopped):
        ask("name", str)
