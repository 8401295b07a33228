"""A whole run by two Ray actors beside the same by two worker processes, start included.

Invariant: both are the command `presspool simulate` on the same run file, in turns.

Example: ``raced(rounds=20, turns=2).claim``.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from presspool.common.base.errors import SelfTestError
from presspool.common.base.toml_values import toml_value
from presspool.simulations.bench.claims import Claim
from presspool.simulations.bench.simulators.pool_rounds import body, write_records
from presspool.simulations.bench.simulators.simulator_turns import RoundSizes

GRIDS, WORKERS, LEAST = ("local", "ray"), 2, 0.9


@dataclass(frozen=True, kw_only=True)
class GridRace:
    """Whole runs on both grids.

    Attributes:
        rounds: of each run.
        clients: of each round.
        seconds: grid to the seconds of each of its runs.
    """

    rounds: int
    clients: int
    seconds: dict[str, list[float]]

    @property
    def claim(self) -> Claim:
        """How fast Ray is, as a share of the local grid's speed."""
        pairs = zip(self.seconds["local"], self.seconds["ray"], strict=True)
        ratio = statistics.median(local / ray for local, ray in pairs)
        text = f"local grid ÷ Ray, {self.rounds} rounds by {WORKERS} workers, start included"
        return Claim(text=text, value=ratio, bound=LEAST, at_least=True)


def raced(
    rounds: int, *, turns: int, sizes: RoundSizes, advance: Callable[[], None] = lambda: None
) -> GridRace:
    """Run both in turns.

    Raises:
        SelfTestError: one of the runs failed.
    """
    seconds: dict[str, list[float]] = {grid: [] for grid in GRIDS}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(turns):
            for grid in GRIDS:
                home = Path(folder, f"{grid}-{turn}")
                home.mkdir()
                seconds[grid].append(_timed(home, grid, sizes, rounds))
                advance()
    return GridRace(rounds=rounds, clients=sizes.clients, seconds=seconds)


def _timed(home: Path, grid: str, sizes: RoundSizes, rounds: int) -> float:
    names = write_records(home / "data", sizes)
    simulation = {"data": "data", "grid": grid, "workers": WORKERS}
    run = home / "run.toml"
    run.write_text(_toml(body(sizes, names, rounds=rounds) | {"simulation": simulation}))
    words = [sys.executable, "-m", "presspool.cli", "simulate", str(run), "--out", str(home / "x")]
    began = time.perf_counter()
    done = subprocess.run(words, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise SelfTestError("a run failed", where=grid, got=done.stderr[-1000:])
    return time.perf_counter() - began


def _toml(tables: dict[str, Any]) -> str:
    plain = [f"{k} = {toml_value(v)}" for k, v in tables.items() if not isinstance(v, dict)]
    for name, table in tables.items():
        if isinstance(table, dict):
            plain += [f"[{name}]", *(f"{k} = {toml_value(v)}" for k, v in table.items())]
    return "\n".join(plain) + "\n"
