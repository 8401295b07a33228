"""Tables: what is decoded, what is refused in which words, and strict reading of whole files."""

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from presspool.client.identity.settings import read_settings
from presspool.common.base.errors import ContractError, DataError, InputError
from presspool.common.base.validation import validate
from presspool.common.data import decoders
from presspool.common.data.decoders import Tally
from presspool.common.data.tables import Columns, Mapped, batches, read_records, read_table
from presspool.common.runs.run_file import Simulation
from presspool.common.tasks.classification import Classification, ClassificationTable

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


def tuples(table: pa.Table) -> list[tuple[str, ...]]:
    return [tuple(row.values()) for row in table.to_pylist()]


def read(path: Path) -> list[tuple[str, ...]]:
    return tuples(read_table(path, dict(zip(NAMES, NAMES, strict=True))))


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.exit_code == 2
    return str(caught.value)


# --- What is decoded ------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_table(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"data{suffix}", ROWS)
    table = read_table(path, {"who": "reader", "what": "text"})
    assert table.schema == pa.schema([("who", pa.large_string()), ("what", pa.large_string())])
    assert tuples(table) == [row[:2] for row in ROWS]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_many_batches_become_one_chunk(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "BLOCK_BYTES", 256)
    monkeypatch.setattr(decoders, "BATCH_ROWS", 10)
    path = write(tmp_path / f"data{suffix}", ROWS * 30)
    assert len(list(batches(path, NAMES, Tally()))) > 3
    table = read_table(path, dict(zip(NAMES, NAMES, strict=True)))
    assert tuples(table) == ROWS * 30
    assert {column.num_chunks for column in table.columns} == {1}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_column_of_the_file_may_be_two_of_the_table(suffix: str, tmp_path: Path) -> None:
    """As where records are split by the column of their labels."""
    path = write(tmp_path / f"data{suffix}", ROWS)
    table = read_table(path, {"label": "label", "reader": "reader", "outlet": "label"})
    assert tuples(table) == [(label, reader, label) for reader, _, label in ROWS]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_batches_mark_what_is_not_utf8_and_count_what_was_seen(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"data{suffix}"
    if ".parquet" in suffix:
        write(path, [("a", b"x", "news"), ("b", b"caf\xe9", "news")])
    else:
        write(path, [("a", "x", "news"), ("b", "caf#", "news")])
        data = path.read_bytes()
        raw = gzip.decompress(data) if suffix.endswith(".gz") else data
        raw = raw.replace(b"#", b"\xe9")
        path.write_bytes(gzip.compress(raw) if suffix.endswith(".gz") else raw)
    tally = Tally()
    ((text, label),) = batches(path, ("text", "label"), tally)
    assert text[0].to_pylist() == ["x", None]
    assert text[1].tolist() == [False, True]
    assert label[0].to_pylist() == ["news", "news"]
    assert not label[1].any()
    assert tally == Tally(seen=2)


@pytest.mark.parametrize("name", ["data.csv", "data.jsonl"])
def test_byte_order_mark_and_windows_line_ends(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, ROWS)
    data = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + data)
    quiet = 'A "quiet"\r\nvote' if name.endswith(".csv") else ROWS[1][1]  # inside quotes, kept
    assert read(path) == [ROWS[0], ("ann", quiet, "news"), ROWS[2]]


@pytest.mark.parametrize("block", [255, 256])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_characters_cut_by_a_block_border_are_whole_again(
    suffix: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "BLOCK_BYTES", block)
    path = write(tmp_path / f"data{suffix}", [("a", "é選😀" * 5, "news")] * 30)
    assert read(path) == [("a", "é選😀" * 5, "news")] * 30


def test_json_lines_of_mixed_types_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(
        '{"reader": 1, "text": "a", "label": "news"}\n\n'
        '{"reader": "1", "text": "b", "label": "sport", "more": {"x": [1]}}\n \n'
        '{"reader": 1.0, "text": "c", "label": "news"}\n'
        '{"reader": true, "text": 5, "label": "news"}'
    )
    assert read(path) == [
        ("1", "a", "news"),
        ("1", "b", "sport"),
        ("1", "c", "news"),
        ("true", "5", "news"),
    ]


# --- What is refused, and in which words ----------------------------------------------------------


def test_missing_file(tmp_path: Path) -> None:
    assert "missing file" in refusal(tmp_path / "no.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "a folder" in refusal(tmp_path / "folder.csv")
    (tmp_path / "folder").mkdir()
    assert "a folder" in refusal(tmp_path / "folder")  # not "unknown format"


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
    assert all(suffix in message for suffix in [*decoders.FORMATS, ".gz", "data.xlsx"])


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
    monkeypatch.setattr(decoders, "BLOCK_BYTES", len(good.encode()) | 1)
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
    assert read(path) == [("a", "b", "news")]
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'{"reader": "a", "text": "b", "label": "news", "caf\xe9": "caf\xe9"}\n')
    assert read(path) == [("a", "b", "news")]


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


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_list_of_words_is_no_text(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"data{suffix}", [("a", ["Cup", "final"], "sport")])
    message = refusal(path)
    assert "unreadable record" in message or "cast from list" in message
    write(path, [("a", ["B-LOC"], "sport")], ("reader", "tags", "label"))
    assert read_table(path, {"tags": "tags"}).to_pylist() == [{"tags": '["B-LOC"]'}]


@pytest.mark.parametrize("line", ["b,y", "b,y,news,more"])
def test_ragged_csv_rows(line: str, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text(f"reader,text,label\na,x,news\n{line}\nc,z,sport\n")
    message = refusal(path)
    assert "unreadable record" in message
    assert "1 of 3 records, the first is record 2" in message


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix.endswith(".gz")])
def test_broken_compression(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"data{suffix}", ROWS)
    path.write_bytes(path.read_bytes()[:-12])
    assert "unreadable file" in refusal(path)
    path.write_bytes(b"not gzip at all")
    assert "unreadable file" in refusal(path)


@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if not s.startswith(".csv")])
def test_nulls_are_refused_by_column_number_and_first_record(suffix: str, tmp_path: Path) -> None:
    rows = [("a", "x", "news"), ("b", None, "news"), ("c", "z", None), ("d", None, "news")]
    message = refusal(write(tmp_path / f"data{suffix}", rows))
    assert "null in column 'text'" in message
    assert "2 of 4 records, the first is record 2" in message
    path = write(tmp_path / f"data{suffix}", [row for row in rows if row[1] is not None])
    assert "null in column 'label'" in refusal(path)
    assert tuples(read_table(path, {"reader": "reader"})) == [("a",), ("c",)]


def test_an_empty_cell_of_a_csv_file_is_an_empty_text(tmp_path: Path) -> None:
    assert read(write(tmp_path / "data.csv", [("a", "", "news")])) == [("a", "", "news")]


def test_bad_records_are_counted_over_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "BLOCK_BYTES", 256)
    monkeypatch.setattr(decoders, "BATCH_ROWS", 10)
    rows = [("a", "x", "news")] * 150 + [("a", None, "news")] + [("a", "x", "news")] * 50
    for suffix in (".jsonl", ".parquet", ".jsonl.gz", ".parquet.gz"):
        message = refusal(write(tmp_path / f"data{suffix}", rows))
        assert "1 of 201 records, the first is record 151" in message


def test_a_parquet_value_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "data.parquet", [(b"a", b"x", b"y"), (b"\xff", b"\xff", b"z")])
    message = refusal(path)
    assert "wrong encoding" in message
    assert "1 of 2 records, the first is record 2" in message  # both cells are one record


def test_no_records(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("reader,text,label\n")
    assert "no records" in refusal(tmp_path / "data.csv")


# --- A public held-out file -----------------------------------------------------------------------


TASK = Classification(ClassificationTable(labels=("news", "sport")))


def held_out(path: Path, *, text: str = "text", label: str = "label") -> str:
    with pytest.raises(DataError) as caught:
        read_records(path, TASK, Mapped(text=text, label=label))
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_texts_and_the_indices_of_their_labels(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"data{suffix}", ROWS, ("who", "title", "topic"))
    task = Classification(ClassificationTable(labels=("x", "sport", "news")))
    found = read_records(path, task, Mapped(text="title", label="topic"))
    assert found["text"].to_pylist() == [text for _, text, _ in ROWS]
    assert found["label"].to_pylist() == [1, 2, 2]
    assert found["label"].type == pa.int64()


def test_unknown_labels_say_which_how_often_and_what_is_known(tmp_path: Path) -> None:
    rows = [*ROWS, ("a", "x", "sports"), ("a", "x", "arts"), ("a", "x", "sports")]
    message = held_out(write(tmp_path / "data.csv", rows))
    assert "column 'label': unknown label" in message
    assert "'sports' (2 times), 'arts' (once)" in message
    assert "3 of 6 records, the first is record 4" in message
    assert "one of 'news', 'sport'" in message
    assert "did you mean 'sport'?" in message


def test_a_held_out_file_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    assert "missing file" in held_out(path)
    path.write_bytes(b"")
    assert "empty file" in held_out(path)
    path.write_text("text,label\n")
    assert "no records" in held_out(path)
    write(path, ROWS)
    assert "did you mean 'text'?" in held_out(path, text="texts")
    assert "missing column 'topic'" in held_out(path, label="topic")


# --- The mapping of columns -----------------------------------------------------------------------


@pytest.mark.parametrize("names", [{"reader": "text"}, {"label": ""}])
def test_columns_must_be_named_and_differ(names: Mapping[str, str]) -> None:
    with pytest.raises(InputError, match="column mapping") as caught:
        validate(Columns, names, where="--reader, --text, --label")
    assert "--reader, --text, --label" in str(caught.value)
    with pytest.raises(ValueError, match="column mapping"):
        Columns(**names)


def test_a_mapping_in_a_users_file_is_refused_with_file_and_key(tmp_path: Path) -> None:
    path = tmp_path / "outlet.toml"
    path.write_text('name = "x"\ndata = "d.csv"\n[columns]\nraeder = "user"\n')
    with pytest.raises(InputError, match="unknown key") as unknown:
        read_settings(path)
    assert f"{path} [columns] raeder" in str(unknown.value)
    assert "did you mean 'reader'?" in str(unknown.value)
    path.write_text('name = "x"\ndata = "d.csv"\n[columns]\nreader = "text"\n')
    with pytest.raises(InputError, match="column mapping") as twice:
        read_settings(path)
    assert f"{path} columns" in str(twice.value)
    assert "'text', 'text', 'label'" in str(twice.value)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"txt": "title"}, "did you mean 'text'?"),
        ({"label": ""}, "column mapping"),
        ({"label": 3}, "text in quotes"),
    ],
)
def test_a_mapping_in_a_run_file_is_refused(table: Mapping[str, object], words: str) -> None:
    with pytest.raises(ContractError) as caught:
        validate(Simulation, {"data": "d.csv", "columns": table}, where="run.toml [simulation]")
    assert "run.toml [simulation]" in str(caught.value)
    assert "columns" in str(caught.value)
    assert words in str(caught.value)


def test_a_mapping_is_frozen_and_hashable() -> None:
    assert len({Columns(), Columns(reader="user"), Columns()}) == 2
    with pytest.raises(ValueError, match="frozen"):
        Columns().reader = "x"
