"""Reads named columns of a table file in a stream, and says in words what is wrong with the file.

A table is a CSV, JSON lines or Parquet file, each also gzipped. `batches` yields its columns some
thousand rows at a time, as text; `read_table` and `read_labelled` read a whole file strictly.

Invariants:
    * The file is decoded in a stream, needed columns only; a row never becomes a Python object
      (one exception: the lines of a JSON block that Arrow refuses, one at a time).
    * A value that is not UTF-8 is null in its column and set in that column's mask; a record whose
      columns cannot be told apart is left out and tallied. Neither moves the records around it.
    * All formats give the same text for the same table, whatever the size of the blocks read:
      integers as their digits, and nothing ever taken for a date.
    * Every fault of the file itself is a `DataError`.

CSV is the weak format here, because a quote left open swallows the records after it: prefer
Parquet. It also knows no nulls: an empty cell is an empty text.

Example:
    >>> import os, tempfile
    >>> rows, known = ["id,title,topic", "1,Vote,news", "2,Gold,sport"], ["news", "sport"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "held_out.csv")
    ...     _ = path.write_text(os.linesep.join(rows))
    ...     texts, index = read_labelled(path, text="title", label="topic", labels=known)
    >>> texts, index.tolist()
    (['Vote', 'Gold'], [0, 1])
"""

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from presspool.common.errors import DataError

FORMATS = (".csv", ".jsonl", ".ndjson", ".parquet")

UNREADABLE = "unreadable record"
NOT_UTF8 = "not UTF-8"
UNKNOWN_LABEL = "unknown label"

BLOCK_BYTES = 8 << 20  # of decompressed text decoded at a time; a longer record is unreadable
BATCH_ROWS = 1 << 16  # of a Parquet file decoded at a time
KEY_RECORDS = 100  # JSON lines whose keys are taken for the file's columns
LISTED = 20  # names quoted in one message

Mask = NDArray[np.bool_]
Column = tuple[pa.Array, Mask]


class Columns(BaseModel):
    """Which of a file's columns holds what; the `[columns]` table of a user's file.

    Attributes:
        reader: column of reader ids.
        text: column of texts.
        label: column of labels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    reader: str = "reader"
    text: str = "text"
    label: str = "label"

    @property
    def names(self) -> tuple[str, str, str]:
        """The file's names of reader, text and label, in this order."""
        return self.reader, self.text, self.label

    @model_validator(mode="after")
    def _different(self) -> Self:
        if not all(self.names) or len(set(self.names)) < len(self.names):
            raise ValueError(
                "column mapping: give three different, non-empty names for reader, text and "
                f"label, not {quoted(self.names)}"
            )
        return self


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

    def drop(self, reason: str, hit: Mask) -> None:
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


def read_table(path: Path, names: Mapping[str, str]) -> pa.Table:
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
    for batch in batches(path, wanted, tally):
        tally.drop(NOT_UTF8, np.logical_or.reduce([undecodable for _, undecodable in batch]))
        for name, (values, undecodable) in zip(wanted, batch, strict=True):
            tally.drop(_null_in(name), as_mask(pc.is_null(values)) & ~undecodable)
        parts.append(pa.table([values for values, _ in batch], names=wanted))
    refuse_undecodable(path, tally)
    _refuse_nulls(path, wanted, tally)
    if not tally.seen:
        raise DataError(
            "no records", where=str(path), expected="one record or more", got="none",
            advice="check that the file was written to its end",
        )  # fmt: skip
    table = pa.concat_tables(parts).combine_chunks()
    return pa.table({key: table[name] for key, name in names.items()})


def read_labelled(
    path: Path, *, text: str, label: str, labels: Sequence[str]
) -> tuple[list[str], NDArray[np.int64]]:
    """Reads a public held-out file strictly.

    Args:
        path: the file, as for `read_table`.
        text: its text column.
        label: its label column.
        labels: the known labels; a record's label becomes its index here.

    Returns:
        The texts, and their labels' indices, int64 (records,), in the file's order.

    Raises:
        DataError: as `read_table`; a label is unknown.
    """
    table = read_table(path, {"text": text, "label": label})
    found = table["label"].combine_chunks()
    index = pc.index_in(found, value_set=pa.array(labels, pa.large_string()))
    tally, unknown = Tally(), as_mask(pc.is_null(index))
    tally.drop(UNKNOWN_LABEL, unknown)
    if tally.dropped:
        tally.seen = len(unknown)
        raise unknown_label(path, label, labels, count_values(found, unknown), tally)
    texts: list[str] = table["text"].to_pylist()
    return texts, index.to_numpy().astype(np.int64)


def batches(path: Path, names: Sequence[str], tally: Tally) -> Iterator[tuple[Column, ...]]:
    """The named columns, some thousand rows at a time.

    Args:
        path: the file. A gzipped Parquet file is decompressed in memory, since its index stands at
            its end.
        names: different columns of the file.
        tally: gets the unreadable records, and in `seen` the number of records before each batch.

    Yields:
        For each name its values, `large_string` (rows,), and the mask, (rows,), of those that are
        not UTF-8 (null among the values).

    Raises:
        DataError: the file is missing, empty, of another format, or breaks off.
    """
    try:
        with _open(path) as stream:
            for columns in _DECODERS[_format(path)[0]](stream, names, tally):
                yield tuple(map(_strings, columns))
                tally.seen += len(columns[0])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _broken(path, error) from error


# --- From a file to batches of undecoded columns --------------------------------------------------


def _format(path: Path) -> tuple[str, str | None]:
    """The suffix that names the format, and the compression."""
    name = path.name.lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix not in FORMATS:
        expected = f"a file name ending in {', '.join(FORMATS)}, or one of them and .gz"
        raise DataError("unknown format", where=str(path), expected=expected, got=path.name)
    return suffix, "gzip" if name.endswith(".gz") else None


def _open(path: Path) -> pa.NativeFile:
    """The file's bytes, decompressed, refusing what can be told from the first of them."""
    if not path.is_file():
        got = "a folder" if path.is_dir() else "no such file"
        expected, advice = "a file of records", "check the path"
        raise DataError("missing file", where=str(path), expected=expected, got=got, advice=advice)
    suffix, compression = _format(path)
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
    for batch in _open_csv(pa.TransformInputStream(stream, marker), names, tally):
        yield tuple(marker.unmarked(column) for column in batch.columns)


def _open_csv(
    stream: pa.NativeFile, names: Sequence[str], tally: Tally
) -> pa_csv.CSVStreamingReader:
    """Opens a stream of batches of the named columns (of all, if none is named)."""

    def skip(row: pa_csv.InvalidRow) -> str:
        tally.unreadable(row.number - 1)  # Arrow counts the header as row 1
        return "skip"

    return pa_csv.open_csv(
        stream,
        read_options=pa_csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        convert_options=pa_csv.ConvertOptions(
            include_columns=list(names), column_types=dict.fromkeys(names, pa.large_binary())
        ),
    )


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
            rows.append(_json_record(line, names))
        except (ValueError, RecursionError):
            tally.unreadable(number)
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return tuple(pa.array(values, pa.large_binary()) for values in columns)


def _filled_lines(block: bytes) -> Iterator[bytes]:
    lines = block.removeprefix(codecs.BOM_UTF8).split(b"\n")
    return filter(None, (line.strip(b" \t\r") for line in lines))


def _json_record(line: bytes, names: Sequence[str]) -> list[bytes | None]:
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


# --- Text -----------------------------------------------------------------------------------------


def _strings(column: pa.Array) -> Column:
    """The column as `large_string`, and a mask of the values that are not UTF-8 (null there)."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type):  # integers with gaps, as pandas keeps them
        column = pc.if_else(pc.is_nan(column), None, column)
    if _is_text(column.type):
        return _decoded(column.cast(pa.large_binary()))
    return column.cast(pa.large_string()), np.zeros(len(column), dtype=np.bool_)


def _is_text(kind: pa.DataType) -> bool:
    tests = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")
    return any(getattr(pa.types, f"is_{test}")(kind) for test in tests)


def _decoded(values: pa.Array) -> Column:
    """Decodes UTF-8, halving where Arrow refuses until the bad values stand alone."""
    try:
        return values.cast(pa.large_string()), np.zeros(len(values), dtype=np.bool_)
    except pa.ArrowInvalid:
        if len(values) == 1:
            return pa.nulls(1, pa.large_string()), np.ones(1, dtype=np.bool_)
    half = len(values) // 2
    (left, bad_left), (right, bad_right) = _decoded(values[:half]), _decoded(values[half:])
    return pa.concat_arrays([left, right]), np.concatenate([bad_left, bad_right])


def as_mask(values: pa.Array) -> Mask:
    """An Arrow array of booleans without nulls as numpy's."""
    mask: Mask = values.to_numpy(zero_copy_only=False)
    return mask


def count_values(values: pa.Array, hit: Mask) -> Counter[str]:
    """How often each value occurs where `hit` is set."""
    counts = pc.value_counts(values.filter(pa.array(hit))).to_pylist()
    return Counter({entry["values"]: entry["counts"] for entry in counts})


# --- What is refused, and in which words ----------------------------------------------------------


def require_columns(path: Path, names: Sequence[str]) -> None:
    """Raises `DataError` unless each name stands exactly once among the file's columns."""
    there = _column_names(path)
    for name in names:
        if there.count(name) == 1:
            continue
        near = get_close_matches(
            name.lower(), [column.lower() for column in there], n=1, cutoff=0.5
        )
        guess = next((column for column in there if [column.lower()] == near), None)
        advice = "name a column that the file has"
        if len(there) == 1 and any(mark in there[0] for mark in ";\t|"):
            advice = "separate the columns by commas"
        elif guess and guess != name:
            advice = f"did you mean {guess!r}?"
        raise DataError(
            f"column {name!r} is there {there.count(name)} times" if name in there
            else f"missing column {name!r}",
            where=str(path),
            expected=f"a column named {name!r}",
            got=f"the columns {quoted(there)}",
            advice=advice,
        )  # fmt: skip


def _column_names(path: Path) -> list[str]:
    try:
        with _open(path) as stream:
            suffix, _ = _format(path)
            if suffix == ".csv":
                marked = pa.TransformInputStream(stream, _Marker())
                return list(_open_csv(marked, (), Tally()).schema.names)
            if suffix == ".parquet":
                return list(_parquet(stream).schema_arrow.names)
            return _json_keys(path, next(_line_blocks(stream)))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _broken(path, error) from error


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


def refuse_undecodable(path: Path, tally: Tally) -> None:
    """Raises `DataError` if `batches` met a record that is unreadable or not UTF-8."""
    if UNREADABLE in tally.dropped:
        raise DataError(
            UNREADABLE, where=str(path), got=tally.extent(UNREADABLE),
            expected="in every record what the header says, or one JSON object a line",
            advice="quote texts that hold commas, quotes or newlines, and write the file again",
        )  # fmt: skip
    if NOT_UTF8 in tally.dropped:
        got = tally.extent(NOT_UTF8)
        if _format(path)[0] != ".parquet" and (found := _first_bad_byte(path)):
            offset, line, byte = found
            got += f"; the first bad byte is 0x{byte:02x} at offset {offset}, line {line}"
        advice = "save the file as UTF-8, for instance with `iconv -f WINDOWS-1252 -t UTF-8`"
        raise DataError("wrong encoding", where=str(path), expected="UTF-8", got=got, advice=advice)


def unknown_label(
    path: Path, column: str, labels: Sequence[str], unknown: Counter[str], tally: Tally
) -> DataError:
    """The error for labels that are not among the known ones; `unknown` says how often each is."""
    common = unknown.most_common(LISTED)
    near = get_close_matches(common[0][0], labels, n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    return DataError(
        UNKNOWN_LABEL,
        where=f"{path}, column {column!r}",
        expected=f"one of {quoted(labels)}",
        got=", ".join(f"{label!r} ({times} times)" for label, times in common)
        + f"; {tally.extent(UNKNOWN_LABEL)}",
        advice=guess + "rename these labels, or add them to the run's",
    )


def quoted(names: Sequence[str]) -> str:
    """Up to `LISTED` names in quotes, escapes shown, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(repr(name) for name in names[:LISTED]) + more


def _null_in(name: str) -> str:
    return f"null in column {name!r}"


def _refuse_nulls(path: Path, names: Sequence[str], tally: Tally) -> None:
    for reason in map(_null_in, names):
        if reason in tally.dropped:
            raise DataError(
                reason, where=str(path), expected="a value in every record",
                got=tally.extent(reason), advice="fill the values in, or leave these records out",
            )  # fmt: skip


def _first_bad_byte(path: Path) -> tuple[int, int, int] | None:
    """Where UTF-8 ends in a file: offset from 0 (decompressed), line from 1, the byte itself."""
    offset, line, rest = 0, 1, b""
    with _open(path) as stream:
        while True:
            piece = stream.read(BLOCK_BYTES)
            data: bytes = rest + piece
            try:
                _, used = codecs.utf_8_decode(data, "strict", not piece)
            except UnicodeDecodeError as error:
                line += data.count(b"\n", 0, error.start)
                return offset + error.start, line, data[error.start]
            if not piece:
                return None
            offset, line, rest = offset + used, line + data.count(b"\n", 0, used), data[used:]


def _broken(path: Path, error: Exception) -> DataError:
    """What a decoder said about the file as a whole, in our words where they are known."""
    suffix, _ = _format(path)
    if "Empty CSV file" in str(error):
        return DataError("empty file", where=str(path), expected="records", got="none")
    advice = "write the file again"
    if suffix == ".csv":
        advice = f"close every quote; a record may have at most {BLOCK_BYTES >> 20} MiB"
    expected = f"a whole, readable {suffix} file"
    return DataError(
        "unreadable file", where=str(path), expected=expected, got=error, advice=advice
    )
