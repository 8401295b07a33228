"""Readers' data: what is read, what is refused in which words, what an admitted run survives."""

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from presspool.client import readers as module
from presspool.client.readers import Columns, Readers, read_labels, read_readers
from presspool.common.errors import DataError, InputError

LABELS = ["news", "sport"]
NAMES = ("reader", "text", "label")
SUFFIXES = [f"{suffix}{gz}" for suffix in module.FORMATS for gz in ("", ".gz")]
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


def read(path: Path, *, strict: bool = True, labels: Sequence[str] = LABELS) -> Readers:
    return read_readers(path, columns=Columns(), labels=labels, strict=strict)


def content(readers: Readers) -> list[list[tuple[str, int]]]:
    """Each reader's (text, label) pairs."""
    pairs = list(zip(readers.text.to_pylist(), readers.label.tolist(), strict=True))
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
    assert readers.texts(np.array([2, 0])) == ['A "quiet"\nvote', "Cup, final"]


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
    readers = read_readers(path, columns=columns, labels=LABELS, strict=True)
    assert content(readers) == [[("a", 0)], [("b", 1)]]  # ids that look like dates stay apart


@pytest.mark.parametrize("name", ["data.csv", "data.jsonl"])
def test_byte_order_mark_and_windows_line_ends(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, ROWS)
    data = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + data)
    assert [len(records) for records in content(read(path))] == [2, 1]


@pytest.mark.parametrize("block", [255, 256])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_characters_cut_by_a_block_border_are_whole_again(
    suffix: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", block)
    path = write(tmp_path / f"data{suffix}", [("a", "é選😀" * 5, "news")] * 30)
    assert content(read(path)) == [[("é選😀" * 5, 0)] * 30]


def test_json_lines_of_mixed_types_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(
        '{"reader": 1, "text": "a", "label": "news"}\n\n'
        '{"reader": "1", "text": "b", "label": "sport", "more": {"x": [1]}}\n \n'
        '{"reader": 1.0, "text": "c", "label": "news"}\n'
        '{"reader": true, "text": 5, "label": "news"}'
    )
    assert content(read(path)) == [[("a", 0), ("b", 1), ("c", 0)], [("5", 0)]]


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
    assert readers.dropped == {module.NULL_TEXT: 2, module.NULL_LABEL: 1}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_many_records_cost_no_python_object_each(suffix: str, tmp_path: Path) -> None:
    count = 200_000
    rows = [(f"reader {i % 5003}", f"text number {i}", LABELS[i % 2]) for i in range(count)]
    path = write(tmp_path / f"data{suffix}", rows)
    tracemalloc.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "BLOCK_BYTES", 1 << 18)
            readers = read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # One row as three Python strings takes 170 bytes and more; the numpy arrays here about 40.
    assert peak < 80 * count
    assert (readers.readers, readers.records) == (5003, count)
    first = readers.texts(np.arange(readers.offsets[1]))
    assert first == [f"text number {i}" for i in range(0, count, 5003)]


def test_labels_that_occur_are_listed_sorted(tmp_path: Path) -> None:
    path = write(tmp_path / "data.csv", [("a", "x", "b"), ("a", "", "a"), ("b", "z", "")])
    assert read_labels(path, columns=Columns()) == ["a", "b"]


def test_readers_arrays_cannot_be_written(tmp_path: Path) -> None:
    readers = read(write(tmp_path / "data.csv", ROWS))
    with pytest.raises(ValueError, match="read-only"):
        readers.label[0] = 1


@pytest.mark.parametrize("offsets", [[0, 1], [1, 2], [0, 2, 1, 2], [0, 0, 2], []])
def test_readers_refuse_offsets_that_do_not_fit(offsets: list[int]) -> None:
    with pytest.raises(DataError):
        Readers(
            text=pa.array(["a", "b"], pa.large_string()),
            label=np.array([0, 1]),
            offsets=np.array(offsets, dtype=np.int64),
        )


# --- What strict reading refuses, and in which words --------------------------------------------


def test_missing_file(tmp_path: Path) -> None:
    assert "missing file" in refusal(tmp_path / "no.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "a folder" in refusal(tmp_path / "folder.csv")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_empty_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"data{suffix}"
    path.write_bytes(b"")
    assert "empty file" in refusal(path)
    path.write_bytes(gzip.compress(b"") if suffix.endswith(".gz") else b"\n")
    assert any(word in refusal(path) for word in ("empty file", "no JSON lines", "unreadable"))


def test_unknown_format_lists_the_formats(tmp_path: Path) -> None:
    path = tmp_path / "data.xlsx"
    path.write_bytes(b"x")
    message = refusal(path)
    assert all(suffix in message for suffix in [*module.FORMATS, ".gz", "data.xlsx"])


@pytest.mark.parametrize("name", ["data.csv", "data.jsonl"])
def test_wrong_encoding_names_byte_and_line(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, [("a", "x", "news"), ("b", "caf#", "news")])
    data = path.read_bytes().replace(b"#", b"\xe9")
    path.write_bytes(data)
    message = refusal(path)
    line = data[: data.index(b"\xe9")].count(b"\n") + 1
    assert f"0xe9 at offset {data.index(0xE9)}, line {line}" in message
    assert "the first is record 2" in message
    assert "UTF-8" in message


def test_wrong_encoding_across_a_block_border_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data.jsonl"
    good = '{"reader": "a", "text": "' + "é" * 200 + '", "label": "news"}\n'
    head = f'{good}{good}{{"reader": "a", "label": "news", "text": "'.encode()
    monkeypatch.setattr(module, "BLOCK_BYTES", len(good.encode()) | 1)
    path.write_bytes(head + b'\xc3"}')
    assert f"0xc3 at offset {len(head)}, line 3" in refusal(path)


@pytest.mark.parametrize("name", ["data.csv", "data.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_utf_16_and_32_are_named(name: str, encoding: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, ROWS)
    path.write_bytes(path.read_bytes().decode().encode(encoding))
    assert "wrong encoding" in refusal(path)


def test_another_encoding_in_columns_not_asked_for_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(b"reader,text,label,caf\xe9\na,b,news,caf\xe9\n")
    assert content(read(path)) == [[("b", 0)]]
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'{"reader": "a", "text": "b", "label": "news", "caf\xe9": "caf\xe9"}\n')
    assert content(read(path)) == [[("b", 0)]]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_column_lists_those_there_and_the_nearest(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"data{suffix}", ROWS, ("Readers", "text", "topic"))
    message = refusal(path)
    assert "missing column 'reader'" in message
    assert "'Readers', 'text', 'topic'" in message
    assert "did you mean 'Readers'?" in message


def test_semicolons_between_columns_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("reader;text;label\na;b;news\n")
    assert "separate the columns by commas" in refusal(path)


def test_a_column_that_is_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("reader,text,text,label\na,b,c,news\n")
    assert "column 'text' is there 2 times" in refusal(path)


def test_a_json_array_is_not_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps([dict(zip(NAMES, row, strict=True)) for row in ROWS], indent=1))
    assert "one JSON object a line" in refusal(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_null_readers_are_counted_and_the_first_named(suffix: str, tmp_path: Path) -> None:
    empty = "" if ".csv" in suffix else None
    rows = [("a", "x", "news"), (empty, "y", "news"), (empty, "z", "news")]
    message = refusal(write(tmp_path / f"data{suffix}", rows))
    assert "null reader" in message
    assert "2 of 3 records, the first is record 2" in message


def test_record_numbers_count_over_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 256)
    monkeypatch.setattr(module, "BATCH_ROWS", 10)
    rows = [("a", "x", "news")] * 150 + [("", "y", "news")] + [("a", "x", "news")] * 50
    for suffix in SUFFIXES:
        assert "1 of 201 records, the first is record 151" in refusal(
            write(tmp_path / f"data{suffix}", rows)
        )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_unknown_labels_are_named_with_their_number(suffix: str, tmp_path: Path) -> None:
    rows = [("a", "x", "news"), ("b", "y", "sports"), ("c", "z", "sports"), ("d", "z", "arts")]
    message = refusal(write(tmp_path / f"data{suffix}", rows))
    assert "'sports' (2 times), 'arts' (1 times)" in message
    assert "one of 'news', 'sport'" in message
    assert "did you mean 'sport'?" in message
    assert "3 of 4 records, the first is record 2" in message


def test_labels_that_are_free_text(tmp_path: Path) -> None:
    rows = [("a", "x", f"label {i}") for i in range(module.MAX_LABELS + 1)]
    path = write(tmp_path / "data.csv", rows)
    with pytest.raises(DataError, match="does not look like labels"):
        read_labels(path, columns=Columns())
    with pytest.raises(DataError, match="no labels"):
        read_labels(write(path, [("a", "x", "")]), columns=Columns())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_reader_after_filtering(suffix: str, tmp_path: Path) -> None:
    message = refusal(write(tmp_path / f"data{suffix}", [("a", " ", "news"), ("b", "", "news")]))
    assert "0 readers; of 2 records were left out: 2 null or empty text" in message


def test_a_header_without_records(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("reader,text,label")
    assert "empty file" in refusal(path)
    path.write_text("reader,text,label\n")
    assert "0 readers" in refusal(path)


@pytest.mark.parametrize("line", ["b,y", "b,y,news,more"])
def test_ragged_csv_rows(line: str, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text(f"reader,text,label\na,x,news\n{line}\nc,z,sport\n")
    message = refusal(path)
    assert "unreadable record" in message
    assert "1 of 3 records, the first is record 2" in message


def test_a_quote_left_open_over_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 64)
    path = tmp_path / "data.csv"
    path.write_text("reader,text,label\n" + "a,x,news\n" * 20 + 'b,"y,news\n' + "c,z,sport\n" * 20)
    assert "close every quote" in refusal(path)
    kept = read(path, strict=False)
    assert kept.readers == 1
    assert kept.dropped == {module.BROKEN_FILE: 1}


BAD_LINES = [
    b"{",
    b"[1]",
    b'{"reader": "b", "text": ["y"], "label": "news"}',
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
    assert kept.dropped == {module.UNREADABLE: 1}
    assert content(kept) == content(read(write(tmp_path / "good.jsonl", ROWS)))


def test_a_json_line_beyond_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 128)
    path = write(tmp_path / "data.jsonl", [ROWS[0], ("x", "y" * 1000, "news"), *ROWS[1:]])
    kept = read(path, strict=False)
    assert kept.dropped == {module.UNREADABLE: 1}
    assert content(kept) == content(read(write(tmp_path / "good.jsonl", ROWS)))


def test_a_parquet_column_of_lists(tmp_path: Path) -> None:
    table = pa.table({"reader": ["a"], "text": [["x"]], "label": ["news"]})
    pq.write_table(table, tmp_path / "data.parquet")
    assert "list" in refusal(tmp_path / "data.parquet")
    assert read(tmp_path / "data.parquet", strict=False).readers == 0


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix.endswith(".gz")])
def test_broken_compression(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"data{suffix}", ROWS)
    path.write_bytes(path.read_bytes()[:-12])
    assert "unreadable file" in refusal(path)
    path.write_bytes(b"not gzip at all")
    assert "unreadable file" in refusal(path)


@pytest.mark.parametrize("names", [{"reader": "text"}, {"label": ""}])
def test_columns_must_be_named_and_differ(names: Mapping[str, str]) -> None:
    with pytest.raises(InputError, match="column mapping"):
        Columns(**names)


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
    assert (readers.readers, readers.records, len(readers.text)) == (0, 0, 0)
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
        module.NULL_TEXT: 1,
        module.NULL_LABEL: 1,
        module.UNKNOWN_LABEL: 1,
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
    assert readers.dropped == {module.NOT_UTF8: 1}
