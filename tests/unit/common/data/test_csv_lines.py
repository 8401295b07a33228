"""RFC 4180 to the letter: what is accepted is a list of records that could each stand alone."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presspool.common.base.errors import DataError
from presspool.common.data import csv_lines as module
from presspool.common.data.csv_lines import CsvLine, csv_lines

BYTES = st.lists(st.sampled_from([b'"', b",", b"\n", b"\r\n", b"x", b'""', b'"y"', b"\xff"]))


def lines_of(data: bytes) -> list[CsvLine]:
    return list(csv_lines(Path("x.csv"), io.BytesIO(data)))


def refusal(data: bytes) -> str:
    with pytest.raises(DataError) as caught:
        lines_of(data)
    return str(caught.value)


@settings(max_examples=400, deadline=None)
@given(data=BYTES.map(b"".join))
def test_every_record_of_an_accepted_file_is_the_same_alone(data: bytes) -> None:
    try:
        found = lines_of(data)
    except DataError:
        return
    assert b"".join(line.raw for line in found) == data
    for line in found:
        assert [alone.values for alone in lines_of(line.raw)] == [line.values]
        assert line.raw.count(b'"') % 2 == 0
    ends = [sum(line.raw.count(b"\n") for line in found[:i]) for i in range(len(found))]
    assert [line.number - 1 for line in found] == ends


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.text(st.sampled_from('",\r\n xé'), max_size=5), min_size=2, max_size=3))
)
def test_what_python_writes_is_read_as_it_was(rows: list[list[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    assert [line.values for line in lines_of(text.getvalue().encode())] == rows


def test_lines_are_counted_over_line_breaks_in_quotes_and_empty_lines() -> None:
    found = lines_of(b'a,b\n\n"1\n\n2",3\r\n4,5')
    assert [line.number for line in found] == [1, 2, 3, 6]
    assert [line.values for line in found] == [["a", "b"], [], ["1\n\n2", "3"], ["4", "5"]]


@pytest.mark.parametrize(
    ("record", "got"),
    [
        (b'"x', "a quote that is left open"),
        (b'"x"y', "text behind a closing quote"),
        (b'x"y"', "a quote inside a value that is not in quotes"),
        (b"x\ry", "a carriage return that ends no line"),
    ],
)
def test_faults_are_said_in_words_with_their_line(record: bytes, got: str) -> None:
    said = refusal(b"a\nb\n" + record + b"\nc\n")
    assert "x.csv, the record that begins in line 3" in said
    assert got in said


def test_a_record_has_a_cap_however_its_lines_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECORD_BYTES", 100)
    whole = b'"' + b"x\n" * 48 + b'"\n'
    assert len(lines_of(whole * 3)) == 3
    for longer in (b"x" * 101, b'"' + b"\n" * 99 + b'"', b'"' + b"\n" * 1000):
        assert "more than 100 bytes" in refusal(whole + longer)
