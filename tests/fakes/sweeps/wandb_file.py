"""What an offline W&B run has on disk, read by its format and by none of W&B's own readers.

A file is a header of seven bytes, then LevelDB's log: blocks of 32 KiB with records that may go
over their ends, each piece behind seven bytes that say its checksum, length and part; a record is a
message of W&B's own schema.

Example: `[record for record in records(path) if record.HasField("history")]`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEAD, WHOLE, LAST = 32_768, 7, 1, 4


def records(path: Path) -> Iterator[Any]:
    """The records of a `.wandb` file."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), HEAD, b""
    assert data.startswith(b":W&B")
    while at < len(data):
        left = BLOCK - at % BLOCK
        if left < HEAD:
            at += left
            continue
        _, length, part = struct.unpack("<IHB", data[at : at + HEAD])
        whole += data[at + HEAD : at + HEAD + length]
        at += HEAD + length
        if part in (WHOLE, LAST):
            yield Record.FromString(whole)
            whole = b""
