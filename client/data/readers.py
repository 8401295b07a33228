"""Reads an outlet's records and groups them by reader, column by column.

One file, in a format of `presspool.common.data.tables`, becomes one `Readers`: all texts in one
Arrow array, all labels in one numpy array, and the offsets at which the next reader begins.

Invariants:
    * No record becomes a Python object on its way from the columns of the file to `Readers`. Ids
      are forgotten; only who is asked to `choose` sees the different ones, once.
    * Readers stand in the order of their first kept record, records in file order within a reader,
      whatever the size of the blocks read.
    * Every kept record has a reader id, a text that is not blank, and a known label, all UTF-8.
    * Nothing leaves this module but the records and, for the operator, counts of what was dropped.

`strict=True` (before joining) refuses bad data in words. `strict=False` (an admitted run) drops bad
records one by one and never raises: whether a run goes on must not depend on one reader's data.

Example:
    >>> import os, tempfile
    >>> rows = ["user,title,topic", "ann,Cup final,sport", "bob,Vote,news", "ann,Gold,sport"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "clicks.csv")
    ...     _ = path.write_text(os.linesep.join(rows))
    ...     columns = Columns(reader="user", text="title", label="topic")
    ...     readers = read_readers(path, columns=columns, labels=["news", "sport"], strict=True)
    >>> readers.readers, readers.offsets.tolist(), readers.label.tolist()
    (2, [0, 2, 3], [1, 1, 0])
    >>> readers.texts(np.array([0, 1]))
    ['Cup final', 'Gold']
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from presspool.common.base.errors import DataError, InputError
from presspool.common.data.decoders import Tally
from presspool.common.data.tables import (
    NOT_UTF8,
    UNKNOWN_LABEL,
    Column,
    Columns,
    Mask,
    as_mask,
    batches,
    count_values,
    quoted,
    refuse_undecodable,
    require_columns,
    unknown_label,
)

NULL_READER = "null reader"
NULL_TEXT = "null or empty text"
NULL_LABEL = "null label"
BROKEN_FILE = "file missing, empty or broken off"

MAX_LABELS = 1000  # more different labels than this are free text

Part = tuple[pa.Array, pa.Array, pa.Array]  # reader (dictionary), text, label's index
Choose = Callable[[pa.Array], NDArray[np.bool_]]
"""From the different ids of readers, `large_string` (readers,), to which of them to keep."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Readers:
    """An outlet's records, those of one reader side by side.

    Attributes:
        text: `large_string` array, (records,).
        label: int64, (records,); index into the labels asked for.
        offsets: int64, (readers + 1,); reader i has the records `offsets[i]:offsets[i + 1]`.
        dropped: records left out by reason, zeros omitted; for the operator's screen only.

    Raises:
        DataError: the parts do not fit each other.
    """

    text: pa.Array
    label: NDArray[np.int64]
    offsets: NDArray[np.int64]
    dropped: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ends = self.offsets[[0, -1]].tolist() if len(self.offsets) else None
        if len(self.text) != len(self.label) or ends != [0, len(self.label)]:
            expected = "as many labels as texts, and offsets from 0 to their number"
            got = f"{len(self.text)} texts, {len(self.label)} labels, offsets {ends}"
            raise DataError("readers", expected=expected, got=got)
        if (np.diff(self.offsets) < 1).any():
            raise DataError("readers", expected="a record or more for every reader", got="none")
        for name in ("label", "offsets"):  # frozen in depth: the arrays cannot be written either
            view = getattr(self, name).view()
            view.setflags(write=False)
            object.__setattr__(self, name, view)

    @property
    def readers(self) -> int:
        """Number of readers."""
        return len(self.offsets) - 1

    @property
    def records(self) -> int:
        """Number of records of all readers together."""
        return len(self.label)

    def texts(self, indices: NDArray[np.int64]) -> list[str]:
        """The texts at `indices` (int64, any length), in that order, as Python strings."""
        chosen: list[str] = self.text.take(pa.array(indices, pa.int64())).to_pylist()
        return chosen


def nobody() -> Readers:
    """No reader at all, whom an outlet trains on where it cannot use its data."""
    return _grouped([], {})


def read_readers(
    path: Path,
    *,
    columns: Columns,
    labels: Sequence[str],
    strict: bool,
    choose: Choose | None = None,
) -> Readers:
    """Reads one file of records.

    Args:
        path: a file with one of the suffixes `tables.FORMATS`, or one of them and `.gz`.
        columns: the names of the three columns; integer ids and labels are read as their digits.
        labels: the known labels; a record's label becomes its index here.
        strict: whether bad data is refused (True) or dropped and counted (False).
        choose: which readers to keep; all, if not given. What it raises goes on to the caller.

    Returns:
        The readers, in order of their first record. With `strict=False` and a file that is missing,
        empty or unreadable: no readers; if it breaks off, the records before the break.

    Raises:
        InputError: `labels` is empty or repeats itself.
        DataError: only if `strict`: the file is missing, empty, of another format or encoding;
            a column is missing; a reader id is null; a label is unknown; no reader is left.
    """
    if not labels or len(set(labels)) < len(labels) or not all(labels):
        raise InputError("labels", expected="different, non-empty labels", got=list(labels))
    tally, unknown = Tally(), Counter[str]()
    parts: list[Part] = []
    try:
        if strict:
            require_columns(path, columns.names)
        for rows in batches(path, columns.names, tally):
            parts.append(_kept(rows, labels, tally, unknown))
        if strict:
            _refuse(path, columns, labels, tally, unknown)
            _require_some(path, sum(len(index) for _, _, index in parts), tally)
    except Exception:  # DESIGN §3: data never stops an admitted run, whatever a decoder throws
        if strict:
            raise
        tally.dropped[BROKEN_FILE] += 1
    return _grouped(parts, tally.dropped, choose)


def read_labels(path: Path, *, columns: Columns) -> list[str]:
    """The different labels that occur in a file, sorted by code point.

    Raises:
        DataError: as `read_readers` for the file and its columns; no label, or more than
            `MAX_LABELS` of them.
    """
    require_columns(path, columns.names)
    found: set[str] = set()
    for ((values, _),) in batches(path, (columns.label,), Tally()):
        found.update(value for value in pc.unique(values).to_pylist() if value and value.strip())
        if len(found) > MAX_LABELS:
            raise DataError(
                f"column {columns.label!r} does not look like labels",
                where=str(path),
                expected=f"at most {MAX_LABELS} different labels",
                got=f"more, such as {quoted(sorted(found)[:3])}",
                advice="map the column `label` to the one that holds the labels",
            )
    if not found:
        got = f"none in column {columns.label!r}"
        raise DataError("no labels", where=str(path), expected="labels", got=got)
    return sorted(found)


def _kept(
    rows: tuple[Column, ...], labels: Sequence[str], tally: Tally, unknown: Counter[str]
) -> Part:
    """The good records of a batch; the others are tallied, and their unknown labels counted."""
    (reader, text, label), undecodable = zip(*rows, strict=True)
    index = pc.index_in(label, value_set=pa.array(labels, pa.large_string()))
    keep = np.ones(len(reader), dtype=np.bool_)
    for reason, bad in [
        (NOT_UTF8, np.logical_or.reduce(undecodable)),
        (NULL_READER, _blank(reader)),
        (NULL_TEXT, _blank(text)),
        (NULL_LABEL, _blank(label)),
        (UNKNOWN_LABEL, as_mask(pc.is_null(index))),
    ]:
        hit = keep & bad
        keep &= ~bad
        tally.drop(reason, hit)
        if reason == UNKNOWN_LABEL and len(unknown) < MAX_LABELS:
            unknown.update(count_values(label, hit))
    chosen = pa.array(keep)
    return reader.filter(chosen).dictionary_encode(), text.filter(chosen), index.filter(chosen)


def _blank(values: pa.Array) -> Mask:
    """Where a value is null, empty or white space only."""
    empty = pc.equal(values, pa.scalar("", pa.large_string()))
    return as_mask(pc.or_(empty, pc.utf8_is_space(values)).fill_null(True))


def _grouped(
    parts: list[Part], dropped: Mapping[str, int], choose: Choose | None = None
) -> Readers:
    """Sorts records by their reader's first appearance, stably, and forgets the ids."""
    empty = pa.array([], pa.large_string())
    ids = pa.chunked_array(
        [reader for reader, _, _ in parts] or [empty.dictionary_encode()]
    ).unify_dictionaries()
    code = np.concatenate([chunk.indices.to_numpy() for chunk in ids.chunks])
    label = np.concatenate([np.empty(0, np.int64), *(index.to_numpy() for _, _, index in parts)])
    text = pa.concat_arrays([empty, *(text for _, text, _ in parts)])
    parts.clear()  # the only other hold on the unsorted parts
    order = np.argsort(code, kind="stable")
    if choose is not None:
        order = order[choose(ids.chunk(0).dictionary)[code[order]]]
    _, counts = np.unique(code[order], return_counts=True)
    return Readers(
        text=text.take(pa.array(order)),
        label=label[order].astype(np.int64),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        dropped={reason: count for reason, count in dropped.items() if count},
    )


def _refuse(
    path: Path, columns: Columns, labels: Sequence[str], tally: Tally, unknown: Counter[str]
) -> None:
    """Raises `DataError` for the worst kind of bad record that was met."""
    refuse_undecodable(path, tally)
    if NULL_READER in tally.dropped:
        raise DataError(
            NULL_READER,
            where=str(path),
            got=tally.extent(NULL_READER),
            expected=f"a reader id in column {columns.reader!r} of every record",
            advice="fill the ids in, or leave these records out; the reader is who gets protected",
        )
    if UNKNOWN_LABEL in tally.dropped:
        raise unknown_label(path, columns.label, labels, unknown, tally)


def _require_some(path: Path, records: int, tally: Tally) -> None:
    if not records:
        left_out = ", ".join(f"{count} {reason}" for reason, count in tally.dropped.items())
        got = f"0 readers; of {tally.seen} records were left out: {left_out or 'none'}"
        expected = "a record or more with reader, text and label"
        raise DataError("no readers", where=str(path), expected=expected, got=got)
