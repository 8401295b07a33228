"""Reads named columns of a table file in a stream, and says in words what is wrong with the file.

A table is a CSV, JSON lines or Parquet file, each also gzipped. `batches` yields its columns some
thousand rows at a time, as text; `read_table` and `read_records` read a whole file strictly.

Invariants:
    * The file is decoded in a stream, needed columns only; records of a text are Python objects
      for the time of their batch.
    * A value that is not UTF-8 is null in its column and set in that column's mask; a record whose
      columns cannot be told apart is left out and tallied. Neither moves the records around it.
    * All formats give the same text for the same table, whatever the size of the blocks read:
      integers as their digits, and nothing ever taken for a date.
    * Every fault of the file itself is a `DataError`.

CSV is the weak format here: a quote that is left open refuses the file. It also knows no nulls: an
empty cell is an empty text. Prefer Parquet.

Example:
    >>> import os, tempfile
    >>> rows = ["id,title", "1,Vote", "2,Gold"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "held_out.csv")
    ...     _ = path.write_text(os.linesep.join(rows))
    ...     read_table(path, {"text": "title"}).to_pydict()
    {'text': ['Vote', 'Gold']}
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from presspool.common.base.errors import DataError, InputError
from presspool.common.base.toml_values import toml_value
from presspool.common.contract.doors import TASKS
from presspool.common.data import decoders
from presspool.common.data.column_text import Column, as_mask, count_values, strings
from presspool.common.data.decoders import Moved, Tally
from presspool.common.data.judging import faults
from presspool.common.data.records import Records, Source
from presspool.common.data.remote_file import File
from presspool.common.data.table_refusals import (
    BROKEN,
    NOT_UTF8,
    broken,
    column_names,
    null_in,
    quoted,
    refuse_faults,
    refuse_nulls,
    refuse_undecodable,
    refused,
    require_columns,
    unknown,
)

if TYPE_CHECKING:
    from presspool.common.tasks.task import Task


class Mapped(BaseModel):
    """Which of a user's file's columns holds what; a column that is not mapped has its own name.

    Attributes:
        text: column of texts.
        label: column of labels. Other columns of tasks are extra keys.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, str] = Field(init=False)

    text: str = "text"
    label: str = "label"

    def of(self, names: Sequence[str]) -> dict[str, str]:
        """Each of a task's columns, and the file's column that holds it."""
        said = dict(self)
        return {name: said.get(name, name) for name in names}

    def found(self, path: Source, names: Sequence[str]) -> list[str]:
        """Those of a task's columns that a file has.

        Raises:
            DataError: the file is missing or unreadable.
        """
        there = column_names(path)
        return [name for name, column in self.of(names).items() if column in there]

    @model_validator(mode="before")
    @classmethod
    def _known(cls, body: Any) -> Any:
        """Refuses what is no task's column, as pydantic refuses an unknown key."""
        extra = set(body) - set(cls.model_fields) if isinstance(body, Mapping) else set()
        known = {column for kind in TASKS.names for column in TASKS[kind].columns} if extra else ()
        if unknown := sorted(extra.difference(known)):
            name = unknown[0]
            raise ValidationError.from_exception_data(
                cls.__name__, [{"type": "extra_forbidden", "loc": (name,), "input": body[name]}]
            )
        return body


def refuse_flat_columns(table: Mapping[str, Any], *, where: str, fault: type[InputError]) -> None:
    """Columns have one shape, `columns = { … }` beside `data`; raise a `fault` for any other.

    Example:
        >>> try:
        ...     refuse_flat_columns({"text": "title"}, where="x.toml [evaluation]", fault=DataError)
        ... except DataError as error:
        ...     error.advice
        'write: columns = { text = "title" }'
    """
    known = {"reader", *(column for kind in TASKS.names for column in TASKS[kind].columns)}
    if flat := {key: value for key, value in table.items() if key in known}:
        there = table.get("columns")
        whole = {**(there if isinstance(there, Mapping) else {}), **flat}
        line = ", ".join(f"{key} = {toml_value(str(name))}" for key, name in whole.items())
        raise fault(
            "how columns are called stands in a table of its own",
            where=where,
            got=", ".join(flat),
            advice=f"write: columns = {{ {line} }}",
        )


class Columns(Mapped):
    """The `[columns]` table of a user's file: also where the reader stands.

    Attributes:
        reader: column of reader ids.
    """

    reader: str = "reader"

    def present(self, path: Path) -> tuple[str, ...]:
        """The file's columns of reader, which must be there, and of anything else that is mapped.

        Raises:
            DataError: the file is missing or unreadable; the reader's column is not there.
        """
        require_columns(path, [self.reader])
        there = column_names(path)
        others = {name for key, name in self if key != "reader" and there.count(name) == 1}
        return self.reader, *sorted(others - {self.reader})

    @model_validator(mode="after")
    def _different(self) -> Self:
        names = self.reader, self.text, self.label
        if not all(dict(self).values()) or len(set(names)) < len(names):
            raise ValueError(
                "column mapping: give three different, non-empty names for reader, text and "
                f"label, not {quoted(names)}"
            )
        return self


def read_table(path: File, names: Mapping[str, str]) -> pa.Table:
    """Reads some columns of a file strictly.

    Args:
        path: a file with one of the suffixes `FORMATS`, or one of them and `.gz`.
        names: column of the result to column of the file; several may be the same of the file's.

    Returns:
        A table with the columns `names`, `large_string` without nulls, one chunk each.

    Raises:
        DataError: the file is missing, empty, broken or of another format or encoding; a column is
            missing or holds a null; there is no record.
    """
    wanted = tuple(dict.fromkeys(names.values()))
    require_columns(path, wanted)
    tally, parts = Tally(), []
    for batch in batches(path, wanted, tally, lists=lists_in(names)):
        tally.drop(NOT_UTF8, np.logical_or.reduce([undecodable for _, undecodable in batch]))
        for name, (values, undecodable) in zip(wanted, batch, strict=True):
            tally.drop(null_in(name), as_mask(pc.is_null(values)) & ~undecodable)
        parts.append(pa.table([values for values, _ in batch], names=wanted))
    refuse_undecodable(path, tally)
    refuse_nulls(path, wanted, tally)
    if not tally.seen:
        raise DataError(
            "no records",
            where=str(path),
            expected="one record or more",
            got="none",
            advice="check that the file was written to its end",
        )
    table = pa.concat_tables(parts).combine_chunks()
    return pa.table({key: table[name] for key, name in names.items()})


def read_records(path: File, task: Task[Any], columns: Mapped) -> pa.Table:
    """Reads a public held-out file strictly.

    Args:
        path: the file, as for `read_table`.
        task: says which columns a record has.
        columns: how the file calls them.

    Returns:
        The task's columns as its `parse` leaves them, in the file's order.

    Raises:
        DataError: as `read_table`; a value is none that the task knows, or a record is none that
            it can use.
    """
    names = columns.of(task.columns)
    table = read_table(path, names)
    rows = {name: table[name].combine_chunks() for name in names}
    tally = Tally()
    for reason, bad in faults(task.faults, rows):
        tally.drop(reason, bad)
    tally.seen = len(table)
    refuse_faults(path, list(tally.dropped), tally)
    parsed = task.parse(rows)
    for name, values in parsed.items():
        tally, bad = Tally(), as_mask(pc.is_null(values))
        tally.drop(unknown(name), bad)
        if tally.dropped:
            tally.seen = len(bad)
            raise refused(path, task, names, name, count_values(rows[name], bad), tally)
    return pa.table(dict(parsed))


def batches(
    path: Source,
    names: Sequence[str],
    tally: Tally,
    watch: Moved = lambda _done, _total: None,
    stream: BinaryIO | None = None,
    *,
    lists: Collection[str] = (),
) -> Iterator[tuple[Column, ...]]:
    """The named columns, some thousand rows at a time.

    Args:
        path: the file, or other records. A gzipped Parquet file is decompressed in memory, since
            its index stands at its end.
        names: different columns of the file.
        tally: gets the unreadable records, and in `seen` the number of records before each batch.
        watch: told of the bytes that are read.
        stream: what is read instead of the file, whose name alone counts then.
        lists: those of `names` that may hold lists, which come as JSON; see `lists_in`.

    Yields:
        For each name its values, `large_string` (rows,), and the mask, (rows,), of those that are
        not UTF-8 (null among the values).

    Raises:
        DataError: the file is missing, empty, of another format, breaks off, or cannot be parted
            into records that are judged alone.
    """
    try:
        for columns in _columns(path, names, tally, watch, stream, lists):
            yield tuple(
                strings(column, lists=name in lists)
                for name, column in zip(names, columns, strict=True)
            )
            tally.seen += len(columns[0])
    except BROKEN as error:
        raise broken(path, error) from error


def lists_in(names: Mapping[str, str]) -> set[str]:
    """The columns of a file that may hold lists.

    Args:
        names: column of a task, or of the reader, to column of the file.
    """
    known = {column for kind in TASKS.names for column in TASKS[kind].lists}
    return {column for name, column in names.items() if name in known}


def _columns(
    path: Source,
    names: Sequence[str],
    tally: Tally,
    watch: Moved,
    stream: BinaryIO | None,
    lists: Collection[str],
) -> Iterator[Sequence[pa.Array]]:
    if isinstance(path, Records):
        yield from path.batches(names)
        return
    with nullcontext(stream) if stream else decoders.opened(path, watch) as found:
        yield from decoders.batches(path, found, names, tally, lists)
