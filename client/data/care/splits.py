"""Parts a file in two: what readers' data stays, and a held-out file that may be published.

By reader all records of one reader lie on one side, chosen by a hash of the id and a seed; by day
what happened from a day on is held out. The held-out file has no column of readers.

Invariants:
    * On which side a record lies depends on itself alone: its reader's id, or its day. A record
      without a day stays.
    * Each file is written whole or not at all, and nothing is written over.

Example:
    >>> part = by_reader(0.5, seed=0)
    >>> [bool(part(reader, "")) for reader in ("ann", "bob", "cat", "dan")]
    [False, True, False, True]
    >>> [by_day(date(2026, 6, 1))("ann", day) for day in ("2026-05-31", "2026-06-01", "")]
    [False, True, False]
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from presspool.client.data.care.import_care import day_of
from presspool.client.data.readers import sound
from presspool.common.base.errors import InputError
from presspool.common.base.files import new_file
from presspool.common.data.decoders import Moved, Tally
from presspool.common.data.table_refusals import column_names, require_columns
from presspool.common.data.tables import batches

HeldOut = Callable[[str, str], bool]
"""From a record's reader and day to whether it is held out."""


@dataclass(frozen=True, kw_only=True)
class Parted:
    """How many records went where; `dropped` could not be read or are nobody's."""

    kept: int
    held_out: int
    dropped: int


def by_reader(share: float, *, seed: int) -> HeldOut:
    """Hold out about this share of the readers, whole."""
    mark = f"presspool/split/{seed}/".encode()

    def held(reader: str, _day: str) -> bool:
        drawn = int.from_bytes(sha256(mark + reader.encode()).digest()[:8], "big")
        return drawn < share * 2**64

    return held


def by_day(first: date) -> HeldOut:
    """Hold out what happened on a day or after it."""
    return lambda _reader, day: day_of(day) >= first.isoformat()


def split(
    source: Path,
    *,
    kept: Path,
    held_out: Path,
    reader: str,
    day: str | None,
    part: HeldOut,
    watch: Moved = lambda _done, _total: None,
) -> Parted:
    """Part a file; both sides keep its columns, but for the reader's in what is held out.

    Args:
        source: a file with one of the suffixes `tables.FORMATS`.
        kept: a new .csv or .jsonl file, for its owner alone.
        held_out: likewise, without readers.
        reader: the column of reader ids.
        day: the column of days, if `part` looks at them.
        part: which records are held out.
        watch: told of the bytes that are read.

    Raises:
        DataError: the source cannot be read, or a column is not there.
        InputError: another suffix, or nothing on one of the sides.
        FolderError: a file is there already.
    """
    require_columns(source, [reader, *([day] if day else [])])
    names = [reader, *sorted(set(column_names(source)) - {reader})]
    tally, counts = Tally(), [0, 0]
    with ExitStack() as files:
        sides = [
            _Side(files.enter_context(_new(path, private=private)), path, heads)
            for path, private, heads in ((kept, True, names), (held_out, False, names[1:]))
        ]
        for rows in batches(source, names, tally, watch):
            good = sound(rows, tally)
            columns = [values.to_pylist() for values, _ in rows]
            days = columns[names.index(day)] if day else [""] * len(good)
            for place in good.nonzero()[0].tolist():
                values = [column[place] for column in columns]
                out = part(values[0], days[place] or "")
                sides[out].write(values[1:] if out else values)
                counts[out] += 1
        if not all(counts):
            raise InputError(
                "one side would be empty",
                where=str(source),
                expected="a record or more on each side",
                got=f"{counts[0]} kept, {counts[1]} held out",
                advice="choose another --share, --seed or --since",
            )
    return Parted(kept=counts[0], held_out=counts[1], dropped=sum(tally.dropped.values()))


class _Side:
    """A file that is written, row by row."""

    def __init__(self, stream: BinaryIO, path: Path, names: Sequence[str]) -> None:
        self._stream, self._names, self._csv = stream, names, path.suffix == ".csv"
        if self._csv:
            self.write(list(names))

    def write(self, values: Sequence[str | None]) -> None:
        if self._csv:
            line = io.StringIO(newline="")
            csv.writer(line, lineterminator="\n").writerow(["" if v is None else v for v in values])
            text = line.getvalue()
        else:
            text = (
                json.dumps(dict(zip(self._names, values, strict=True)), ensure_ascii=False) + "\n"
            )
        self._stream.write(text.encode())


def _new(path: Path, *, private: bool) -> AbstractContextManager[BinaryIO]:
    if path.suffix not in (".csv", ".jsonl"):
        raise InputError("a file to write", where=str(path), expected="a .csv or .jsonl file")
    return new_file(path, private=private)
