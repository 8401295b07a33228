"""A table on disk, whole or not at all.

Example: `replace_table(Path("outlets/north-post.parquet"), table)`.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from presspool.common.base.files import replacing


def replace_table(path: Path, table: pa.Table, *, private: bool = False) -> None:
    """Write a Parquet file, or replace it as a whole.

    Args:
        path: the file.
        table: its rows.
        private: they are of readers: let nobody but its owner read it.

    Raises:
        StorageError: the disk refuses; an earlier file is still there.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    with replacing(path, private=private) as stream:
        stream.write(sink.getvalue().to_pybytes())
