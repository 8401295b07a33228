"""Properties of reading readers' data: formats agree, blocks do not matter, nothing raises."""

import csv
import gzip
import io
import json
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presspool.client.data.readers import Readers, read_readers
from presspool.common.data import decoders
from presspool.common.data.tables import Columns
from presspool.common.tasks.classification import Classification, ClassificationTable

LABELS = ["news", "sport", 'a "b",\nc', "政治"]
TASK = Classification(ClassificationTable(labels=tuple(LABELS)))
NAMES = ("reader", "text", "label")
SUFFIXES = [f"{suffix}{gz}" for suffix in decoders.FORMATS for gz in ("", ".gz")]

ODD = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("\",'\n\r\t\0 \\é😀")))
VALUE = ODD.map(lambda text: f"v{text[:30]}")  # never blank; blanks have tests of their own
READER = st.one_of(st.sampled_from(["ann", "bob", "12", 'x"y']), VALUE)
Row = tuple[str, str, str]
ROW = st.tuples(READER, VALUE, st.sampled_from(LABELS))
ROWS = st.lists(ROW, min_size=1, max_size=40)


def encode(rows: Sequence[Row], suffix: str, *, ascii_json: bool = True) -> bytes:
    if suffix.startswith(".csv"):
        text = io.StringIO(newline="")
        csv.writer(text, quoting=csv.QUOTE_ALL).writerows([NAMES, *rows])
        data = text.getvalue().encode()
    elif suffix.startswith(".parquet"):
        buffer = io.BytesIO()
        schema = pa.schema([(name, pa.string()) for name in NAMES])
        records = [dict(zip(NAMES, row, strict=True)) for row in rows]
        pq.write_table(pa.Table.from_pylist(records, schema), buffer, row_group_size=7)
        data = buffer.getvalue()
    else:
        records = [dict(zip(NAMES, row, strict=True)) for row in rows]
        data = "".join(json.dumps(r, ensure_ascii=ascii_json) + "\n" for r in records).encode()
    return gzip.compress(data, mtime=0) if suffix.endswith(".gz") else data


def read(data: bytes, suffix: str, *, strict: bool) -> Readers:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"data{suffix}")
        path.write_bytes(data)
        return read_readers(path, columns=Columns(), task=TASK, strict=strict)


def content(readers: Readers) -> list[list[tuple[str, int]]]:
    pairs = list(
        zip(readers.table["text"].to_pylist(), readers.table["label"].to_pylist(), strict=True)
    )
    ends = readers.offsets.tolist()
    return [pairs[start:end] for start, end in pairwise(ends)]


def expected(rows: Sequence[Row]) -> list[list[tuple[str, int]]]:
    """The oracle: Python's own dictionaries, row by row."""
    groups: dict[str, list[tuple[str, int]]] = {}
    for reader, text, label in rows:
        groups.setdefault(reader, []).append((text, LABELS.index(label)))
    return list(groups.values())


def lengths(few: int, many: int) -> list[object]:
    """Numbers of examples: a sample for every run, and the long count for `make soak`."""
    return [few, pytest.param(many, marks=pytest.mark.soak)]


@pytest.mark.parametrize("examples", lengths(15, 300))
def test_every_format_gives_the_same_readers(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(rows=ROWS, ascii_json=st.booleans())
    def holds(rows: list[Row], ascii_json: bool) -> None:
        for suffix in SUFFIXES:
            data = encode(rows, suffix, ascii_json=ascii_json)
            assert content(read(data, suffix, strict=True)) == expected(rows), suffix

    holds()


@pytest.mark.parametrize("examples", lengths(12, 200))
def test_block_sizes_do_not_matter(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(rows=ROWS, block=st.integers(1024, 4096), batch=st.integers(1, 50))
    def holds(rows: list[Row], block: int, batch: int) -> None:
        rows = rows * 5  # several blocks
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decoders, "BLOCK_BYTES", block)
            patch.setattr(decoders, "BATCH_ROWS", batch)
            for suffix in SUFFIXES:
                readers = read(encode(rows, suffix), suffix, strict=True)
                assert content(readers) == expected(rows), suffix

    holds()


@pytest.mark.parametrize("first", range(900, 904))
def test_a_line_break_in_quotes_may_lie_on_the_edge_of_a_block(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that works in blocks is tempted to leave out the line feed of a pair they part."""
    monkeypatch.setattr(decoders, "BLOCK_BYTES", 1024)
    rows = [("ann", "x" * first, "news"), ("bob", "ab\r\n" * 40 + ".", "news")]
    readers = read(encode(rows, ".csv"), ".csv", strict=True)
    assert content(readers) == expected(rows)


@pytest.mark.parametrize("examples", lengths(25, 300))
def test_a_line_of_other_types_changes_none_of_its_neighbours(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(rows=ROWS, number=st.integers(0), where=st.integers(0, 40))
    def holds(rows: list[Row], number: int, where: int) -> None:
        lines = encode(rows, ".jsonl").splitlines(keepends=True)
        odd = json.dumps({"reader": number, "text": "t", "label": "news"}).encode() + b"\n"
        mixed = [*rows[:where], (str(number), "t", "news"), *rows[where:]]
        readers = read(b"".join([*lines[:where], odd, *lines[where:]]), ".jsonl", strict=True)
        assert content(readers) == expected(mixed)

    holds()


BAD = {
    ".csv": [
        b"one,two\r\n",
        b'"a","b","news","more"\r\n',
        b'"a","\xff","news"\r\n',
        b"\xe9,t\r\n",  # both at once
        b",t,news\r\n",
    ],
    ".jsonl": [
        b"{\n",
        b"\xff\n",
        b'"text"\n',
        b'{"reader": null, "text": "t", "label": "news"}\n',
        b'{"reader": "a", "text": {}, "label": "news"}\n',
        b'{"reader": "a", "text": "\xe9", "label": "news"}\n',
        b'{"reader": "a", "reader": 1}\n',
    ],
}


@pytest.mark.parametrize("suffix", list(BAD))
@pytest.mark.parametrize("examples", lengths(30, 500))
def test_one_readers_bad_records_never_move_anothers(suffix: str, examples: int) -> None:
    """The unit of privacy survives the file format: a bad record drops out alone."""

    @settings(max_examples=examples, deadline=None)
    @given(rows=ROWS, data=st.data(), block=st.integers(1024, 4096))
    def holds(rows: list[Row], data: st.DataObject, block: int) -> None:
        start = b'"reader","text","label"\r\n' if suffix == ".csv" else b""
        good = [encode([row], suffix).removeprefix(start) for row in rows]
        bad = data.draw(st.lists(st.sampled_from(BAD[suffix]), min_size=1, max_size=4))
        for line in bad:
            good.insert(data.draw(st.integers(0, len(good))), line)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decoders, "BLOCK_BYTES", block)
            readers = read(start + b"".join(good), suffix, strict=False)
        assert content(readers) == expected(rows)
        assert sum(readers.dropped.values()) == len(bad)

    holds()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("examples", lengths(15, 300))
def test_arbitrary_bytes_never_stop_an_admitted_run(suffix: str, examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(data=st.binary(max_size=400))
    def holds(data: bytes) -> None:
        assert read(data, suffix, strict=False).readers >= 0
        if suffix.endswith(".gz"):
            assert read(gzip.compress(data), suffix, strict=False).readers >= 0

    holds()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("examples", lengths(15, 300))
def test_damaged_files_never_stop_an_admitted_run(suffix: str, examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(rows=ROWS, data=st.data())
    def holds(rows: list[Row], data: st.DataObject) -> None:
        whole = bytearray(encode(rows, suffix))
        for _ in range(data.draw(st.integers(1, 8))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        del whole[data.draw(st.integers(1, len(whole))) :]
        readers = read(bytes(whole), suffix, strict=False)
        assert readers.records == readers.table.num_rows == readers.offsets[-1]

    holds()
