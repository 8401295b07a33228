"""`presspool serve` as a process of its own."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY
from tests.fakes.children.warm_commands import WarmCommand

LONGEST_WAIT = 240.0  # seconds; a machine may be slow, and nothing here measures it


@contextmanager
def served(folder: Path, *more: str) -> Iterator[tuple[WarmCommand, dict[str, Any], Path]]:
    """The process, what it says at its start, and the file that has its standard error."""
    said, errors = folder / "said.txt", folder / "errors.txt"
    words = ["-m", "presspool.cli", "serve", "--port", "0", "--json", *more]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "TMPDIR": str(folder)}
    process = WarmCommand(words, out=said, err=errors, environment=environment, folder=folder)
    try:
        deadline = time.monotonic() + LONGEST_WAIT
        while not (said.exists() and said.read_text().endswith("}\n")):
            assert process.poll() is None, errors.read_text()
            assert time.monotonic() < deadline, errors.read_text()
            time.sleep(0.05)
        yield process, json.loads(said.read_text()), errors
    finally:
        process.kill()
