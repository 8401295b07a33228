"""One coordinator process for each home, and how another process finds it.

Example: `with alone(home): serve()`; elsewhere `pid_of(home)`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from presspool.common.errors import FolderError


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Hold a home for this process, whose number then stands in `coordinator.pid`.

    Raises:
        FolderError: another coordinator works here.
    """
    with (home / "coordinator.pid").open("a+b") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderError(
                "another coordinator works here", where=str(home), expected="one for each home",
                advice="presspool coordinator stop ends it",
            ) from None  # fmt: skip
        lock.truncate(0)
        lock.write(str(os.getpid()).encode())
        lock.flush()
        yield


def pid_of(home: Path) -> int | None:
    """The process number of the coordinator that works here, or None."""
    try:
        with (home / "coordinator.pid").open("r+b") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read())
    except (OSError, ValueError):
        pass
    return None
