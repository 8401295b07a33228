"""The public records on which an export is compared with what it was made of.

Either a public file, or made ones: words of the tokenizer's own vocabulary, drawn by SHAKE-256 of a
fixed text, so that anybody makes the same. No reader's data is ever looked at here.

Invariants:
    * Made records are as long as contracts allow and shorter ones, in turn.
    * Only a file's records have answers; those of made ones mean nothing.

Example: `PublicTexts.made(task).records`, or `PublicTexts.of_file(Path("test.csv"), task, [])`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from presspool.common.base.errors import InputError
from presspool.common.base.validation import pairs
from presspool.common.data.table_refusals import require_columns
from presspool.common.data.tables import Mapped, read_records
from presspool.common.released.asked_rows import AskedRows
from presspool.common.tasks.task import Task

FEWEST = 200
_SPELT = ("text", "prompt", "article")  # inputs that any words are good for


@dataclass(frozen=True, kw_only=True)
class PublicTexts:
    """Some records.

    Attributes:
        source: a file's name, or "made".
        records: with the task's columns, of unlabelled files its inputs alone.
        answered: whether what they should say is known.
    """

    source: str
    records: pa.Table
    answered: bool

    @classmethod
    def made(cls, task: Task[Any]) -> Self:
        """`FEWEST` made records of the task that took the model."""
        longest = max(1, task.table.longest[1] - 2)
        lengths = [1 + place * longest // FEWEST for place in range(FEWEST)]
        records, first = task.made(lengths), task.inputs[0]
        if first in _SPELT:
            words = _words(task)
            texts = [" ".join(islice(words, length)) for length in lengths]
            place = records.column_names.index(first)
            records = records.set_column(place, first, pa.array(texts, pa.large_string()))
        return cls(source="made", records=records, answered=False)

    @classmethod
    def of_file(cls, file: Path, task: Task[Any], columns: Sequence[str]) -> Self:
        """All records of a public file.

        Args:
            file: CSV, JSON lines or Parquet.
            task: the one that took the model.
            columns: how the file calls the task's columns, "NAME=COLUMN".

        Raises:
            DataError: as `read_records` and `AskedRows.of`.
            InputError: fewer than `FEWEST`; a column that is no pair, or none of the task's.
        """
        named = _named(columns, task)
        mapped = Mapped.model_validate(named)
        advice = "say which column of the file it is: --column NAME=COLUMN"
        require_columns(file, list(named.values()), advice=advice)
        answered = set(mapped.found(file, task.columns)) == set(task.columns)
        if answered:
            records = read_records(file, task, mapped)
        else:
            inputs = [f"{name}={column}" for name, column in named.items() if name in task.inputs]
            asked = AskedRows.of(str(file), task, columns=inputs, stdin_format="jsonl")
            records = pa.concat_tables(asked.batches())
        if len(records) < FEWEST:
            raise InputError(
                "too few texts to compare on",
                where=f"--texts {file}",
                expected=f"{FEWEST} rows or more",
                got=len(records),
            )
        return cls(source=file.name, records=records.combine_chunks(), answered=answered)


def _named(columns: Sequence[str], task: Task[Any]) -> dict[str, str]:
    named = dict(pairs(columns, "--column"))
    if unknown := sorted(named.keys() - set(task.columns)):
        raise InputError(
            "the adapter's task has no column of this name",
            where="--column",
            expected=f"one of {', '.join(task.columns)} before the =",
            got=ascii(unknown[0]),
        )
    return named


def _words(task: Task[Any]) -> Any:
    """Words of the vocabulary, without an end."""
    known = sorted({word.strip("Ġ▁#").lower() for word in task.tokenizer.get_vocab()})
    words = [word for word in known if word.isalpha()] or ["news"]
    for block in chain(range(1 << 30)):
        drawn = hashlib.shake_256(f"presspool/export/texts/{block}".encode()).digest(4000)
        for place in range(0, len(drawn), 4):
            yield words[int.from_bytes(drawn[place : place + 4], "little") % len(words)]
