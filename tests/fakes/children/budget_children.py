"""A process that pays for rounds and hands out their bytes, and dies in the middle of it.

What it did outside the ledger is appended to files, one fsynced line a deed: `gradients` for each
private step taken, `wire` for the bytes that somebody else got.

Usage: python -m tests.fakes.children.budget_children LEDGER CONTRACT FOLDER LABEL OCCURRENCE
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path

from tests.fakes.made_outlets import policy_for

from presspool.client.consent.budget import Budget
from presspool.common.base.errors import GuardError
from presspool.common.contract.contract import Contract, read_canonical
from presspool.common.transparency.log_database import STEPS

LABELS = (*STEPS, "begun", "gradient", "trained", "bound", "sent")
ADAPTER = "sha256:" + "a" * 64


def work(path: Path, contract: Contract, folder: Path, label: str, occurrence: int) -> None:
    """Do every round that is still to do, until killed at a label's n-th occurrence."""
    seen = 0

    def step(name: str) -> None:
        nonlocal seen
        seen += name == label
        if seen == occurrence:
            os.kill(os.getpid(), signal.SIGKILL)

    with Budget.open(path, policy=policy_for(contract), step=step) as budget:
        for number in range(1, contract.federation.rounds + 1):
            try:
                with budget.round(contract, number=number, adapter=ADAPTER) as meter:
                    step("begun")
                    for count in range(meter.taken + 1, meter.last + 1):
                        meter.step(count)
                        note(folder / "gradients", f"{number} {count}")
                        step("gradient")
                    data = os.urandom(16)  # other noise each time
                    step("trained")
                    meter.bind(data)
                    step("bound")
                    note(folder / "wire", f"{number} sha256:{hashlib.sha256(data).hexdigest()}")
                    step("sent")
            except GuardError as error:
                if error.code not in ("round-released", "run-over"):
                    raise


def note(path: Path, line: str) -> None:
    """Append a line that survives a kill."""
    with path.open("a") as stream:
        stream.write(line + "\n")
        stream.flush()
        os.fsync(stream.fileno())


if __name__ == "__main__":
    where, file, out, at, times = sys.argv[1:]
    body = Path(file).read_bytes()
    read = read_canonical(body, digest="sha256:" + hashlib.sha256(body).hexdigest())
    work(Path(where), read, Path(out), at, int(times))
