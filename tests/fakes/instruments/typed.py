"""A command of `presspool` as the shell runs it, but in this process: exit code, output, messages.

Example: `run = typed(monkeypatch, capsys, "audit")`; `run("verify", path).code`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from presspool import cli
from presspool.common.base import console


class Answer(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


def typed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *first: str,
    width: int | None = None,
) -> Command:
    """A function that types `presspool`, the first words, and its arguments.

    Args:
        monkeypatch: of the test.
        capsys: of the test.
        first: words that every command begins with.
        width: columns of the screen; None for the one that is there.
    """
    if width is not None:
        for screen in (console.out, console.err):
            monkeypatch.setattr(screen, "_width", width)

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["presspool", *first, *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return Answer(code if isinstance(code, int) else 0, *capsys.readouterr())

    return run
