"""From a CSV, JSON lines or Parquet file (each also gzipped) to batches of its named columns.

Values come as the format gives them: `presspool.common.data.tables` turns them into text and says
in words what is wrong.

Invariants:
    * Memory is bounded by `BLOCK_BYTES` of text, however large the file or one of its lines.
    * A record whose columns cannot be told apart is left out and tallied; the others stay.

Example:
    >>> file_format(Path("readers.csv.gz"))
    ('.csv', 'gzip')
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq
from numpy.typing import NDArray

from presspool.common.base.errors import DataError

FORMATS = (".csv", ".jsonl", ".ndjson", ".parquet")

UNREADABLE = "unreadable record"

BLOCK_BYTES = 8 << 20  # of decompressed text decoded at a time; a longer record is unreadable
BATCH_ROWS = 1 << 16  # of a Parquet file decoded at a time
KEY_RECORDS = 100  # JSON lines whose keys are taken for the file's columns


@dataclass(kw_only=True)
class Tally:
    """What was met and left out so far.

    Attributes:
        seen: records before the batch at hand.
        dropped: reason to number of records left out.
        first: reason to the first such record's number in the file, from 1.
    """

    seen: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)

    def drop(self, reason: str, hit: NDArray[np.bool_]) -> None:
        """Counts the records of the batch at hand where `hit`, (rows,), is set."""
        if hit.any():
            self.dropped[reason] += int(hit.sum())
            self.first.setdefault(reason, self.seen + int(hit.argmax()) + 1)

    def unreadable(self, record: int) -> None:
        """Counts the file's record number `record`, whose columns cannot be told apart."""
        self.seen += 1
        self.dropped[UNREADABLE] += 1
        self.first.setdefault(UNREADABLE, record)

    def extent(self, reason: str) -> str:
        """How many of all records were left out for a reason, and which was the first."""
        count, first = self.dropped[reason], self.first[reason]
        return f"{count} of {self.seen} records, the first is record {first}"


def column_names(path: Path) -> list[str]:
    """The file's columns, in order; for JSON lines the keys of its first records."""
    with open_file(path) as stream:
        suffix, _ = file_format(path)
        if suffix == ".csv":
            return list(_open_csv(_Blocks(stream, _Marker()), (), Tally()).schema.names)
        if suffix == ".parquet":
            return list(_parquet(stream).schema_arrow.names)
        return _json_keys(path, next(_line_blocks(stream)))


def batches(
    path: Path, stream: pa.NativeFile, names: Sequence[str], tally: Tally
) -> Iterator[tuple[pa.Array, ...]]:
    """The named columns as the file's format gives them, some thousand rows at a time."""
    return _DECODERS[file_format(path)[0]](stream, names, tally)


def file_format(path: Path) -> tuple[str, str | None]:
    """The suffix that names the format, and the compression."""
    name = path.name.lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix not in FORMATS:
        expected = f"a file name ending in {', '.join(FORMATS)}, or one of them and .gz"
        raise DataError("unknown format", where=str(path), expected=expected, got=path.name)
    return suffix, "gzip" if name.endswith(".gz") else None


def open_file(path: Path) -> pa.NativeFile:
    """The file's bytes, decompressed, refusing what can be told from the first of them."""
    if not path.is_file():
        got = "a folder" if path.is_dir() else "no such file"
        expected, advice = "a file of records", "check the path"
        raise DataError("missing file", where=str(path), expected=expected, got=got, advice=advice)
    suffix, compression = file_format(path)
    with pa.input_stream(str(path), compression=compression) as stream:
        head = stream.read(4)
    if not head:
        raise DataError("empty file", where=str(path), expected="records", got="0 bytes")
    if suffix != ".parquet" and head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        advice = "save the file as UTF-8"
        got = "UTF-16 or UTF-32 from byte 0 on"
        raise DataError("wrong encoding", where=str(path), expected="UTF-8", got=got, advice=advice)
    return pa.input_stream(str(path), compression=compression)


def _csv_batches(
    stream: pa.NativeFile, names: Sequence[str], tally: Tally
) -> Iterator[tuple[pa.Array, ...]]:
    marker = _Marker()
    for batch in _open_csv(_Blocks(stream, marker), names, tally):
        yield tuple(marker.unmarked(column) for column in batch.columns)


def _open_csv(blocks: _Blocks, names: Sequence[str], tally: Tally) -> pa_csv.CSVStreamingReader:
    """Opens a stream of batches of the named columns (of all, if none is named)."""

    def skip(row: pa_csv.InvalidRow) -> str:
        tally.unreadable(row.number - 1)  # Arrow counts the header as row 1
        return "skip"

    return pa_csv.open_csv(
        pa.PythonFile(blocks, mode="r"),
        read_options=pa_csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        convert_options=pa_csv.ConvertOptions(
            include_columns=list(names), column_types=dict.fromkeys(names, pa.large_binary())
        ),
    )


class _Blocks:
    """A CSV file as Arrow reads it, never parted between a carriage return and its line feed.

    Arrow leaves out a line feed at the start of a block whose predecessor ended with a carriage
    return, also inside quotes: a text would depend on where the blocks happen to end.
    """

    closed = False

    def __init__(self, stream: pa.NativeFile, marker: _Marker) -> None:
        self._stream, self._marker = stream, marker
        self._ready, self._ended = b"", False

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size` (more than 1) of them; none at the end."""
        while len(self._ready) <= size and not self._ended:
            block = self._stream.read_buffer(size)
            self._ended = block.size == 0
            self._ready += self._marker(block)
        cut = min(size, len(self._ready))
        if self._ready[cut - 1 : cut + 1] == b"\r\n":
            cut -= 1
        block, self._ready = self._ready[:cut], self._ready[cut:]
        return block

    def close(self) -> None:
        """Nothing: whoever opened the stream closes it."""


class _Marker:
    """Keeps bytes that are not UTF-8 from Arrow's CSV reader, which gives the file up over one.

    It hands rows of the wrong width to Python as text, and fails where that does not decode. So a
    bad byte travels through the parser as a pair of noncharacters, which Unicode keeps out of
    interchange, and the cells that hold one are undecodable again afterwards.
    """

    MARK = "\ufdd0\ufdef"

    def __init__(self) -> None:
        self._rest = b""  # the first bytes of a character that the last block cut
        self._met = False

    def __call__(self, block: pa.Buffer) -> bytes:
        """The next bytes of the file, in UTF-8 whatever they were; called with none at the end."""
        data: bytes = self._rest + block.to_pybytes()
        try:
            _, used = codecs.utf_8_decode(data, "strict", not block.size)
            whole = data[:used]
        except UnicodeDecodeError:
            self._met = True
            text, used = codecs.utf_8_decode(data, "surrogateescape", not block.size)
            whole = re.sub("[\udc80-\udcff]", self.MARK, text).encode()
        self._rest = data[used:]
        return whole

    def unmarked(self, column: pa.Array) -> pa.Array:
        """The column (binary) with an undecodable value in place of each marked one."""
        if not self._met:
            return column
        return pc.if_else(
            pc.match_substring(column, self.MARK), pa.scalar(b"\xff", column.type), column
        )


def _parquet_batches(
    stream: pa.NativeFile, names: Sequence[str], _: Tally
) -> Iterator[tuple[pa.Array, ...]]:
    for batch in _parquet(stream).iter_batches(BATCH_ROWS, columns=list(names)):
        yield tuple(batch.column(name) for name in names)


def _parquet(stream: pa.NativeFile) -> pq.ParquetFile:
    return pq.ParquetFile(stream if stream.seekable() else pa.BufferReader(stream.read_buffer()))


def _json_batches(
    stream: pa.NativeFile, names: Sequence[str], tally: Tally
) -> Iterator[tuple[pa.Array, ...]]:
    for block in _line_blocks(stream):
        try:
            yield _json_block(block, names)
        except (pa.ArrowException, ValueError, RecursionError):
            yield _json_lines(block, names, tally)


def _line_blocks(stream: pa.NativeFile) -> Iterator[bytes]:
    """Whole lines, about `BLOCK_BYTES` at a time, each ended by a newline."""
    rest = b""
    while piece := stream.read(BLOCK_BYTES):
        lines, newline, rest = (rest + piece).rpartition(b"\n")
        if newline:
            yield lines + newline
        if len(rest) > BLOCK_BYTES:
            rest = b"!"  # a line without end stays one unreadable line, in bounded memory
    if rest:
        yield rest + b"\n"


def _json_block(block: bytes, names: Sequence[str]) -> tuple[pa.Array, ...]:
    """The fast path: Arrow reads all lines of one block, all of the types of the first.

    Raises:
        ValueError: a line is blank, is not one JSON object, or has other types.
    """
    first = json.loads(block[: block.index(b"\n")].removeprefix(codecs.BOM_UTF8))
    if not isinstance(first, dict):
        raise ValueError("not a JSON object")
    # Types are given, never inferred: inference would read a reader "2024-05-01" as a timestamp.
    types = [pa.int64() if type(first.get(name)) is int else pa.string() for name in names]
    table = pa_json.read_json(
        pa.BufferReader(block),
        read_options=pa_json.ReadOptions(use_threads=False, block_size=len(block)),
        parse_options=pa_json.ParseOptions(
            explicit_schema=pa.schema(list(zip(names, types, strict=True))),
            unexpected_field_behavior="ignore",
        ),
    )
    if table.num_rows != block.count(b"\n"):
        raise ValueError("not one JSON object a line")
    return tuple(table.column(name).combine_chunks() for name in names)


def _json_lines(block: bytes, names: Sequence[str], tally: Tally) -> tuple[pa.Array, ...]:
    """The slow path: line by line, so that a bad line costs its own record only."""
    rows: list[list[bytes | None]] = []
    before = tally.seen
    for number, line in enumerate(_filled_lines(block), start=before + 1):
        try:
            rows.append(json_record(line, names))
        except (ValueError, RecursionError):
            tally.unreadable(number)
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return tuple(pa.array(values, pa.large_binary()) for values in columns)


def _filled_lines(block: bytes) -> Iterator[bytes]:
    lines = block.removeprefix(codecs.BOM_UTF8).split(b"\n")
    return filter(None, (line.strip(b" \t\r") for line in lines))


def json_record(line: bytes, names: Sequence[str]) -> list[bytes | None]:
    """The named values of one JSON object, as the fast path would give them."""
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
    for value in map(record.get, names):
        if isinstance(value, dict | list):
            raise ValueError("a nested value")
        word = str(value).lower() if isinstance(value, bool) else value
        values.append(None if word is None else word.encode(errors=errors))
    return values


_DECODERS = {
    ".csv": _csv_batches,
    ".jsonl": _json_batches,
    ".ndjson": _json_batches,
    ".parquet": _parquet_batches,
}


def _json_keys(path: Path, block: bytes) -> list[str]:
    """The keys of the first `KEY_RECORDS` records, in order of appearance."""
    keys: dict[str, None] = {}
    for line in islice(_filled_lines(block), KEY_RECORDS):
        with suppress(ValueError, RecursionError):
            record = json.loads(line.decode(errors="surrogateescape"))
            keys |= dict.fromkeys(record if isinstance(record, dict) else ())
    if not keys:
        expected, got = "one JSON object a line", f"none in the first {KEY_RECORDS} lines"
        advice = "write each record on a line of its own, without brackets around them all"
        raise DataError("no JSON lines", where=str(path), expected=expected, got=got, advice=advice)
    return list(keys)
