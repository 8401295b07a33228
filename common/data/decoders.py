"""From a CSV, JSON lines or Parquet file (each also gzipped) to batches of its named columns.

Each record is judged alone: whatever one holds, it changes nothing about which others are there, or
the whole file is refused with a line. Values come as the format gives them:
`presspool.common.data.tables` turns them into text and says in words what is wrong.

Why that holds: JSON lines are read a line at a time, all by one parser; CSV is read to the letter
(`presspool.common.data.csv_lines` has the argument); Parquet counts its own values.

Invariants:
    * Memory is bounded by `BLOCK_BYTES` of text and one record's `RECORD_BYTES`.
    * A record that is dropped here is tallied.

Example:
    >>> file_format(Path("readers.csv.gz"))
    ('.csv', 'gzip')
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from presspool.common.base.errors import DataError
from presspool.common.data.csv_lines import RECORD_BYTES, CsvLine, csv_lines
from presspool.common.data.remote_file import File, RemoteFile

FORMATS = (".csv", ".jsonl", ".ndjson", ".parquet")

UNREADABLE = "unreadable record"

BLOCK_BYTES = 8 << 20  # of a text's records, as Python objects, decoded at a time
ROW_BYTES = 500  # about what Python needs for a record beside its text
BATCH_ROWS = 1 << 16  # rows decoded at a time
KEY_RECORDS = 100  # JSON lines whose keys are taken for the file's columns
PLACES = 5  # lines that are named for each reason

Moved = Callable[[int, int], None]
"""Told the bytes of a file that are done, and their total."""


@dataclass(kw_only=True)
class Tally:
    """What was met and left out so far.

    Attributes:
        seen: records before the batch at hand, and unreadable ones.
        dropped: reason to number of records left out.
        first: reason to the first such record's number in the file, from 1.
        lines: reason to the lines of a text at which the first `PLACES` of them begin, from 1.
        places: of the batch at hand the records' numbers and lines, (rows, 2), where they are
            known.
    """

    seen: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)
    lines: dict[str, list[int]] = field(default_factory=dict)
    places: NDArray[np.int64] | None = field(default=None, compare=False, repr=False)

    def drop(self, reason: str, hit: NDArray[np.bool_]) -> None:
        """Counts the records of the batch at hand where `hit`, (rows,), is set."""
        if not hit.any():
            return
        self.dropped[reason] += int(hit.sum())
        if self.places is None:
            self.first.setdefault(reason, self.seen + int(hit.argmax()) + 1)
            return
        found = self.places[hit]
        self.first.setdefault(reason, int(found[0, 0]))
        lines = self.lines.setdefault(reason, [])
        lines += found[: PLACES - len(lines), 1].tolist()

    def unreadable(self, record: int, line: int) -> None:
        """Counts the file's record number `record`, whose columns cannot be told apart."""
        self.seen += 1
        self.dropped[UNREADABLE] += 1
        self.first.setdefault(UNREADABLE, record)
        if len(lines := self.lines.setdefault(UNREADABLE, [])) < PLACES:
            lines.append(line)

    def extent(self, reason: str) -> str:
        """How many of all records were left out for a reason, and where the first are."""
        count, first = self.dropped[reason], self.first[reason]
        said = f"{count} of {self.seen} records, the first is record {first}"
        if lines := self.lines.get(reason):
            more = " and more" if count > len(lines) else ""
            of = "line" if count == 1 else "lines"
            said += f" ({of} {', '.join(map(str, lines))}{more})"
        return said


def file_format(path: File) -> tuple[str, str | None]:
    """The suffix that names the format, and the compression."""
    name = path.name.lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix not in FORMATS:
        expected = f"a file name ending in {', '.join(FORMATS)}, or one of them and .gz"
        raise DataError("unknown format", where=str(path), expected=expected, got=path.name)
    return suffix, "gzip" if name.endswith(".gz") else None


@contextmanager
def opened(path: File, watch: Moved = lambda _done, _total: None) -> Iterator[BinaryIO]:
    """The file's decompressed bytes, refusing what can be told from the first of them.

    `watch` is told of the compressed ones.
    """
    if not path.is_file():
        got = "a folder" if path.is_dir() else "no such file"
        expected, advice = "a file of records", "check the path"
        raise DataError("missing file", where=str(path), expected=expected, got=got, advice=advice)
    suffix, compression = file_format(path)
    with _raw(path, watch) as raw, io.BufferedReader(raw, 1 << 18) as plain:
        stream = plain if compression is None else gzip.GzipFile(fileobj=plain)
        head = stream.peek(4)[:4]
        if not head:
            raise DataError("empty file", where=str(path), expected="records", got="0 bytes")
        if suffix != ".parquet" and head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise DataError(
                "wrong encoding",
                where=str(path),
                expected="UTF-8",
                got="UTF-16 or UTF-32 from byte 0 on",
                advice="save the file as UTF-8",
            )
        yield cast(BinaryIO, stream)


def _raw(path: File, watch: Moved) -> io.RawIOBase:
    if isinstance(path, RemoteFile):
        return path.raw()
    total = path.stat().st_size

    class Told(io.FileIO):
        def readinto(self, buffer: Any) -> int | None:
            watch(self.tell(), total)
            return super().readinto(buffer)

    return Told(path)


def column_names(path: File) -> list[str]:
    """The file's columns, in order; for JSON lines the keys of its first records."""
    with opened(path) as stream:
        suffix, _ = file_format(path)
        if suffix == ".csv":
            return _header(path, csv_lines(path, stream))
        if suffix == ".parquet":
            return list(_parquet(path, stream).schema_arrow.names)
        return _json_keys(path, stream)


def batches(
    path: File, stream: BinaryIO, names: Sequence[str], tally: Tally, lists: Collection[str]
) -> Iterator[Sequence[pa.Array]]:
    """The named columns as the file's format gives them, some thousand rows at a time.

    Of JSON lines those in `lists` hold JSON where a record has a list.
    """
    suffix, _ = file_format(path)
    if suffix == ".parquet":
        return _parquet_batches(path, stream, names)
    if suffix == ".csv":
        return _text_batches(_csv_records(path, stream, names), tally)
    return _text_batches(_json_records(stream, names, lists), tally)


# --- Text -----------------------------------------------------------------------------------------

Values = list[bytes | None] | None  # of the named columns; None where they cannot be told apart


def _text_batches(
    records: Iterable[tuple[int, Values]], tally: Tally
) -> Iterator[Sequence[pa.Array]]:
    rows: list[list[bytes | None]] = []
    places: list[tuple[int, int]] = []
    size = 0
    for record, (line, values) in enumerate(records, start=1):
        if values is None:
            tally.unreadable(record, line)
            continue
        rows.append(values)
        places.append((record, line))
        size += ROW_BYTES + sum(len(value) for value in values if value)
        if size >= BLOCK_BYTES or len(rows) >= BATCH_ROWS:
            yield _flushed(rows, places, tally)
            size = 0
    if rows:
        yield _flushed(rows, places, tally)


def _flushed(
    rows: list[list[bytes | None]], places: list[tuple[int, int]], tally: Tally
) -> Sequence[pa.Array]:
    made = [pa.array(column, pa.large_binary()) for column in zip(*rows, strict=True)]
    tally.places = np.array(places, np.int64)
    rows.clear()
    places.clear()
    return made


def _header(path: File, lines: Iterator[CsvLine]) -> list[str]:
    for line in lines:
        if line.values:
            return line.values
    raise DataError("empty file", where=str(path), expected="records", got="none")


def _csv_records(
    path: File, stream: BinaryIO, names: Sequence[str]
) -> Iterator[tuple[int, Values]]:
    lines = csv_lines(path, stream)
    header = _header(path, lines)
    if missing := sorted(set(names) - set(header)):  # of a stream, whose header nobody saw before
        raise DataError("missing column", where=str(path), expected=missing[0], got=header[:20])
    width, places = len(header), [header.index(name) for name in names]
    for number, _, values in lines:
        if len(values) == width:
            yield number, [values[i].encode(errors="surrogateescape") for i in places]
        elif values:
            yield number, None


def _json_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Number and bytes of each line that is not blank; None for one that is too long."""
    number = 0
    while line := stream.readline(RECORD_BYTES + 1):
        number += 1
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = stream.readline(RECORD_BYTES)
        text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if text := text.strip(b" \t\r\n"):
            yield number, text if len(line) <= RECORD_BYTES else None


def _json_records(
    stream: BinaryIO, names: Sequence[str], lists: Collection[str]
) -> Iterator[tuple[int, Values]]:
    for number, line in _json_lines(stream):
        values: Values = None
        if line is not None:
            with suppress(ValueError, RecursionError):
                values = json_record(line, names, lists)
        yield number, values


def json_record(
    line: bytes, names: Sequence[str], lists: Collection[str] = ()
) -> list[bytes | None]:
    """The named values of one JSON object; an integer as its digits, a list as JSON.

    Args:
        line: the object.
        names: keys.
        lists: those of them whose value may be a list of objects or of texts.

    Raises:
        ValueError: not one, or with a value that is no text, number, truth or such a list.
        RecursionError: nested too deeply.
    """
    try:
        text, errors = line.decode(), "strict"
    except UnicodeDecodeError:  # judged in the column that it stands in
        text, errors = line.decode(errors="surrogateescape"), "surrogateescape"
    record = json.loads(
        text,
        parse_int=str,
        parse_float=lambda digits: digits.removesuffix(".0"),
        parse_constant=lambda _: None,
    )
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    values: list[bytes | None] = []
    for name in names:
        value = record.get(name)
        word = as_json(value) if name in lists and is_list(value) else value
        if isinstance(word, dict | list):
            raise ValueError("a nested value")
        word = str(word).lower() if isinstance(word, bool) else word
        values.append(None if word is None else word.encode(errors=errors))
    return values


def is_list(value: object) -> bool:
    """Whether a value is what the turns of a chat, or a text's tokens, are in JSON."""
    return isinstance(value, list) and any(
        all(isinstance(v, k) for v in value) for k in (dict, str)
    )


def as_json(value: object) -> str:
    """A nested value as the text that a column holds."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _json_keys(path: File, stream: BinaryIO) -> list[str]:
    """The keys of the first `KEY_RECORDS` records, in order of appearance."""
    keys: dict[str, None] = {}
    for _, line in islice(_json_lines(stream), KEY_RECORDS):
        with suppress(ValueError, RecursionError):
            record = json.loads((line or b"").decode(errors="surrogateescape"), parse_int=str)
            keys |= dict.fromkeys(record if isinstance(record, dict) else ())
    if not keys:
        expected, got = "one JSON object a line", f"none in the first {KEY_RECORDS} lines"
        advice = "write each record on a line of its own, without brackets around them all"
        raise DataError("no JSON lines", where=str(path), expected=expected, got=got, advice=advice)
    return list(keys)


# --- Parquet --------------------------------------------------------------------------------------


def _parquet_batches(
    path: File, stream: BinaryIO, names: Sequence[str]
) -> Iterator[Sequence[pa.Array]]:
    for batch in _parquet(path, stream).iter_batches(BATCH_ROWS, columns=list(names)):
        yield [batch.column(name) for name in names]


def _parquet(path: File, stream: BinaryIO) -> pq.ParquetFile:
    """The open file; a gzipped one is decompressed in memory, since its index is at its end."""
    zipped = file_format(path)[1] is not None
    source = io.BytesIO(stream.read()) if zipped else stream
    return pq.ParquetFile(source, page_checksum_verification=True)
