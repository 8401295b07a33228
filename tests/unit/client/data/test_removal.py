"""One reader's records leave a file; every other byte or value stays, or nothing happens at all."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presspool.client.data import removal
from presspool.client.data.readers import read_readers
from presspool.client.data.removal import DRAFTS, Removal, remove
from presspool.common.data.tables import Columns
from presspool.common.tasks.classification import Classification, ClassificationTable

TASK = Classification(ClassificationTable(labels=("news", "sport")))
NAMES = Columns(reader="user id", text="title", label="topic")
COLUMNS = ("user id", "title", "topic")
ROWS = [
    ("ann", "Cup final", "sport"),
    ("bob", 'He said "no", twice', "news"),
    ("Ann", "Ann is not ann", "news"),
    ("ann", "Line\nbreak, and a comma", "sport"),
    ("ann2", "Gold", "sport"),
    ("", "nobody's", "news"),
    ("zoë", "ann", "news"),
    ("ann", "Über", "sport"),
]
KEPT = [row for row in ROWS if row[0] != "ann"]


def csv_of(rows: Sequence[tuple[str, ...]], end: str = "\r\n") -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator=end)
    writer.writerow(["n", *COLUMNS])
    writer.writerows([[number, *row] for number, row in enumerate(rows) if row])
    return stream.getvalue().encode()


def json_of(rows: Sequence[tuple[str, ...]]) -> bytes:
    lines = [
        json.dumps({"more": [1, {"x": None}], **dict(zip(COLUMNS, row, strict=True))})
        for row in rows
    ]
    return ("\n".join(lines) + "\n\n").encode()


def parquet_of(rows: Sequence[tuple[str, ...]]) -> bytes:
    columns = {name: [row[i] for row in rows] for i, name in enumerate(COLUMNS)}
    table = pa.table(columns | {"more": [[1, i] for i in range(len(rows))]})
    out = io.BytesIO()
    with_notes = table.replace_schema_metadata({b"made by": b"the export"})
    pq.write_table(with_notes, out, row_group_size=3, compression="zstd")
    return out.getvalue()


MAKERS: dict[str, Callable[[Sequence[tuple[str, ...]]], bytes]] = {
    ".csv": csv_of,
    ".jsonl": json_of,
    ".parquet": parquet_of,
}


def write(folder: Path, ending: str) -> Path:
    path = folder / f"readers{ending}"
    made = MAKERS[ending.removesuffix(".gz")](ROWS)
    path.write_bytes(gzip.compress(made) if ending.endswith(".gz") else made)
    return path


def content(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


@pytest.mark.parametrize("ending", [*MAKERS, *(f"{kind}.gz" for kind in MAKERS)])
def test_the_readers_records_go_and_all_else_stays(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path, ending)
    path.chmod(0o640)
    found = remove(path, columns=NAMES, reader="ann")
    assert found == Removal(records=3, removed=True)
    if ".csv" in ending:  # each record with its number, byte for byte
        numbered = [row if row[0] != "ann" else () for row in ROWS]
        assert content(path) == csv_of(numbered)
    elif ".jsonl" in ending:
        assert content(path) == json_of(KEPT)
    else:
        table = pq.read_table(io.BytesIO(content(path)))
        before = pq.read_table(io.BytesIO(parquet_of(ROWS)))
        keep = [row[0] != "ann" for row in ROWS]
        assert table.equals(before.filter(pa.array(keep)), check_metadata=True)
        assert table.schema.metadata[b"made by"] == b"the export"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert not (tmp_path / DRAFTS).exists()
    assert remove(path, columns=NAMES, reader="ann") == Removal(records=0, removed=True)


@pytest.mark.parametrize("ending", MAKERS)
def test_a_dry_run_counts_and_changes_nothing(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path, ending)
    before = (path.read_bytes(), path.stat().st_ino)
    found = remove(path, columns=NAMES, reader="ann", dry_run=True)
    assert found == Removal(records=3, removed=False)
    assert (path.read_bytes(), path.stat().st_ino) == before


def test_ids_are_what_the_reader_of_runs_makes_of_them(tmp_path: Path) -> None:
    """7, "7" and 7.0 are one reader there, and here."""
    path = tmp_path / "readers.jsonl"
    rows = [{"reader": value, "text": "x", "label": "a"} for value in (7, "7", 7.0, "07", None, 8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert remove(path, columns=Columns(), reader="7").records == 3
    assert path.read_text() == "".join(json.dumps(row) + "\n" for row in rows[3:])
    table = pa.table({"reader": [7, 8, None, 7], "text": list("abcd"), "label": list("xyxy")})
    pq.write_table(table, tmp_path / "readers.parquet")
    assert remove(tmp_path / "readers.parquet", columns=Columns(), reader="7").removed
    assert pq.read_table(tmp_path / "readers.parquet")["reader"].to_pylist() == [8, None]


def test_a_reader_who_is_everybody_leaves_an_empty_table(tmp_path: Path) -> None:
    for ending in (".csv", ".parquet"):
        path = tmp_path / f"one{ending}"
        path.write_bytes(MAKERS[ending]([ROWS[0], ROWS[3]]))
        assert remove(path, columns=NAMES, reader="ann") == Removal(records=2, removed=True)
        left = read_readers(path, columns=NAMES, task=TASK, strict=False)
        assert left.records == 0


def test_records_that_nobody_can_read_stay_and_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "readers.csv"
    lines = [b"reader,text,label\n", b"ann,one,two,three\n", b"ann,x,a\n", b"b\xff,x,a\n"]
    path.write_bytes(b"".join(lines))
    assert remove(path, columns=Columns(), reader="ann") == Removal(
        records=1, removed=True, unreadable=1
    )
    assert path.read_bytes() == lines[0] + lines[1] + lines[3]


def check_untouched(path: Path, says: str) -> None:
    before = (path.read_bytes(), path.stat().st_ino, path.stat().st_mode)
    found = remove(path, columns=NAMES, reader="ann")
    assert (found.records, found.removed) == (3, False)
    assert says in found.obstacle
    assert (path.read_bytes(), path.stat().st_ino, path.stat().st_mode) == before
    assert not (path.parent / DRAFTS).exists()


def test_a_read_only_file_stays(tmp_path: Path) -> None:
    path = write(tmp_path, ".csv")
    path.chmod(0o444)
    check_untouched(path, "read-only")


@pytest.mark.parametrize(
    ("patch", "says"),
    [({"geteuid": lambda: 54321}, "another user"), ({"access": lambda *_: False}, "its folder")],
)
def test_a_file_that_is_not_ours_stays(
    patch: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, ".csv")
    for name, value in patch.items():
        monkeypatch.setattr(os, name, value)
    check_untouched(path, says)


def test_a_disk_that_is_full_leaves_the_file(tmp_path: Path) -> None:
    from tests.fakes.instruments.full_disk import full_disk

    path = tmp_path / "readers.csv"
    path.write_bytes(csv_of([("bob", "x" * 9000, "news"), *ROWS]))
    with full_disk(room=4000):
        check_untouched(path, "File too large")


def test_a_file_that_changes_meanwhile_stays_as_it_became(tmp_path: Path) -> None:
    path = write(tmp_path, ".csv")
    later = csv_of([*ROWS, ("new", "export", "news")])
    found = remove(
        path, columns=NAMES, reader="ann", watch=lambda _done, _total: later_export(path, later)
    )
    assert (found.removed, "changed meanwhile" in found.obstacle) == (False, True)
    assert path.read_bytes() == later


def later_export(path: Path, data: bytes) -> None:
    draft = path.with_suffix(".new")
    draft.write_bytes(data)
    draft.replace(path)


@pytest.mark.parametrize("ending", MAKERS)
def test_ctrl_c_leaves_the_file_and_no_copy_of_it(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path, ending)
    before = path.read_bytes()

    def stop(_done: int, _total: int) -> None:
        assert stat.S_IMODE((tmp_path / DRAFTS).stat().st_mode) == 0o700
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remove(path, columns=NAMES, reader="ann", watch=stop)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_a_kill_left_behind_is_cleared(tmp_path: Path) -> None:
    path = write(tmp_path, ".jsonl")
    (tmp_path / DRAFTS).mkdir()
    (tmp_path / DRAFTS / path.name).write_bytes(path.read_bytes())
    assert remove(path, columns=NAMES, reader="ann").removed
    assert not (tmp_path / DRAFTS).exists()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("none.csv", None),
        ("readers.txt", b"x"),
        ("empty.csv", b""),
        ("readers.csv", b"a,b\n1,2\n"),
        ("broken.parquet", b"PAR1 and no more"),
    ],
)
def test_a_file_that_cannot_be_read_says_so(name: str, data: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    found = remove(path, columns=Columns(), reader="ann")
    assert (found.records, found.removed) == (None, False)
    assert found.obstacle


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    path = write(tmp_path, ".csv")
    (tmp_path / "link.csv").symlink_to(path)
    assert remove(tmp_path / "link.csv", columns=NAMES, reader="ann").removed
    assert (tmp_path / "link.csv").is_symlink()
    assert b"0,ann," not in path.read_bytes()


def test_quotes_that_two_parsers_read_apart_are_left_alone(tmp_path: Path) -> None:
    """Wherever the copy is not what PressPool's reader says it should be, nothing is replaced."""
    path = tmp_path / "readers.csv"
    path.write_bytes(b'user id,title,topic\rann,a"b,news\rbob,"x""\rann,y,news\r')
    before = path.read_bytes()
    found = remove(path, columns=NAMES, reader="ann")
    assert found.removed or path.read_bytes() == before


def test_a_copy_that_loses_a_neighbour_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted mistake: ids are compared without their case."""
    right = removal._is_of
    monkeypatch.setattr(
        removal,
        "_is_of",
        lambda line, column, reader: right(line, column, reader) or b'"Ann"' in line,
    )
    check_untouched(write(tmp_path, ".jsonl"), "would not have stayed")


def test_a_copy_that_keeps_a_record_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "_is_of", lambda line, *_: b"Cup final" in line)
    check_untouched(write(tmp_path, ".jsonl"), "would not have stayed")


words = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=8)


@given(
    st.lists(st.tuples(st.sampled_from(["ann", "bob", 'q"', "x,y"]), words, words), max_size=12),
    st.sampled_from(["\n", "\r\n"]),
)
@settings(max_examples=60, deadline=None)
def test_any_table_keeps_its_other_records(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], end: str
) -> None:
    path = tmp_path_factory.mktemp("any") / "readers.csv"
    path.write_bytes(csv_of([*rows], end))
    found = remove(path, columns=NAMES, reader="ann")
    assert (found.removed, found.records) == (True, sum(row[0] == "ann" for row in rows))
    kept = [row if row[0] != "ann" else () for row in rows]
    assert path.read_bytes() == csv_of([*kept], end)
