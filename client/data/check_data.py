"""Looks at an outlet's data before it joins a run, for the operator's eyes only.

`check` judges a file record by record, as `presspool outlet import` does, and computes a
`DataReport`; `check_tables` draws one. Both are separate, so that `--json` and the tests see
numbers, not tables. A snapshot is a file like any other here.

Invariants:
    * Nothing here travels: the report holds exact counts of readers, which no privacy budget pays
      for.
    * Problems of the data end here, before joining. An admitted run never refuses because of them.

Example:
    >>> import os, tempfile
    >>> rows = ["reader,text,label", "ann,Cup final,sport", "bob,Vote,news", "ann,Cup final,sport"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "clicks.csv")
    ...     _ = path.write_text(os.linesep.join(rows))
    ...     task = guessed(path, "classification", Columns())
    ...     report = check(path, columns=Columns(), task=task,
    ...                    records_per_reader=1, max_length=None, population=2)
    >>> report.readers, report.records_a_reader.maximum, report.records_cut
    (2, 2, 1)
    >>> report.labels, report.duplicates_within
    ({'news': 1, 'sport': 2}, 1)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from presspool.client.data.care.own_repeats import OwnRepeats
from presspool.client.data.care.text_health import TextHealth, Unknown, text_health
from presspool.client.data.readers import Readers, distinct, read_readers
from presspool.client.data.snapshots import manifest_of
from presspool.common.base.errors import ContractError, DataError, InputError
from presspool.common.contract.doors import TASKS
from presspool.common.data.records import Source
from presspool.common.data.table_refusals import require_columns
from presspool.common.data.tables import Columns
from presspool.common.tasks.task import Task

TOKEN_BATCH = 4096  # texts that are Python strings at one time
MOST_COMPARED = 100_000  # records of a file in which similar ones are looked for
WORD = r"[^\s\p{Z}]+"  # RE2's \s knows ASCII only; \p{Z} adds Unicode's separators

TokenLengths = Callable[[list[str]], NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Minimum, median, 95th percentile and maximum of a non-empty list of counts."""

    minimum: int
    median: float
    p95: float
    maximum: int

    @classmethod
    def of(cls, counts: NDArray[np.int64]) -> Spread:
        """Summarises `counts`, (n,) with n ≥ 1; percentiles interpolate linearly."""
        median, p95 = np.quantile(counts, [0.5, 0.95]).tolist()
        return cls(minimum=int(counts.min()), median=median, p95=p95, maximum=int(counts.max()))


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What one outlet's file holds, and what a run would make of it.

    Attributes:
        readers: readers with at least one good record.
        records: good records.
        records_a_reader: spread of the records that one reader has.
        labels: label → records, in the order of the labels asked for, zeros included.
        characters: spread of the texts' lengths in Unicode code points.
        words: spread of their lengths in words between white space.
        tokens: spread of their lengths in tokens, where a tokenizer was given.
        duplicates_within: records whose text the same reader already has (exact comparison).
        duplicates_across: texts of a reader that an earlier reader has too; with
            `duplicates_within` it is the number of records less the number of different texts.
        similar_within: records that repeat a text of the same reader exactly or nearly, as
            `[care] duplicates = "near"` judges; None in a file of more than `MOST_COMPARED`.
        unknown: column → its values that the run does not know → records, which are dropped.
        guesses: column → the known value that the most frequent of them may stand for, or "".
        copied: how copies were made to how many, of a snapshot as it was imported; they count as
            records above, and as similar ones.
        texts: their scripts, and what looks broken or unknown in them.
        records_per_reader: the run's cap k.
        readers_capped: readers with more than k records.
        records_cut: records beyond the k-th of a reader, summed. A step uses at most k of a
            reader's records, so this many do not count in any one step.
        max_length: the run's cap in tokens, if any.
        cut: what of a longer record counts, in words; "" without a cap.
        records_truncated: records longer than `max_length`; `None` without a tokenizer or a cap,
            and where texts of a record are cut and not the record (`labels` counts them then).
        dropped: reason → records left out.
        first: reason → the number in the file, from 1, of the first of them.
        lines: reason → the lines of the first of them, where the file has lines.
    """

    readers: int
    records: int
    records_a_reader: Spread
    labels: Mapping[str, int]
    characters: Spread
    words: Spread
    tokens: Spread | None
    duplicates_within: int
    duplicates_across: int
    similar_within: int | None
    texts: TextHealth
    records_per_reader: int
    readers_capped: int
    records_cut: int
    max_length: int | None
    records_truncated: int | None
    dropped: Mapping[str, int]
    first: Mapping[str, int] = field(default_factory=dict)
    lines: Mapping[str, Sequence[int]] = field(default_factory=dict)
    copied: Mapping[str, int] = field(default_factory=dict)
    cut: str = ""
    unknown: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    guesses: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The report as plain dictionaries, numbers and `None`."""
        return asdict(self)


def check(
    path: Source,
    *,
    columns: Columns,
    task: Task[Any],
    records_per_reader: int,
    max_length: int | None,
    token_lengths: TokenLengths | None = None,
    unknown: Unknown | None = None,
    population: int | None,
    unit: Literal["reader", "record"] = "reader",
) -> DataReport:
    """Reads a file strictly and describes it.

    Args:
        path: the readers' data, in a format of `presspool.common.data.tables.FORMATS`, or other
            records.
        columns: where reader, text and label stand.
        task: the run's, or what `guessed` makes of the file.
        records_per_reader: the run's cap k on records a reader, at least 1.
        max_length: the run's cap on tokens a record, at least 1, if it has one.
        token_lengths: from texts to their untruncated lengths in tokens, special ones included.
        unknown: from texts to their unknown tokens and all their tokens, by the run's base model.
        population: the units that the contract declares for this outlet, if known.
        unit: what the contract counts: "reader" or "record".

    Raises:
        InputError: a cap below 1.
        DataError: as `read_readers` with `strict=True`; fewer units than `population`.
    """
    _require_caps(records_per_reader=records_per_reader, max_length=max_length)
    readers = read_readers(path, columns=columns, task=task, strict=True, count_unknown=True)
    texts = task.texts(readers.table)
    if population is not None:
        require_population(readers, population, unit=unit, where=str(path))
    a_reader = np.diff(readers.offsets)
    tokens = None if token_lengths is None else _token_counts(texts, token_lengths)
    within, across = _duplicates(readers, texts)
    truncated = None
    if tokens is not None and max_length is not None and not task.listed:
        truncated = int((tokens > max_length).sum())
    return DataReport(
        readers=readers.readers,
        records=readers.records,
        records_a_reader=Spread.of(a_reader),
        labels=dict(task.counts(readers.table)),
        characters=Spread.of(pc.utf8_length(texts).to_numpy()),
        words=Spread.of(pc.count_substring_regex(texts, pattern=WORD).to_numpy()),
        tokens=None if tokens is None else Spread.of(tokens),
        duplicates_within=within,
        duplicates_across=across,
        similar_within=_similar(readers, texts),
        texts=text_health(texts, unknown),
        records_per_reader=records_per_reader,
        readers_capped=int((a_reader > records_per_reader).sum()),
        records_cut=int(np.maximum(a_reader - records_per_reader, 0).sum()),
        max_length=max_length,
        records_truncated=truncated,
        dropped=dict(readers.dropped),
        first=dict(readers.first),
        lines=dict(readers.lines),
        copied=_copied(path),
        cut="" if max_length is None else task.cut.format(max_length),
        unknown={name: dict(found.most_common()) for name, found in readers.unknown.items()},
        guesses={
            name: task.wanted(name, max(found, key=found.__getitem__))[1]
            for name, found in readers.unknown.items()
        },
    )


def guessed(path: Source, kind: str, columns: Columns) -> Task[Any]:
    """The task of a file that is looked at without a run: what occurs in it is what there is.

    Raises:
        InputError: an unknown kind of task.
        DataError: as `read_readers` with `strict=True`; a column of labels that holds free text.
    """
    found = task_named(kind)
    names = columns.of(found.columns_in(columns.found(path, found.columns)))
    require_columns(path, [columns.reader, *names.values()])
    return found.guess(lambda name: distinct(path, names[name]))


def task_named(kind: str) -> type[Task[Any]]:
    """A kind of task that an operator named.

    Raises:
        InputError: there is none of this name.
    """
    try:
        return TASKS[kind]
    except ContractError as error:
        raise InputError(
            error.what, where="--task", expected=error.expected, got=kind, advice=error.advice
        ) from None


def require_population(
    readers: Readers, population: int, *, unit: Literal["reader", "record"], where: str
) -> None:
    """Raises `DataError` if there are fewer units than the contract declares for the outlet.

    For `check-data` only: b = q·n is computed from the declared n, so that too few readers mean a
    weaker signal under the same noise, never a weaker promise.
    """
    count = readers.readers if unit == "reader" else readers.records
    if count < population:
        raise DataError(
            f"fewer {unit}s than the declared population",
            where=where,
            expected=f"at least {population} {unit}s",
            got=f"{count}",
            advice=f"declare a population that the data reaches, or add the missing {unit}s",
        )


def _copied(path: Source) -> dict[str, int]:
    """How copies were made to how many, of a snapshot; nothing of another source."""
    try:
        return dict(manifest_of(path).copied) if isinstance(path, Path) else {}
    except DataError:
        return {}


def _require_caps(**caps: int | None) -> None:
    for name, cap in caps.items():
        if cap is not None and cap < 1:
            raise InputError("cap on the data", where=name, expected="1 or more", got=cap)


def _token_counts(texts: pa.Array, token_lengths: TokenLengths) -> NDArray[np.int64]:
    """Tokens of each record, int64 (records,), a batch of texts at a time."""
    batches = [texts[start : start + TOKEN_BATCH] for start in range(0, len(texts), TOKEN_BATCH)]
    return np.concatenate([token_lengths(batch.to_pylist()) for batch in batches])


def _duplicates(readers: Readers, texts: pa.Array) -> tuple[int, int]:
    """Records that repeat a text of the same reader, and texts that repeat another reader's."""
    code = texts.dictionary_encode().indices.to_numpy().astype(np.int64)
    different = int(code.max()) + 1
    reader = np.repeat(np.arange(readers.readers), np.diff(readers.offsets))
    pairs = len(np.unique(reader * different + code))
    return readers.records - pairs, pairs - different


def _similar(readers: Readers, texts: pa.Array) -> int | None:
    """Records that nearly repeat a text of the same reader; None where that takes too long."""
    if readers.records > MOST_COMPARED:
        return None
    own, said = OwnRepeats("near"), texts.to_pylist()
    return sum(
        own.repeats(str(reader), text)
        for reader, (start, end) in enumerate(pairwise(readers.offsets.tolist()))
        for text in said[start:end]
    )
