"""Faults that stop nothing by design, shown to the operator while the agent works.

Data never stops an admitted run, so an outlet whose snapshot is gone goes on with pure noise, and
pays for it. Nobody outside may notice; the person at the outlet's own screen has to.

Invariants:
    * What is found goes to the function that is given, and nowhere else; it is no file, no message,
      and in the way of no task: it is looked for in a thread of its own, at a fixed beat.
    * A fault is said when it appears, or changes, and once more when it is gone.

Example: `with FaultWatch(home, show): working.run()`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from presspool.client.agent import doctor

LOOK_SECONDS = 30.0
_JOIN_SECONDS = 5.0


class FaultWatch:
    """Looks at what a working agent does not stop for.

    Args:
        home: the outlet's folder.
        show: told each line; from another thread.
        every: seconds between two looks.
    """

    def __init__(
        self, home: Path, show: Callable[[str], None], *, every: float = LOOK_SECONDS
    ) -> None:
        self._home, self._show, self._every = home, show, every
        self._faults = dict[str, str]()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="faults", daemon=True)

    def __enter__(self) -> Self:
        self._look()  # before the first task
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
            self._look()

    def _look(self) -> None:
        found = {
            each.check: f"{each.found}; to do: {each.advice or doctor.COMMAND}"
            for each in doctor.unstopping(self._home)
            if each.state == doctor.FAULT
        }
        for check in self._faults.keys() - found.keys():
            self._show(f"{check}: mended")
        for check, line in found.items():
            if self._faults.get(check) != line:
                self._show(f"FAULT, and the agent goes on: {check}: {line}")
        self._faults = found
