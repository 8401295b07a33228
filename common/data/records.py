"""Records that no file of `presspool.common.data.tables.FORMATS` holds: a database's, say.

Whoever reads a table takes a `Source`, so a query is judged, refused and frozen as a file is.

Invariant: `str` of a source names it to its operator, and tells nothing secret.

Example:
    >>> class One(Records):
    ...     def __str__(self): return "one record"
    ...     def column_names(self): return ["text"]
    ...     def batches(self, names): yield [pa.array(["Gold"]) for _ in names]
    >>> [column.to_pylist() for column in next(One().batches(["text"]))]
    [['Gold']]
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import pyarrow as pa

from presspool.common.data.remote_file import File


class Records(ABC):
    """Columns by name, and their values in batches."""

    @abstractmethod
    def __str__(self) -> str:
        """What messages call it."""

    @abstractmethod
    def column_names(self) -> list[str]:
        """Its columns, in order; raises `DataError` where it cannot be read."""

    @abstractmethod
    def batches(self, names: Sequence[str]) -> Iterator[Sequence[pa.Array]]:
        """The named columns, which are different ones, some thousand rows at a time."""


Source = File | Records
"""What a table is read from."""
