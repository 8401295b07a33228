"""One process at a time at a place: a lock file that the system lets go of when its holder dies.

Example:
    >>> import tempfile
    >>> path, busy = Path(tempfile.mkdtemp()) / "lock", FolderError("another process works here")
    >>> with locked(path, busy=busy), locked(path, busy=busy):
    ...     pass
    Traceback (most recent call last):
    ...
    presspool.common.base.errors.FolderError: another process works here
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from presspool.common.base.errors import FolderError, StorageError


@contextmanager
def locked(path: Path, *, busy: FolderError) -> Iterator[BinaryIO]:
    """Hold a lock file, made where it is not there; it stays behind, unlocked.

    Args:
        path: the file.
        busy: what is raised where another process holds it.

    Yields:
        The file, open for reading and appending.

    Raises:
        FolderError: `busy`.
        StorageError: the disk refuses.
    """
    try:
        lock = path.open("a+b")
    except OSError as error:
        raise StorageError(
            "cannot write",
            where=str(path),
            got=error.strerror,
            advice="make room or fix the permissions",
        ) from None
    with lock:  # closing lets go
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        yield lock
