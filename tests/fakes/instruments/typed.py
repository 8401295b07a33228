"""A command of `presspool` as the shell runs it, but in this process: exit code, output, messages.

Example: `run = typed(monkeypatch, capsys, "audit")`; `run("verify", path).code`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

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


def simulated_twice(presspool: Command, run: Path, folder: Path) -> tuple[Path, dict[str, Any]]:
    """A run's folder and `result.json`; simulated twice, it made one adapter.

    Args:
        presspool: as `typed` makes it.
        run: the run file.
        folder: where to.
    """
    found = []
    for number in range(2):
        out = folder / f"out-{number}"
        said = presspool("simulate", run, "--out", out, "--deterministic", 1)
        assert said.code == 0, said.err
        found.append(json.loads((out / "result.json").read_text()))
    first, again = (result["adapter_sha256"] for result in found)
    assert first == again
    return out, found[0]
