"""Reads an outlet's records and groups them by reader, column by column.

One file, in a format of `presspool.common.data.tables`, becomes one `Readers`: a table of records
as their task keeps them, and the offsets at which the next reader begins.

Invariants:
    * No record stays a Python object on its way from the columns of the file to `Readers`. Ids
      are forgotten; only who is asked to `choose` sees the different ones, once.
    * Each record is judged alone. A file that cannot be parted into records is nobody's.
    * Readers stand in the order of their first kept record, records in file order within a reader,
      whatever the size of the blocks read.
    * Every kept record has a reader id, no blank column, and values that its task knows, all UTF-8.
    * Nothing leaves this module but the records and, for the operator, what was dropped.

`strict=True` (before joining) refuses bad data in words. `strict=False` (an admitted run) drops bad
records one by one and never raises: whether a run goes on must not depend on one reader's data.

Example:
    >>> import os, tempfile
    >>> from pathlib import Path
    >>> from presspool.common.tasks.classification import Classification, ClassificationTable
    >>> task = Classification(ClassificationTable(labels=("news", "sport")))
    >>> rows = ["user,title,topic", "ann,Cup final,sport", "bob,Vote,news", "ann,Gold,sport"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "clicks.csv")
    ...     _ = path.write_text(os.linesep.join(rows))
    ...     columns = Columns(reader="user", text="title", label="topic")
    ...     readers = read_readers(path, columns=columns, task=task, strict=True)
    >>> readers.readers, readers.offsets.tolist(), readers.table["label"].to_pylist()
    (2, [0, 2, 3], [1, 1, 0])
    >>> readers.take(np.array([0, 1]))["text"].to_pylist()
    ['Cup final', 'Gold']
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from presspool.common.base.errors import DataError
from presspool.common.data.column_text import Column, Mask, as_mask, count_values
from presspool.common.data.csv_lines import RECORD_BYTES
from presspool.common.data.decoders import UNREADABLE, Tally
from presspool.common.data.judging import faults, judged
from presspool.common.data.records import Source
from presspool.common.data.table_refusals import (
    NOT_UTF8,
    quoted,
    refuse_undecodable,
    refused,
    require_columns,
    unknown,
)
from presspool.common.data.tables import Columns, batches, lists_in
from presspool.common.tasks.task import Task

NULL_READER = "null reader"
TOO_LONG = "value too long"
UNSOUND = (UNREADABLE, NOT_UTF8, TOO_LONG, NULL_READER)  # of any task's records
BROKEN_FILE = "file missing, empty or broken off"

MAX_LABELS = 1000  # more different values than this are free text

Part = tuple[pa.Array, pa.Table]  # reader (dictionary), the task's columns
Choose = Callable[[pa.Array], NDArray[np.bool_]]
"""From the different ids of readers, `large_string` (readers,), to which of them to keep."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Readers:
    """An outlet's records, those of one reader side by side.

    Attributes:
        table: a row a record, in the task's columns (`Task.parse`), one chunk each.
        offsets: int64, (readers + 1,); reader i has the records `offsets[i]:offsets[i + 1]`.
        dropped: records left out by reason, zeros omitted; for the operator's screen only.
        first: of each reason, the number in the file, from 1, of the first such record; likewise.
        lines: of each reason, the lines of the first of them, where the file has lines.
        unknown: column to the values there that the task does not know, and how often each is.

    Raises:
        DataError: the parts do not fit each other.
    """

    table: pa.Table
    offsets: NDArray[np.int64]
    dropped: Mapping[str, int] = field(default_factory=dict)
    first: Mapping[str, int] = field(default_factory=dict)
    lines: Mapping[str, Sequence[int]] = field(default_factory=dict)
    unknown: Mapping[str, Counter[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ends = self.offsets[[0, -1]].tolist() if len(self.offsets) else None
        if ends != [0, self.records]:
            got = f"{self.records} records, offsets {ends}"
            raise DataError("readers", expected="offsets from 0 to the number of records", got=got)
        if (np.diff(self.offsets) < 1).any():
            raise DataError("readers", expected="a record or more for every reader", got="none")
        view = self.offsets.view()  # frozen in depth: the array cannot be written either
        view.setflags(write=False)
        object.__setattr__(self, "offsets", view)

    @property
    def readers(self) -> int:
        """Number of readers."""
        return len(self.offsets) - 1

    @property
    def records(self) -> int:
        """Number of records of all readers together."""
        return int(self.table.num_rows)

    def take(self, indices: NDArray[np.int64]) -> pa.Table:
        """The records at `indices` (int64, any length), in that order."""
        return self.table.take(pa.array(indices, pa.int64()))


def nobody(task: Task[Any]) -> Readers:
    """No reader at all, whom an outlet trains on where it cannot use its data."""
    return _grouped([], task, Tally())


def read_readers(
    path: Source,
    *,
    columns: Columns,
    task: Task[Any],
    strict: bool,
    count_unknown: bool = False,
    choose: Choose | None = None,
) -> Readers:
    """Reads one file of records.

    Args:
        path: a file with one of the suffixes `tables.FORMATS`, or one of them and `.gz`; or other
            records.
        columns: how the file calls its columns; integers are read as their digits.
        task: says which columns a record has, and what may stand there.
        strict: whether bad data is refused (True) or dropped and counted (False).
        count_unknown: whether unknown values are counted all the same, as long as records are left.
        choose: which readers to keep; all, if not given. What it raises goes on to the caller.

    Returns:
        The readers, in order of their first record. With `strict=False` and a file that is missing,
        empty, unreadable or broken off: no readers.

    Raises:
        DataError: only if `strict`: the file is missing, empty, of another format or encoding;
            a column is missing; a reader id is null; a value is unknown; no reader is left.
    """
    names = {"reader": columns.reader, **columns.of(task.columns)}
    tally, strange = Tally(), {name: Counter[str]() for name in task.columns}
    parts: list[Part] = []
    try:
        if strict:
            require_columns(path, list(names.values()))
        for rows in batches(path, list(names.values()), tally, lists=lists_in(names)):
            parts.append(_kept(rows, task, tally, strange))
        if strict:
            left = sum(len(reader) for reader, _ in parts)
            refuse_unsound(path, names["reader"], tally)
            if not (count_unknown and left):
                _refuse_unknown(path, names, task, tally, strange)
            _require_some(path, task, left, tally)
    except Exception:  # DESIGN §3: data never stops an admitted run, whatever a decoder throws
        if strict:
            raise
        parts.clear()  # a part of a file is nobody's data set
        tally.dropped = Counter({BROKEN_FILE: 1})
    met = {name: values for name, values in strange.items() if values}
    return replace(_grouped(parts, task, tally, choose), unknown=met)


def distinct(path: Source, name: str) -> list[str]:
    """The different values of a column that is not free text, sorted by code point.

    Raises:
        DataError: as `read_readers` for the file and its columns; no value, or more than
            `MAX_LABELS` of them.
    """
    require_columns(path, [name])
    found: set[str] = set()
    for ((values, _),) in batches(path, (name,), Tally()):
        found.update(value for value in pc.unique(values).to_pylist() if value and value.strip())
        if len(found) > MAX_LABELS:
            raise DataError(
                f"column {name!r} does not look like labels",
                where=str(path),
                expected=f"at most {MAX_LABELS} different labels",
                got=f"more, such as {quoted(sorted(found)[:3])}",
                advice="map the column `label` to the one that holds the labels",
            )
    if not found:
        got = f"none in column {name!r}"
        raise DataError(
            "no labels",
            where=str(path),
            expected="a record or more with a label",
            got=got,
            advice="name the column of labels, and look whether the file has any record",
        )
    return sorted(found)


def blank(name: str) -> str:
    """The reason to leave out a record in which nothing stands in one of its task's columns."""
    return f"null or empty {name}"


def _kept(
    rows: tuple[Column, ...], task: Task[Any], tally: Tally, strange: Mapping[str, Counter[str]]
) -> Part:
    """The good records of a batch; the others are tallied, and their unknown values counted."""
    (reader, _), *others = rows
    columns = {name: values for name, (values, _) in zip(task.columns, others, strict=True)}
    keep = sound(rows, tally)

    def drop(reason: str, bad: Mask) -> Mask:
        nonlocal keep
        hit, keep = keep & bad, keep & ~bad
        tally.drop(reason, hit)
        return hit

    for name, column in columns.items():
        drop(blank(name), _blank(column))
    for reason, bad in faults(task.faults, columns):
        drop(reason, bad)
    parsed = judged(task.parse, columns)
    for name, column in parsed.items():
        hit = drop(unknown(name), as_mask(pc.is_null(column)))
        if len(strange[name]) < MAX_LABELS:
            strange[name].update(count_values(columns[name], hit))
    chosen = pa.array(keep)
    return reader.filter(chosen).dictionary_encode(), pa.table(dict(parsed)).filter(chosen)


def sound(rows: Sequence[Column], tally: Tally) -> Mask:
    """Which records of a batch can be read and are somebody's; the first column is the reader's.

    This is all that a record is judged by without a task. The others are tallied.
    """
    (reader, _), *_ = rows
    keep = np.ones(len(reader), dtype=np.bool_)
    for reason, bad in (
        (NOT_UTF8, np.logical_or.reduce([undecodable for _, undecodable in rows])),
        (TOO_LONG, np.logical_or.reduce([_long(values) for values, _ in rows])),
        (NULL_READER, _blank(reader)),
    ):
        tally.drop(reason, keep & bad)
        keep &= ~bad
    return keep


def _long(values: pa.Array) -> Mask:
    """Where a value has more bytes than a record may have, which only Parquet can hold."""
    return as_mask(pc.greater(pc.binary_length(values), RECORD_BYTES).fill_null(False))


def _blank(values: pa.Array) -> Mask:
    """Where a value is null, empty or white space only."""
    empty = pc.equal(values, pa.scalar("", pa.large_string()))
    return as_mask(pc.or_(empty, pc.utf8_is_space(values)).fill_null(True))


def _grouped(
    parts: list[Part],
    task: Task[Any],
    tally: Tally,
    choose: Choose | None = None,
) -> Readers:
    """Sorts records by their reader's first appearance, stably, and forgets the ids."""
    empty = pa.array([], pa.large_string())
    ids = pa.chunked_array(
        [reader for reader, _ in parts] or [empty.dictionary_encode()]
    ).unify_dictionaries()
    code = np.concatenate([chunk.indices.to_numpy() for chunk in ids.chunks])
    nothing = pa.table(dict(task.parse(dict.fromkeys(task.columns, empty))))
    table = pa.concat_tables([nothing, *(table for _, table in parts)]).combine_chunks()
    parts.clear()  # the only other hold on the unsorted parts
    order = np.argsort(code, kind="stable")
    if choose is not None:
        order = order[choose(ids.chunk(0).dictionary)[code[order]]]
    _, counts = np.unique(code[order], return_counts=True)
    return Readers(
        table=table.take(pa.array(order)),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        dropped={reason: count for reason, count in tally.dropped.items() if count},
        first=tally.first,
        lines=tally.lines,
    )


def _refuse_unknown(
    path: Source,
    names: Mapping[str, str],
    task: Task[Any],
    tally: Tally,
    strange: Mapping[str, Counter[str]],
) -> None:
    """Raises `DataError` for the first column in which the task did not know a value."""
    for name, values in strange.items():
        if unknown(name) in tally.dropped:
            raise refused(path, task, names, name, values, tally)


def refuse_unsound(path: Source, reader: str, tally: Tally) -> None:
    """Raises `DataError` if a record was met that is not `sound`.

    Args:
        path: the file.
        reader: its column of ids.
        tally: what was met.
    """
    refuse_undecodable(path, tally)
    if TOO_LONG in tally.dropped:
        raise DataError(
            TOO_LONG,
            where=str(path),
            got=tally.extent(TOO_LONG),
            expected=f"at most {RECORD_BYTES:,} bytes a value",
            advice="shorten these values, or leave the records out",
        )
    if NULL_READER in tally.dropped:
        raise DataError(
            NULL_READER,
            where=str(path),
            got=tally.extent(NULL_READER),
            expected=f"a reader id in column {reader!r} of every record",
            advice="fill the ids in, or leave these records out; the reader is who gets protected",
        )


def _require_some(path: Source, task: Task[Any], records: int, tally: Tally) -> None:
    if not records:
        left_out = ", ".join(f"{count} {reason}" for reason, count in tally.dropped.items())
        got = f"0 readers; of {tally.seen} records were left out: {left_out or 'none'}"
        *first, last = "reader", *task.columns
        expected = f"a record or more with {', '.join(first)} and {last}"
        raise DataError("no readers", where=str(path), expected=expected, got=got)
