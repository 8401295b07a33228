"""A full disk for a moment: the kernel itself refuses what is written beyond some bytes.

Example: `with full_disk(room=100): path.write_bytes(bytes(1000))` raises OSError.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def full_disk(*, room: int) -> Iterator[None]:
    """Let this process make no file larger than `room` bytes (Python ignores SIGXFSZ)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
