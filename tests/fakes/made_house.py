"""A copy of the whole package in a folder of its own, to which a test adds one file and one line.

That a new task, method, aggregator, trust model or grid takes no more than that is shown by doing
it: the copy runs in processes of its own, its workers included.

Example: `house = made_house(tmp_path)`; `house.add("common/tasks/parts_of_speech.py", code)`;
`house.register("task", '"parts-of-speech": "…",')`; `house.presspool("simulate", run)`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.fakes.children.warm_commands import run_warm

SIMULATE = """
import sys
from pathlib import Path
import torch
from presspool.common.runs.run_file import read_run_file
from presspool.simulations.simulate import SimulateOptions, simulate

torch.set_num_threads(1)  # as a worker
for run, out in zip(sys.argv[2::2], sys.argv[3::2]):
    options = SimulateOptions(out=Path(out), workers=0, deterministic=int(sys.argv[1]))
    simulate(read_run_file(Path(run)), options)
"""
PACKAGES = ("client", "common", "server", "simulations")


@dataclass(frozen=True)
class House:
    """The copy.

    Attributes:
        root: its folder; modules lie where they lie in the repository.
    """

    root: Path

    def add(self, path: str, text: str) -> None:
        """One new file."""
        file = self.root / path
        assert not file.exists(), f"{path} is there already"
        file.write_text(text)

    def register(self, kind: str, line: str, *, path: str = "common/contract/doors.py") -> None:
        """One new line, the first in the registry of a kind."""
        file, head = self.root / path, f'    "{kind}",\n    {{\n'
        before, found, rest = file.read_text().partition(head)
        assert found, f"no registry of {kind} in {path}"
        file.write_text(f"{before}{found}        {line}\n{rest}")

    def presspool(self, *words: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """A command of the copy, in a process of its own."""
        return self.python("-m", "presspool.cli", *words, timeout=timeout)

    def simulate(self, *runs: tuple[Path, Path], seed: int, timeout: float = 240) -> None:
        """Simulate run files into folders, with reproducible noise, all in one process."""
        words = [word for pair in runs for word in pair]
        done = self.python("-c", SIMULATE, seed, *words, timeout=timeout)
        assert done.returncode == 0, done.stderr

    def python(self, *words: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """The interpreter, with the copy as `presspool`."""
        return run_warm(words, timeout=timeout, environment=self._environment)

    def cold_python(self, *words: object) -> subprocess.CompletedProcess[str]:
        """The same, without what a warm one has imported already."""
        return subprocess.run(
            [sys.executable, *map(str, words)],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def _environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(self.root / "src")}


def made_house(folder: Path) -> House:
    """Copy the package into a folder."""
    root = folder / "house"
    for name in PACKAGES:
        shutil.copytree(
            REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copytree(REPOSITORY / "src", root / "src", symlinks=True)
    return House(root)
