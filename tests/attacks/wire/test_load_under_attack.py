"""Rounds of eight honest outlets while two strangers and three members attack (B.2, 3, 8, 10).

Turns with and without attack alternate. Nothing is asserted about times: the long form writes its
figures to the file that `PRESSPOOL_LOAD` names, which docs/performance.md quotes.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from tests.fakes.children import load_children
from tests.fakes.made_attacks import SPAWN, AttackedPool, asked, made_members

HONEST = [f"outlet-{number}" for number in range(8)]
SPOILER, LOUD = "tiny-arrays", ["says-nothing", "says-too-much"]
SPOIL = "spoil"
MEGABYTE = 1 << 20
STARTED = 3.0  # seconds, until the attacks are in full swing


@dataclass
class Load:
    """What rounds took: a list with and one without attack, of seconds and of bytes."""

    pool: AttackedPool
    told: Connection
    folder: Path
    number: int = 0
    seconds: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    peaks: list[int] = field(default_factory=list)
    before: int = 0  # the highest of the peaks before the first attack
    logged: float = 0.0
    attacked: float = 0.0

    def turn(self, rounds: int) -> None:
        """Some rounds, while whatever goes on goes on."""
        hostile = (self.folder / SPOIL).exists()
        for _ in range(rounds):
            self.number += 1
            self.told.send(self.number)
            seconds, good, peak = self.told.recv()
            assert good == len(HONEST) + (not hostile)
            self.seconds[hostile].append(seconds)
            self.peaks.append(peak)

    @contextmanager
    def attack(self) -> Iterator[None]:
        """Attacks that go on until the block ends; the log that they made is counted."""
        (self.folder / SPOIL).touch()
        self.before = self.before or max(self.peaks)
        before, began = self.pool.log_file.stat().st_size, time.monotonic()
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=load_children.hostile, args=(self.pool, theirs, LOUD))
        process.start()
        try:
            assert ours.recv() == "attacking"
            time.sleep(STARTED)
            yield
        finally:
            process.kill()  # it has no reason to end well, and under load no time
            process.join()
            (self.folder / SPOIL).unlink()
            self.attacked += time.monotonic() - began
            self.logged += self.pool.log_file.stat().st_size - before

    def figures(self) -> dict[str, float]:
        """What the issue asks for."""
        quiet, loud = (statistics.median(self.seconds[kind]) for kind in (False, True))
        return {
            "rounds without": len(self.seconds[False]),
            "rounds with": len(self.seconds[True]),
            "seconds without": quiet,
            "seconds with": loud,
            "time": loud / quiet,
            "memory before": self.before,
            "memory with": max(self.peaks),
            "memory": max(self.peaks) / self.before,
            "log bytes an hour": 3600 * self.logged / self.attacked,
        }


@contextmanager
def load(folder: Path, size: int) -> Iterator[Load]:
    """A coordinator and its honest outlets, at work."""
    home, members = made_members(folder, [*HONEST, SPOILER, *LOUD])
    pool = AttackedPool(home.path, members)
    ours, theirs = SPAWN.Pipe()
    names = [*HONEST, SPOILER]
    processes = [
        SPAWN.Process(
            target=load_children.rounds, args=(home.path, theirs, names, size), daemon=True
        ),
        SPAWN.Process(
            target=load_children.outlets, args=(folder, pool, names, SPOILER, SPOIL), daemon=True
        ),
    ]
    for process in processes:
        process.start()
    try:
        assert ours.recv() == "listening"
        yield Load(pool, ours, folder)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def test_honest_rounds_finish_and_limits_hold_under_attack(tmp_path: Path) -> None:
    with load(tmp_path, MEGABYTE // 4) as found:
        found.turn(2)
        with found.attack():
            found.turn(3)
        checked(found)


@pytest.mark.soak
def test_rounds_with_and_without_attack_are_measured(tmp_path: Path) -> None:
    with load(tmp_path, MEGABYTE) as found:
        found.turn(3)  # makes connections; not counted
        found.seconds[False].clear()
        for _ in range(int(os.environ.get("PRESSPOOL_LOAD_TURNS", "6"))):
            found.turn(8)
            with found.attack():
                found.turn(8)
            text = json.dumps(found.figures(), indent=2)
            if file := os.environ.get("PRESSPOOL_LOAD"):
                Path(file).write_text(text)
        print(text)
        checked(found)


def checked(found: Load) -> None:
    """What holds however slow the machine is."""
    rows, certificates, heads = (
        asked(found.pool, f"SELECT count(*) FROM {table}")[0]
        for table in ("refusals", "certificates", "ledger_heads")
    )
    members = len(HONEST) + 1 + len(LOUD)
    assert rows <= 20 * members
    assert certificates <= members + 3
    assert heads == 0
