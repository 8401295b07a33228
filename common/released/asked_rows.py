"""The rows of a file, or of standard input, that an adapter is asked about.

A file is read twice: first all of it is judged, so that what cannot be answered is refused by its
row before anything is computed; then it is answered, some rows at a time. Standard input is read
once, and a batch is judged before it is answered.

Invariant: no row is left out; memory is bounded by a batch.

Example: `AskedRows.of("news.csv", task, columns=["title"], stdin_format="jsonl").batches()`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc

from presspool.common.base.errors import InputError
from presspool.common.data import tables
from presspool.common.data.column_text import Column, as_mask, strings
from presspool.common.data.decoders import Tally
from presspool.common.data.judging import faults
from presspool.common.data.table_refusals import (
    NOT_UTF8,
    null_in,
    refuse_faults,
    refuse_nulls,
    refuse_undecodable,
    require_columns,
)
from presspool.common.tasks.task import Task

AT_ONCE = 128
STDIN = "-"
StdinFormat = Literal["jsonl", "csv", "lines"]


@dataclass(frozen=True, kw_only=True)
class AskedRows:
    """Where rows come from.

    Attributes:
        path: the file; its name alone says its format.
        stdin: standard input instead of the file.
        task: whose `inputs` are read.
        names: each of them, and the column that holds it.
        rows: in the file; None of standard input, whose end nobody knows.
    """

    path: Path
    task: Task[Any]
    names: dict[str, str]
    stdin: BinaryIO | None = None
    rows: int | None = None

    @classmethod
    def of(
        cls, file: str, task: Task[Any], *, columns: Sequence[str], stdin_format: StdinFormat
    ) -> Self:
        """The rows of a file, every one of which was judged; or of standard input, for `-`.

        Args:
            file: its path.
            task: the adapter's.
            columns: what the file calls inputs: "NAME=COLUMN", or the first one's column alone.
            stdin_format: what standard input holds.

        Raises:
            DataError: as `tables.read_table`; a row that cannot be answered, by its number.
        """
        names = _named(task.inputs, columns)
        if file == STDIN:
            path = Path(f"standard input.{stdin_format}")
            return cls(path=path, task=task, names=names, stdin=sys.stdin.buffer)
        path, tally = Path(file), Tally()
        for name, column in names.items():
            require_columns(path, [column], advice=f"say which it is: --column {name}=COLUMN")
        found = cls(path=path, task=task, names=names)
        for batch in found._read(tally):
            found._judge(batch, tally)
        found._refuse(tally)
        if not tally.seen:
            raise InputError("no rows", where=file, expected="one row or more", got="none")
        return cls(path=path, task=task, names=names, rows=tally.seen)

    def batches(self) -> Iterator[pa.Table]:
        """The rows in order, at most `AT_ONCE` together, with the columns `task.inputs`.

        Raises:
            DataError: a row of standard input that cannot be answered; those of the batches before
                were.
        """
        tally = Tally()
        for batch in self._read(tally):
            whole = self._judge(batch, tally)
            if tally.dropped:
                tally.seen += len(whole)
                self._refuse(tally)
            for start in range(0, len(whole), AT_ONCE):
                yield whole[start : start + AT_ONCE]

    def _read(self, tally: Tally) -> Iterator[tuple[Column, ...]]:
        if self.stdin is None or self.path.suffix != ".lines":
            wanted, lists = list(self.names.values()), tables.lists_in(self.names)
            yield from tables.batches(self.path, wanted, tally, stream=self.stdin, lists=lists)
            return
        while lines := [line.rstrip(b"\r\n") for line in islice(self.stdin, AT_ONCE)]:
            yield (strings(pa.array(lines, pa.large_binary())),)
            tally.seen += len(lines)

    def _judge(self, batch: tuple[Column, ...], tally: Tally) -> pa.Table:
        """The batch as a table; what cannot be answered in it is tallied."""
        rows = dict[str, pa.Array]()
        for (name, column), (values, undecodable) in zip(self.names.items(), batch, strict=True):
            tally.drop(NOT_UTF8, undecodable)
            tally.drop(null_in(column), as_mask(pc.is_null(values)) & ~undecodable)
            rows[name] = pc.fill_null(values, "text")
        for reason, bad in faults(self.task.unanswerable, rows):
            tally.drop(reason, bad)
        return pa.table(rows)

    def _refuse(self, tally: Tally) -> None:
        refuse_undecodable(self.path, tally)
        refuse_nulls(self.path, list(self.names.values()), tally)
        refuse_faults(self.path, list(tally.dropped), tally)


def _named(inputs: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    """Each input, and the column that holds it, by what was typed."""
    names = {name: name for name in inputs}
    for said in columns:
        name, _, column = said.partition("=")
        names |= {name: column} if column and name in names else {inputs[0]: said}
    return names
