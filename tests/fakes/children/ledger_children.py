"""Processes that work on one ledger at the same time, and die in the middle of it.

Usage: python -m tests.fakes.children.ledger_children reserve PATH COUNT STEPS
       python -m tests.fakes.children.ledger_children work PATH LABEL OCCURRENCE
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.fakes.made_ledgers import DIGEST, JOB, RUN, identity

from presspool.common.base.errors import BudgetError
from presspool.common.ledger.store import Ledger


def reserve(path: Path, count: int, steps: int) -> None:
    """Try `count` reservations of `steps` steps each; print how many were admitted."""
    admitted = 0
    with Ledger(path) as ledger:
        for _ in range(count):
            try:
                ledger.reserve(
                    run=RUN,
                    unit="reader",
                    period="2026",
                    datasets=[identity(1)],
                    event=JOB.first(steps),
                    head=None,
                )
            except BudgetError:
                continue
            admitted += 1
    print(admitted)


def work(path: Path, label: str, occurrence: int) -> None:
    """Run short jobs, saying what was promised, until killed at a label's n-th occurrence."""
    seen = 0

    def step(name: str) -> None:
        nonlocal seen
        seen += name == label
        if seen == occurrence:
            os.kill(os.getpid(), signal.SIGKILL)

    with Ledger(path, step=step) as ledger:
        while True:
            held = ledger.reserve(
                run=RUN,
                unit="reader",
                period="2026",
                datasets=[identity(1)],
                event=JOB.first(2),
                head=None,
            )
            print("reserve", held.reservation, flush=True)
            ledger.intend(held.reservation, round_number=0, steps=1, digest=DIGEST)
            print("intend", held.reservation, flush=True)
            ledger.give_back(held.reservation, kept=1)
            print("give-back", held.reservation, flush=True)
            ledger.settle(held.reservation)
            print("settle", held.reservation, flush=True)


if __name__ == "__main__":
    action, where, *rest = sys.argv[1:]
    if action == "reserve":
        reserve(Path(where), int(rest[0]), int(rest[1]))
    else:
        work(Path(where), rest[0], int(rest[1]))
