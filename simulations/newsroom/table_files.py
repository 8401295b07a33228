"""A table on disk, whole or not at all.

Example: `replace_table(Path("outlets/north-post.parquet"), table)`.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from presspool.common.base.files import replace_file


def replace_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file, or replace it as a whole.

    Raises:
        StorageError: the disk refuses; an earlier file is still there.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    replace_file(path, sink.getvalue().to_pybytes())
