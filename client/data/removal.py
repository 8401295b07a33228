r"""One reader's records taken out of the outlet's file, all else left as it is.

CSV and JSON lines are copied byte by byte without the reader's records; a Parquet file is written
again row group by row group, value for value. The copy is read back by PressPool's own reader and
must hold every other record, in its order, and none of the reader's; only then it takes the file's
place, in one step. Where that cannot be, the file stays as it is and the reason is said.

Invariants:
    * The file is the old one or the whole new one, with the old one's mode and owner.
    * The copy is never readable by others than the file's owner while it is made.
    * A record that PressPool cannot read stays: it is nobody's, as far as can be told.

Example:
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "clicks.csv"
    >>> _ = path.write_text("reader,text,label\nann,Gold,sport\nbob,Vote,news\n")
    >>> remove(path, columns=Columns(), reader="ann").records, path.read_text().splitlines()[1:]
    (1, ['bob,Vote,news'])
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from presspool.common.base.errors import DataError
from presspool.common.base.files import move_over
from presspool.common.data import decoders, tables
from presspool.common.data.column_text import as_mask, strings
from presspool.common.data.csv_lines import RECORD_BYTES, csv_lines
from presspool.common.data.decoders import UNREADABLE, Moved, Tally
from presspool.common.data.tables import Columns

DRAFTS = ".presspool-erase"  # beside the file, so that the copy can take its place in one step


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What was done to a file.

    Attributes:
        records: of the reader in the file as it was; None where it cannot be read.
        removed: whether the file is without them now.
        obstacle: why it could not be rewritten, or "".
        unreadable: records that cannot be read; they stay.
    """

    records: int | None
    removed: bool
    obstacle: str = ""
    unreadable: int = 0


@dataclass(frozen=True, kw_only=True)
class _Content:
    """What PressPool's own reader makes of a file: the reader's records, and all else."""

    records: int
    others: int
    unreadable: int
    digest: str


def remove(
    path: Path,
    *,
    columns: Columns,
    reader: str,
    dry_run: bool = False,
    watch: Moved = lambda _done, _total: None,
) -> Removal:
    """Take a reader's records out of a file.

    Args:
        path: the outlet's data.
        columns: how its columns are called.
        reader: the id, as PressPool reads it (an integer as its digits).
        dry_run: count only.
        watch: called with the bytes done and their total.
    """
    path = path.resolve()
    try:
        names = columns.present(path)
        found = _content(path, names, reader)
    except (DataError, OSError) as error:
        return Removal(records=None, removed=False, obstacle=_said(error))
    if not found.records:
        return Removal(records=0, removed=True, unreadable=found.unreadable)
    obstacle = _obstacle(path)
    if not obstacle and not dry_run:
        try:
            _rewrite(path, names, reader, found, watch)
        except (DataError, OSError, ValueError, pa.ArrowException) as error:
            obstacle = _said(error)
    return Removal(
        records=found.records,
        removed=not obstacle and not dry_run,
        obstacle=obstacle,
        unreadable=found.unreadable,
    )


def _obstacle(path: Path) -> str:
    """Why a file is not ours to rewrite; root may do anything, but not what the mode forbids."""
    state = path.stat()
    if os.geteuid() not in (0, state.st_uid):
        return "the file belongs to another user"
    if not state.st_mode & 0o200:
        return "the file is read-only"
    if not os.access(path.parent, os.W_OK):
        return "its folder cannot be written"
    return ""


def _rewrite(
    path: Path, names: tuple[str, ...], reader: str, found: _Content, watch: Moved
) -> None:
    before = path.stat()
    with _drafts(path.parent) as folder:
        draft = folder / path.name
        _COPIES[decoders.file_format(path)[0]](path, draft, names[0], reader, watch)
        again = _content(draft, names, reader)
        expected = _Content(
            records=0, others=found.others, unreadable=found.unreadable, digest=found.digest
        )
        if again != expected:
            raise DataError("the other records would not have stayed as they are")
        os.chown(draft, before.st_uid, before.st_gid)
        draft.chmod(before.st_mode & 0o7777)
        now = path.stat()
        if (now.st_mtime_ns, now.st_size, now.st_ino) != (
            before.st_mtime_ns,
            before.st_size,
            before.st_ino,
        ):
            raise DataError("the file was changed meanwhile; try again")
        move_over(draft, path)


@contextmanager
def _drafts(parent: Path) -> Iterator[Path]:
    """A folder for the copy, readable by its owner alone; what a kill left there goes first."""
    folder = parent / DRAFTS
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- Copies, format by format --------------------------------------------------------------------


def _copy_csv(path: Path, draft: Path, column: str, reader: str, watch: Moved) -> None:
    with decoders.opened(path, watch) as source, _target(draft) as target:
        names: list[str] | None = None
        for _, raw, values in csv_lines(path, source):
            if names is None:
                names = values or None
            elif len(values) == len(names) and values[names.index(column)] == reader:
                continue
            target.write(raw)


def _copy_json(path: Path, draft: Path, column: str, reader: str, watch: Moved) -> None:
    with decoders.opened(path, watch) as source, _target(draft) as target:
        for line in source:
            if not _is_of(line, column, reader):
                target.write(line)


def _is_of(line: bytes, column: str, reader: str) -> bool:
    if len(line) > RECORD_BYTES:
        return False
    try:
        (found,) = decoders.json_record(line.removeprefix(b"\xef\xbb\xbf").strip(), (column,))
    except (ValueError, RecursionError):
        return False
    return found == reader.encode()


def _copy_parquet(path: Path, draft: Path, column: str, reader: str, watch: Moved) -> None:
    zipped = decoders.file_format(path)[1] is not None
    data = io.BytesIO(gzip.decompress(path.read_bytes())) if zipped else path
    out = io.BytesIO() if zipped else draft
    with pq.ParquetFile(data) as file:
        codec = file.metadata.row_group(0).column(0).compression
        with pq.ParquetWriter(
            out,
            file.schema_arrow,
            compression=_CODECS.get(codec, codec),
            write_page_checksum=True,
        ) as new:
            notes, known = file.metadata.metadata or {}, file.schema_arrow.metadata or {}
            own = {key: note for key, note in notes.items() if key not in {*known, _SCHEMA}}
            new.add_key_value_metadata(own)
            for number in range(file.num_row_groups):
                table = file.read_row_group(number)
                ids, _ = strings(table.column(column).combine_chunks())
                keep = pc.invert(pc.equal(ids, reader).fill_null(False))
                if len(rest := table.filter(keep)):
                    new.write_table(rest)
                watch(number + 1, file.num_row_groups)
    if isinstance(out, io.BytesIO):
        with _target(draft) as target:
            target.write(out.getvalue())


_CODECS = {"UNCOMPRESSED": "none"}
_SCHEMA = b"ARROW:schema"  # Arrow's own note, which it makes anew
_COPIES = {
    ".csv": _copy_csv,
    ".jsonl": _copy_json,
    ".ndjson": _copy_json,
    ".parquet": _copy_parquet,
}


@contextmanager
def _target(draft: Path) -> Iterator[BinaryIO]:
    with draft.open("wb") as plain:
        if decoders.file_format(draft)[1] is None:
            yield plain
        else:
            with gzip.GzipFile(fileobj=plain, mode="wb", mtime=0) as stream:
                yield cast(BinaryIO, stream)


# --- Reading back --------------------------------------------------------------------------------


def _content(path: Path, names: tuple[str, ...], reader: str) -> _Content:
    """What a file holds; the digest does not hang on the blocks that it is read in."""
    tally, records, others = Tally(), 0, 0
    hashes = [hashlib.sha256() for _ in range(2 * len(names))]
    for rows in tables.batches(path, names, tally, lists=names):
        ids, _ = rows[0]
        mine = as_mask(pc.equal(ids, reader).fill_null(False))
        rest = pa.array(~mine)
        records, others = records + int(mine.sum()), others + int((~mine).sum())
        for place, (values, undecodable) in enumerate(rows):
            data = pa.concat_arrays([values.filter(rest).cast(pa.large_binary())])
            lengths = pc.binary_length(data).fill_null(-1).to_numpy(zero_copy_only=False)
            hashes[2 * place].update(np.where(undecodable[~mine], -2, lengths).tobytes())
            hashes[2 * place + 1].update(b"".join(data.drop_null().to_pylist()))
    return _Content(
        records=records,
        others=others,
        unreadable=tally.dropped[UNREADABLE],
        digest="".join(each.hexdigest() for each in hashes),
    )


def _said(error: Exception) -> str:
    """In one line, without what a decoder may quote of the records."""
    if isinstance(error, DataError):
        return error.what
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"it cannot be parsed record by record ({type(error).__name__})"
