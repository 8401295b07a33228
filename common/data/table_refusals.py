"""What is refused of a table, and in which words: columns, encodings, nulls, unknown values.

Invariants:
    * A message quotes at most `LISTED` names or values, escapes shown.
    * Every refusal is a `DataError` that says what to do about the file.

Example:
    >>> quoted(["id", "title"])
    "'id', 'title'"
"""

from __future__ import annotations

import codecs
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from presspool.common.base.errors import DataError
from presspool.common.data import decoders
from presspool.common.data.csv_lines import RECORD_BYTES
from presspool.common.data.decoders import UNREADABLE, Tally
from presspool.common.data.records import Records, Source

if TYPE_CHECKING:
    from presspool.common.tasks.task import Task

NOT_UTF8 = "not UTF-8"
BROKEN = (pa.ArrowException, OSError, ValueError, EOFError, zlib.error)  # of a decoder or its file

LISTED = 20  # names quoted in one message
NAME_IT = (
    "name a column that the file has, by an option such as --text or by `columns` beside `data`"
)


def unknown(name: str) -> str:
    """The reason to leave out a record in whose column the task does not know the value."""
    return f"unknown {name}"


def require_columns(path: Source, names: Sequence[str], *, advice: str = NAME_IT) -> None:
    """Raises `DataError` unless each name stands exactly once among the file's columns."""
    there = column_names(path)
    for name in names:
        if there.count(name) == 1:
            continue
        near = get_close_matches(
            name.lower(), [column.lower() for column in there], n=1, cutoff=0.5
        )
        guess = next((column for column in there if [column.lower()] == near), None)
        if len(there) == 1 and any(mark in there[0] for mark in ";\t|"):
            advice = "separate the columns by commas"
        elif guess and guess != name:
            advice = f"did you mean {guess!r}? {advice}"
        raise DataError(
            f"column {name!r} is there {there.count(name)} times"
            if name in there
            else f"missing column {name!r}",
            where=str(path),
            expected=f"a column named {name!r}",
            got=f"the columns {quoted(there)}",
            advice=advice,
        )


def column_names(path: Source) -> list[str]:
    """The columns that a source says it has; raises `DataError` where it cannot be read."""
    if isinstance(path, Records):
        return path.column_names()
    try:
        return decoders.column_names(path)
    except BROKEN as error:
        raise broken(path, error) from error


def refuse_undecodable(path: Source, tally: Tally) -> None:
    """Raises `DataError` if `batches` met a record that is unreadable or not UTF-8."""
    if UNREADABLE in tally.dropped:
        raise DataError(
            UNREADABLE,
            where=str(path),
            got=tally.extent(UNREADABLE),
            expected="in every record what the header says, or one JSON object a line, "
            f"and at most {RECORD_BYTES >> 20} MiB",
            advice="quote texts that hold commas, quotes or newlines, cut what is longer, and "
            "write the file again",
        )
    if NOT_UTF8 in tally.dropped:
        got = tally.extent(NOT_UTF8)
        if isinstance(path, Path) and (found := _first_bad_byte(path)):
            offset, line, byte = found
            got += f"; the first bad byte is 0x{byte:02x} at offset {offset}, line {line}"
        advice = "save the file as UTF-8, for instance with `iconv -f WINDOWS-1252 -t UTF-8`"
        raise DataError("wrong encoding", where=str(path), expected="UTF-8", got=got, advice=advice)


def refused(
    path: Source,
    task: Task[Any],
    names: Mapping[str, str],
    name: str,
    values: Counter[str],
    tally: Tally,
) -> DataError:
    """The error for values that the task does not know; `values` says how often each is."""
    common = values.most_common(LISTED)
    expected, near = task.wanted(name, common[0][0])
    guess = f"did you mean {near!r}? " if near else ""
    return DataError(
        unknown(name),
        where=f"{path}, column {names[name]!r}",
        expected=expected,
        got=", ".join(
            f"{value!r} ({'once' if times == 1 else f'{times} times'})" for value, times in common
        )
        + f"; {tally.extent(unknown(name))}",
        advice=f"{guess}rename these {name.removesuffix('s')}s, or add them to the run's",
    )


def quoted(names: Sequence[str]) -> str:
    """Up to `LISTED` names in quotes, escapes shown, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(repr(name) for name in names[:LISTED]) + more


def null_in(name: str) -> str:
    """The reason by which a null is counted."""
    return f"null in column {name!r}"


def refuse_nulls(path: Source, names: Sequence[str], tally: Tally) -> None:
    """Raises `DataError` if one of these columns had a null."""
    for reason in map(null_in, names):
        if reason in tally.dropped:
            raise DataError(
                reason,
                where=str(path),
                expected="a value in every record",
                got=tally.extent(reason),
                advice="fill the values in, or leave these records out",
            )


def refuse_faults(path: Source, reasons: Sequence[str], tally: Tally) -> None:
    """Raises `DataError` if records were met that their task cannot use: all `reasons` in one."""
    if reasons:
        each = {reason: tally.extent(reason) for reason in reasons}
        several = "\n".join(f"{reason}: {extent}" for reason, extent in each.items())
        raise DataError(
            reasons[0] if len(each) == 1 else f"records that are wrong in {len(each)} ways",
            where=str(path),
            expected="records that the task can use",
            got=each[reasons[0]] if len(each) == 1 else several,
            advice="mend these records, or leave them out",
        )


def _first_bad_byte(path: Path) -> tuple[int, int, int] | None:
    """Where UTF-8 ends in a text: offset from 0 (decompressed), line from 1, the byte itself."""
    if not path.is_file() or decoders.file_format(path)[0] == ".parquet":
        return None
    offset, line, rest = 0, 1, b""
    with decoders.opened(path) as stream:
        while True:
            piece = stream.read(decoders.BLOCK_BYTES)
            data: bytes = rest + piece
            try:
                _, used = codecs.utf_8_decode(data, "strict", not piece)
            except UnicodeDecodeError as error:
                line += data.count(b"\n", 0, error.start)
                return offset + error.start, line, data[error.start]
            if not piece:
                return None
            offset, line, rest = offset + used, line + data.count(b"\n", 0, used), data[used:]


def broken(path: Source, error: Exception) -> DataError:
    """What a decoder said about the file as a whole, in our words where they are known."""
    if not isinstance(path, Path):
        return DataError(
            "a column of values that are neither texts, numbers nor chats",
            where=str(path),
            expected="columns that can be read as text",
            got=type(error).__name__,  # its words may quote a record
            advice="cast them in the query",
        )
    suffix, _ = decoders.file_format(path)
    return DataError(
        "unreadable file",
        where=str(path),
        expected=f"a whole, readable {suffix} file",
        got=error,
        advice="write the file again",
    )
