r"""A CSV file parted into its records, each judged alone, or refused with the line at fault.

RFC 4180 §2 to the letter: a quote only ever opens or closes a value, or is half of a pair inside
one. So every record has an even number of quotes, and an accepted file is a list of records that
could each be left out, or put elsewhere, without another's becoming different. A record that has
an odd number would turn inside and outside round for all that follows it; the number of the whole
file is then odd too, which is refused at its end or, where a quote meets text, before.

Python's own `csv` finds the records and their values; what it lets pass is looked for here.

Invariant: memory is bounded by `RECORD_BYTES`, however far a quote is left open.

Example:
    >>> import io
    >>> from pathlib import Path
    >>> file = io.BytesIO(b'a,b\n1,"2, ""3"" x"\n')
    >>> [line.values for line in csv_lines(Path("x.csv"), file)]
    [['a', 'b'], ['1', '2, "3" x']]
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from presspool.common.base.errors import DataError
from presspool.common.data.remote_file import File

RECORD_BYTES = 1 << 20  # of one record in a file of text, or of one value

_FIELD = rb'(?:"(?:[^"]++|"")*+"|[^",\r\n]*+)'
_RECORD = re.compile(_FIELD + rb"(?:," + _FIELD + rb")*+\r*\n?")
_TOO_LONG = "more than"
_SAID = {  # by Python's `csv`, and what it means
    "unexpected end": "a quote that is left open",
    "',' expected": "text behind a closing quote",
    "new-line character": "a carriage return that ends no line",
}


class CsvLine(NamedTuple):
    """One record of a CSV file, or a line between two.

    Attributes:
        number: of the line at which it begins, from 1.
        raw: its bytes.
        values: as many as it has, bytes that are not UTF-8 escaped; none of an empty line.
    """

    number: int
    raw: bytes
    values: list[str]


def csv_lines(path: File, stream: BinaryIO) -> Iterator[CsvLine]:
    """The records of a CSV file, header and empty lines included.

    Args:
        path: the file, for words.
        stream: its bytes, decompressed.

    Raises:
        DataError: a quote that stands where RFC 4180 has none, or is left open; a longer record.
    """
    csv.field_size_limit(max(csv.field_size_limit(), RECORD_BYTES))
    taken: list[bytes] = []
    number, begins, room = 0, 1, RECORD_BYTES

    def lines() -> Iterator[str]:
        nonlocal number, room
        while line := stream.readline(room + 1):
            room -= len(line)
            if room < 0:
                raise csv.Error(f"{_TOO_LONG} {RECORD_BYTES:,} bytes")
            taken.append(line)
            number += 1
            text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            yield text.decode(errors="surrogateescape")

    try:
        for values in csv.reader(lines(), strict=True):
            raw = b"".join(taken)
            if b'"' in raw and not _RECORD.fullmatch(raw.removeprefix(codecs.BOM_UTF8)):
                raise csv.Error("a quote inside a value that is not in quotes")
            yield CsvLine(begins, raw, values)
            taken.clear()
            begins, room = number + 1, RECORD_BYTES
    except csv.Error as error:
        raise _refused(path, begins, str(error)) from None


def _refused(path: File, line: int, said: str) -> DataError:
    return DataError(
        "a CSV file that cannot be parted into its records",
        where=f"{path}, the record that begins in line {line}",
        expected="what RFC 4180 says: a value that holds a comma, a quote or a line break stands "
        f"in quotes, and its own quotes are doubled; at most {RECORD_BYTES:,} bytes a record",
        got=next((means for start, means in _SAID.items() if said.startswith(start)), said),
        advice="cut what is longer and leave no quote open"
        if said.startswith(_TOO_LONG)
        else "mend the line and close every quote, or write Parquet or JSON lines, which know no "
        "such faults",
    )
