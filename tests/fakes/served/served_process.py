"""`presspool serve` as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY


@contextmanager
def served(
    folder: Path, *more: str
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any], Path]]:
    """The process, what it says at its start, and the file that has its standard error."""
    errors = folder / "errors.txt"
    command = [sys.executable, "-m", "presspool.cli", "serve", "--port", "0", "--json", *more]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "TMPDIR": str(folder)}
    with errors.open("w") as stream:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stream, text=True, cwd=folder, env=environment
        )
    try:
        assert process.stdout is not None
        lines = []
        while (line := process.stdout.readline()) and line != "}\n":
            lines.append(line)
        assert lines, errors.read_text()
        yield process, json.loads("".join([*lines, "}"])), errors
    finally:
        process.kill()
        process.wait()
