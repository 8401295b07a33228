"""An update's body where it lies in the mailbox: read from anywhere, and never held whole.

Invariant: at most one chunk is kept, and no more than is asked for is read beside it.

Example:
    >>> body = StoredBody([3, 2], [b"abc", b"de"].__getitem__)
    >>> body.seek(2), body.read(2), body.tell(), body.read(9)
    (2, b'cd', 4, b'e')
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from presspool.common.base.errors import StorageError


class StoredBody:
    """A body in chunks, read like a file (`presspool.common.wire.flower.Stored`).

    Args:
        sizes: bytes of each chunk, by its number.
        chunk: a chunk by its number.
    """

    def __init__(self, sizes: Sequence[int], chunk: Callable[[int], bytes]) -> None:
        self._starts = [0, *accumulate(sizes)]
        self._chunk, self._at = chunk, 0
        self._held: tuple[int, bytes] = (-1, b"")

    def seek(self, at: int, /) -> int:
        """Go on from byte `at`."""
        self._at = at
        return at

    def tell(self) -> int:
        """The next byte's place."""
        return self._at

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; fewer only at the end.

        Raises:
            StorageError: the database has lost them.
        """
        parts, end = [], min(self._at + size, self._starts[-1])
        while self._at < end:
            number = bisect_right(self._starts, self._at) - 1
            start = self._starts[number]
            part = self._load(number)[self._at - start : end - start]
            if not part:
                raise StorageError("a part of an update is gone", where=f"chunk {number}")
            parts.append(part)
            self._at += len(part)
        return b"".join(parts)

    def _load(self, number: int) -> bytes:
        if self._held[0] != number:
            self._held = (number, self._chunk(number))
        return self._held[1]
