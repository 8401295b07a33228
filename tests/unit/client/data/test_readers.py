"""Readers' data: what is read, what is refused in which words, what an admitted run survives."""

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from presspool.client.data import readers as module
from presspool.client.data.readers import Readers, distinct, read_readers
from presspool.common.base.errors import DataError, InputError
from presspool.common.data import decoders, table_refusals
from presspool.common.data.tables import Columns
from presspool.common.tasks.classification import Classification, ClassificationTable, labelled

LABELS = ["news", "sport"]
NAMES = ("reader", "text", "label")
SUFFIXES = [f"{suffix}{gz}" for suffix in decoders.FORMATS for gz in ("", ".gz")]
ROWS = [
    ("bob", "Cup, final", "sport"),
    ("ann", 'A "quiet"\nvote', "news"),
    ("bob", "Élection — 選挙", "news"),
]


def write(path: Path, rows: Sequence[Sequence[object]], names: Sequence[str] = NAMES) -> Path:
    """Writes rows in the format that the file's suffixes name."""
    if ".csv" in path.suffixes:
        text = io.StringIO(newline="")
        csv.writer(text).writerows([names, *rows])
        data = text.getvalue().encode()
    elif ".parquet" in path.suffixes:
        buffer = io.BytesIO()
        columns = [pa.array(column) for column in zip(*rows, strict=True)]
        pq.write_table(pa.table(dict(zip(names, columns, strict=True))), buffer)
        data = buffer.getvalue()
    else:
        lines = (json.dumps(dict(zip(names, row, strict=True))) for row in rows)
        data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def task_for(labels: Sequence[str]) -> Classification:
    return Classification(ClassificationTable.model_construct(labels=tuple(labels)))


def read(path: Path, *, strict: bool = True, labels: Sequence[str] = LABELS) -> Readers:
    return read_readers(path, columns=Columns(), task=task_for(labels), strict=strict)


def content(readers: Readers) -> list[list[tuple[str, int]]]:
    """Each reader's (text, label) pairs."""
    pairs = list(
        zip(readers.table["text"].to_pylist(), readers.table["label"].to_pylist(), strict=True)
    )
    ends = readers.offsets.tolist()
    return [pairs[start:end] for start, end in pairwise(ends)]


def refusal(path: Path, labels: Sequence[str] = LABELS) -> str:
    with pytest.raises(DataError) as caught:
        read(path, labels=labels)
    assert caught.value.exit_code == 2
    return str(caught.value)


# --- What is read ------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_readers_in_order_of_appearance(suffix: str, tmp_path: Path) -> None:
    readers = read(write(tmp_path / f"data{suffix}", ROWS))
    assert content(readers) == [
        [("Cup, final", 1), ("Élection — 選挙", 0)],
        [('A "quiet"\nvote', 0)],
    ]
    assert (readers.readers, readers.records, readers.dropped) == (2, 3, {})
    assert readers.take(np.array([2, 0]))["text"].to_pylist() == ['A "quiet"\nvote', "Cup, final"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_integer_ids_and_labels_are_their_digits(suffix: str, tmp_path: Path) -> None:
    rows = [(7, "a", 1), (-12, "b", 0), (7, "c", 0)]
    readers = read(write(tmp_path / f"data{suffix}", rows), labels=["0", "1"])
    assert content(readers) == [[("a", 1), ("c", 0)], [("b", 0)]]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_are_mapped_and_others_ignored(suffix: str, tmp_path: Path) -> None:
    names = ("topic", "when", "user", "title")
    rows = [("news", "2024-05-01", "2024-05-01", "a"), ("sport", "x", "2024-05-01 00:00:00", "b")]
    path = write(tmp_path / f"data{suffix}", rows, names)
    columns = Columns(reader="user", text="title", label="topic")
    readers = read_readers(path, columns=columns, task=task_for(LABELS), strict=True)
    assert content(readers) == [[("a", 0)], [("b", 1)]]  # ids that look like dates stay apart


def test_parquet_of_many_column_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "reader": pa.array([1.0, None, 1.0, float("nan")]),  # as pandas keeps ids with gaps
            "text": pa.array(["a", "b", "c", "d"], pa.string_view()),
            "label": pa.array(["news", "news", "sport", "news"]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "data.parquet")
    readers = read(tmp_path / "data.parquet", strict=False)
    assert content(readers) == [[("a", 0), ("c", 1)]]
    assert readers.dropped == {module.NULL_READER: 2}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_blank_texts_and_labels_are_left_out_and_counted(suffix: str, tmp_path: Path) -> None:
    rows = [("a", "x", "news"), ("b", " \t\u3000", "news"), ("c", "", "news"), ("d", "y", "")]
    readers = read(write(tmp_path / f"data{suffix}", rows))
    assert content(readers) == [[("x", 0)]]
    assert readers.dropped == {"null or empty text": 2, "null or empty label": 1}


@pytest.mark.parametrize("count", [15_000, pytest.param(200_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_many_records_cost_no_python_object_each(suffix: str, count: int, tmp_path: Path) -> None:
    rows = [(f"reader {i % 5003}", f"text number {i}", LABELS[i % 2]) for i in range(count)]
    path = write(tmp_path / f"data{suffix}", rows)
    tracemalloc.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decoders, "BLOCK_BYTES", 1 << 18)
            readers = read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # One row as three Python strings takes 170 bytes and more; the numpy arrays here about 40.
    assert peak < 80 * count
    assert (readers.readers, readers.records) == (5003, count)
    first = readers.take(np.arange(readers.offsets[1]))["text"].to_pylist()
    assert first == [f"text number {i}" for i in range(0, count, 5003)]


def test_labels_that_occur_are_listed_sorted(tmp_path: Path) -> None:
    path = write(tmp_path / "data.csv", [("a", "x", "b"), ("a", "", "a"), ("b", "z", "")])
    assert distinct(path, "label") == ["a", "b"]


def test_readers_arrays_cannot_be_written(tmp_path: Path) -> None:
    readers = read(write(tmp_path / "data.csv", ROWS))
    with pytest.raises(ValueError, match="read-only"):
        readers.offsets[0] = 1


@pytest.mark.parametrize("offsets", [[0, 1], [1, 2], [0, 2, 1, 2], [0, 0, 2], []])
def test_readers_refuse_offsets_that_do_not_fit(offsets: list[int]) -> None:
    with pytest.raises(DataError):
        Readers(
            table=labelled(["a", "b"], [0, 1]),
            offsets=np.array(offsets, dtype=np.int64),
        )


# --- What strict reading refuses, and in which words --------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_faults_of_the_file_itself_are_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"data{suffix}"
    assert "missing file" in refusal(path)
    assert "missing column 'label'" in refusal(write(path, ROWS, ("reader", "text", "topic")))
    whole = write(path, ROWS).read_bytes()
    path.write_bytes(whole[:-12] if path.suffix == ".gz" else b"")
    assert ("unreadable file" if path.suffix == ".gz" else "empty file") in refusal(path)


@pytest.mark.parametrize("name", ["data.csv", "data.jsonl"])
def test_wrong_encoding_is_refused(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, [("a", "caf#", "news")])
    path.write_bytes(path.read_bytes().replace(b"#", b"\xe9"))
    assert "wrong encoding" in refusal(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_null_readers_are_counted_and_the_first_named(suffix: str, tmp_path: Path) -> None:
    empty = "" if ".csv" in suffix else None
    rows = [("a", "x", "news"), (empty, "y", "news"), (empty, "z", "news")]
    message = refusal(write(tmp_path / f"data{suffix}", rows))
    assert "null reader" in message
    assert "2 of 3 records, the first is record 2" in message


def test_record_numbers_count_over_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "BLOCK_BYTES", 256)
    monkeypatch.setattr(decoders, "BATCH_ROWS", 10)
    rows = [("a", "x", "news")] * 150 + [("", "y", "news")] + [("a", "x", "news")] * 50
    for suffix in SUFFIXES:
        assert "1 of 201 records, the first is record 151" in refusal(
            write(tmp_path / f"data{suffix}", rows)
        )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_unknown_labels_are_named_with_their_number(suffix: str, tmp_path: Path) -> None:
    rows = [("a", "x", "news"), ("b", "y", "sports"), ("c", "z", "sports"), ("d", "z", "arts")]
    message = refusal(write(tmp_path / f"data{suffix}", rows))
    assert "'sports' (2 times), 'arts' (once)" in message
    assert "one of 'news', 'sport'" in message
    assert "did you mean 'sport'?" in message
    assert "3 of 4 records, the first is record 2" in message


def test_labels_that_are_free_text(tmp_path: Path) -> None:
    rows = [("a", "x", f"label {i}") for i in range(module.MAX_LABELS + 1)]
    path = write(tmp_path / "data.csv", rows)
    with pytest.raises(DataError, match="does not look like labels"):
        distinct(path, "label")
    with pytest.raises(DataError, match="no labels"):
        distinct(write(path, [("a", "x", "")]), "label")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_reader_after_filtering(suffix: str, tmp_path: Path) -> None:
    message = refusal(write(tmp_path / f"data{suffix}", [("a", " ", "news"), ("b", "", "news")]))
    assert "0 readers; of 2 records were left out: 2 null or empty text" in message


def test_a_header_without_records(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    for end in ("", "\n", "\n\n"):
        path.write_text("reader,text,label" + end)
        assert "0 readers" in refusal(path)


def test_a_quote_left_open_over_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file as a whole, with the line: never the records before it alone."""
    monkeypatch.setattr(decoders, "BLOCK_BYTES", 64)
    path = tmp_path / "data.csv"
    path.write_text("reader,text,label\n" + "a,x,news\n" * 20 + 'b,"y,news\n' + "c,z,sport\n" * 20)
    assert "begins in line 22" in refusal(path)
    assert "close every quote" in refusal(path)
    kept = read(path, strict=False)
    assert kept.readers == 0
    assert kept.dropped == {module.BROKEN_FILE: 1}


BAD_LINES = [
    b"{",
    b"[1]",
    b'{"reader": "b", "text": [["y"]], "label": "news"}',
    b'{"reader": "b", "text": "\\ud800", "label": "news"}',
    b'{"reader": "b", "text": "\\udce9", "label": "news"}',
    b'{"reader": "b"}{"reader": "c"}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: line[:30].decode())
def test_unreadable_json_lines(line: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", ROWS)
    good = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([good[0], line + b"\n", *good[1:]]))
    assert "1 of 4 records, the first is record 2" in refusal(path)
    kept = read(path, strict=False)
    assert kept.dropped == {decoders.UNREADABLE: 1}
    assert content(kept) == content(read(write(tmp_path / "good.jsonl", ROWS)))


def test_a_json_line_beyond_the_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "RECORD_BYTES", 128)
    path = write(tmp_path / "data.jsonl", [ROWS[0], ("x", "y" * 1000, "news"), *ROWS[1:]])
    kept = read(path, strict=False)
    assert kept.dropped == {decoders.UNREADABLE: 1}
    assert content(kept) == content(read(write(tmp_path / "good.jsonl", ROWS)))


def test_a_parquet_column_of_lists(tmp_path: Path) -> None:
    table = pa.table({"reader": ["a"], "text": [[["x"]]], "label": ["news"]})
    pq.write_table(table, tmp_path / "data.parquet")
    assert "list" in refusal(tmp_path / "data.parquet")
    assert read(tmp_path / "data.parquet", strict=False).readers == 0


@pytest.mark.parametrize("labels", [[], ["a", "a"], ["a", ""]])
def test_labels_must_differ(labels: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="labels"):
        read(write(tmp_path / "data.csv", ROWS), labels=labels, strict=False)


# --- What an admitted run survives --------------------------------------------------------------


def no_file(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 10)


@pytest.mark.parametrize("spoil", [no_file, empty, a_folder, garbage])
@pytest.mark.parametrize("suffix", [*SUFFIXES, ".xlsx"])
def test_lenient_reading_gives_no_readers(
    suffix: str, spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    path = write(tmp_path / f"data{suffix}", ROWS)
    spoil(path)
    readers = read(path, strict=False)
    assert (readers.readers, readers.records, readers.table.num_rows) == (0, 0, 0)
    assert sum(readers.dropped.values()) > 0


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_lenient_reading_drops_and_counts_each_reason(suffix: str, tmp_path: Path) -> None:
    rows = [
        ("", "x", "news"),
        ("b", "", "arts"),
        ("c", "z", ""),
        ("d", "z", "arts"),
        *ROWS,
        ("", "", ""),
    ]
    readers = read(write(tmp_path / f"data{suffix}", rows), strict=False)
    assert content(readers) == content(read(write(tmp_path / "good.csv", ROWS)))
    assert readers.dropped == {
        module.NULL_READER: 2,
        "null or empty text": 1,
        "null or empty label": 1,
        "unknown label": 1,
    }


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_bad_byte_costs_its_own_record_only(suffix: str, tmp_path: Path) -> None:
    good = [ROWS[0], *[("c", f"text {i}", "news") for i in range(30)], *ROWS[1:]]
    path = tmp_path / f"data{suffix}"
    if ".parquet" in suffix:
        rows = [tuple(value.encode() for value in row) for row in good]
        write(path, [*rows[:3], (b"x", b"caf\xe9", b"news"), *rows[3:]])
    else:
        write(path, [*good[:3], ("x", "caf#", "news"), *good[3:]])
        data = path.read_bytes()
        if suffix.endswith(".gz"):
            path.write_bytes(gzip.compress(gzip.decompress(data).replace(b"caf#", b"caf\xe9")))
        else:
            path.write_bytes(data.replace(b"caf#", b"caf\xe9"))
    readers = read(path, strict=False)
    assert content(readers) == content(read(write(tmp_path / "good.csv", good)))
    assert readers.dropped == {table_refusals.NOT_UTF8: 1}
