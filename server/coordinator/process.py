"""One coordinator process for each home, and how another process finds it.

Example: `with alone(home): serve()`; elsewhere `pid_of(home)`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from presspool.common.base.errors import FolderError, StorageError
from presspool.common.base.locks import locked


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Hold a home for this process, whose number then stands in `coordinator.pid`.

    Raises:
        FolderError: another coordinator works here.
    """
    with locked(_file(home), busy=_busy(home)) as lock:
        lock.truncate(0)
        lock.write(str(os.getpid()).encode())
        lock.flush()
        yield


def pid_of(home: Path) -> int | None:
    """The process number of the coordinator that works here, or None."""
    if not _file(home).exists():  # looking leaves nothing behind
        return None
    try:
        with locked(_file(home), busy=_busy(home)):
            return None
    except StorageError:
        return None
    except FolderError:
        try:
            return int(_file(home).read_bytes())
        except (OSError, ValueError):  # it is just starting, or just gone
            return None


def _file(home: Path) -> Path:
    return home / "coordinator.pid"


def _busy(home: Path) -> FolderError:
    return FolderError(
        "another coordinator works here",
        where=str(home),
        expected="one for each home",
        advice="presspool coordinator stop ends it",
    )
