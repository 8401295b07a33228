"""One digest of a table's rows, whichever batches they come in and whichever file they are in.

Invariant: two tables have the same digest only if they have the same columns, rows and order.

Example:
    >>> whole, parts = RowsDigest(["text"]), RowsDigest(["text"])
    >>> whole.add([pa.array(["Gold", None, ""])])
    >>> parts.add([pa.array(["Gold"])]), parts.add([pa.array([None, ""])])
    (None, None)
    >>> whole.value == parts.value
    True
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


class RowsDigest:
    """SHA-256 of rows of text, whatever the batches that they come in.

    Of each column the lengths of its values in bytes (int64, little-endian; -1 for null) and the
    values themselves are hashed in streams of their own.

    Args:
        names: the columns.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._parts = {name: (hashlib.sha256(), hashlib.sha256()) for name in names}

    def add(self, columns: Sequence[pa.Array]) -> None:
        """Hash more rows: for each name its values, (rows,)."""
        for (lengths, values), column in zip(self._parts.values(), columns, strict=True):
            text = column.cast(pa.large_string())
            sizes = pc.fill_null(pc.binary_length(text), -1).to_numpy(zero_copy_only=False)
            lengths.update(sizes.astype("<i8").tobytes())
            plain = pc.fill_null(text, "")
            if len(plain):
                _, offsets, data = plain.buffers()
                ends = np.frombuffer(offsets, "<i8")[plain.offset :][: len(plain) + 1]
                values.update(memoryview(data or b"")[ends[0] : ends[-1]])

    @property
    def value(self) -> str:
        """The digest so far."""
        told = {name: [part.hexdigest() for part in parts] for name, parts in self._parts.items()}
        return "sha256:" + hashlib.sha256(json.dumps(told).encode()).hexdigest()


def digest_of(file: Path) -> str:
    """Of all columns of a Parquet file of text."""
    read = pq.ParquetFile(file)
    found = RowsDigest(read.schema_arrow.names)
    for batch in read.iter_batches():
        found.add(batch.columns)
    return found.value
