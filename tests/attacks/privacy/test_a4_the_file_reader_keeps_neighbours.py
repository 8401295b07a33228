"""Attack A.4: one reader's record, however it is made, changes nothing about anybody else's.

Before, a field of 17 MiB in a CSV file dropped every later record, a quote left open left 10 of
1,000, and one malformed line of JSON switched its neighbours to another parser. Neighbouring data
sets then differed in many readers, which no noise was made for.

The attacker writes a record as they like; the line break behind it is the exporting system's.
"""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from presspool.cli import app as cli
from presspool.client.agent.erasure import erase
from presspool.client.data.readers import Readers, read_readers
from presspool.client.data.snapshots import ERASED, SNAPSHOT, Manifest, freeze, manifest_of
from presspool.client.data.suppression_list import SuppressionList
from presspool.common.base.console import guarded
from presspool.common.base.errors import DataError
from presspool.common.base.files import draft_of
from presspool.common.data import decoders
from presspool.common.data.decoders import UNREADABLE
from presspool.common.data.table_refusals import NOT_UTF8
from presspool.common.data.tables import Columns
from presspool.common.tasks.classification import Classification, ClassificationTable

NAMES = ("reader", "text", "label")
TASK = Classification(ClassificationTable(labels=("news", "sport")))
HEAD = b"reader,text,label\n"
Row = tuple[str, str, str]

many = [pytest.param(150, id="small"), pytest.param(3000, id="full", marks=pytest.mark.soak)]


def line_of(row: Row, kind: str) -> bytes:
    """One record as a right-minded system exports it."""
    if kind == ".jsonl":
        return json.dumps(dict(zip(NAMES, row, strict=True)), ensure_ascii=False).encode() + b"\n"
    text = io.StringIO(newline="")
    csv.writer(text).writerow(row)
    return text.getvalue().removesuffix("\r\n").encode() + b"\n"


def import_of(
    data: bytes, kind: str, folder: Path, *, drop_damaged: bool = True
) -> tuple[list[Row], Manifest]:
    source = folder / f"data{kind}"
    source.write_bytes(data)
    made = freeze(
        source, folder / SNAPSHOT, columns=Columns(), kept=NAMES[1:], drop_damaged=drop_damaged
    )
    return rows_of(folder / SNAPSHOT), made


def rows_of(snapshot: Path) -> list[Row]:
    return [
        (row["reader"], row["text"], row["label"]) for row in pq.read_table(snapshot).to_pylist()
    ]


def numbered(count: int, kind: str) -> list[bytes]:
    return [line_of((f"r{i}", f"text {i}", "news"), kind) for i in range(count)]


def trained_on(data: bytes, kind: str, folder: Path) -> Readers:
    """What a round made of a file before there were snapshots, and a simulation's still does."""
    (folder / f"raw{kind}").write_bytes(data)
    return read_readers(folder / f"raw{kind}", columns=Columns(), task=TASK, strict=False)


# --- The three faults that were found ------------------------------------------------------------


def test_a_field_of_17_mib_drops_nobody_else(tmp_path: Path) -> None:
    lines = numbered(2000, ".csv")
    data = HEAD + b"".join(
        [*lines[:1500], b'zed,"' + b"x" * (17 << 20) + b'",news\n', *lines[1500:]]
    )
    assert trained_on(data, ".csv", tmp_path).readers in (0, 2000, 2001)
    with pytest.raises(DataError, match="the record that begins in line 1502"):
        import_of(data, ".csv", tmp_path)
    assert not (tmp_path / SNAPSHOT).exists()


def test_a_quote_that_is_left_open_swallows_nobody(tmp_path: Path) -> None:
    lines = numbered(1000, ".csv")
    data = HEAD + b"".join([*lines[:10], b'zed,"open,news\n', *lines[10:]])
    assert trained_on(data, ".csv", tmp_path).readers in (0, 1000, 1001)
    with pytest.raises(DataError, match=r"begins in line 12:(?s:.*)a quote that is left open"):
        import_of(data, ".csv", tmp_path)


NEIGHBOURS = {  # that the two parsers of JSON judged apart
    "infinity": b'{"reader": "odd", "text": "x", "label": "news", "n": -Inf}\n',
    "deep": b'{"reader": "odd", "text": "x", "label": "news", "n": '
    + b"[" * 20_000
    + b"]" * 20_000
    + b"}\n",
}


@pytest.mark.parametrize("neighbour", NEIGHBOURS.values(), ids=NEIGHBOURS)
def test_a_malformed_line_switches_nobody_to_another_parser(
    neighbour: bytes, tmp_path: Path
) -> None:
    lines = numbered(1000, ".jsonl")
    with_it, without = (
        b"".join([*lines[:500], neighbour, bad, *lines[500:]]) for bad in (b"{\n", b"")
    )
    found = [trained_on(data, ".jsonl", tmp_path).readers for data in (with_it, without)]
    assert found[0] == found[1]
    assert import_of(with_it, ".jsonl", tmp_path)[0] == import_of(without, ".jsonl", tmp_path)[0]


# --- The class of them ----------------------------------------------------------------------------

VALUE = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from('",\n\r\0x')), max_size=8)
ROW = st.tuples(VALUE.map(lambda text: f"v{text}"), VALUE, st.sampled_from(["news", "arts", ""]))
EVIL = st.lists(
    st.one_of(
        st.sampled_from(
            [b'"', b",", b"\n", b"\r", b"x", b"\0", b"\xff", b"\xef\xbb\xbf", b'""', b"{"]
        ),
        st.sampled_from(
            [b'"reader":', b"}", b'\\ud800"', b"[", b"-Infinity", b"\\", b'","', b'"\n"']
        ),
        st.binary(max_size=3),
    ),
    max_size=12,
).map(b"".join)


@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
@pytest.mark.parametrize("examples", many)
def test_a_hostile_record_leaves_all_others_or_no_snapshot(kind: str, examples: int) -> None:
    """For any bytes in its place: all others are there, in order, or nothing is written."""
    accepted = 0

    @settings(max_examples=examples, deadline=None)
    @given(rows=st.lists(ROW, max_size=6), evil=EVIL, place=st.integers(0, 6), honest=st.booleans())
    @example(rows=[("v", ',"', "news"), ("v", "b", "")], evil=b'x,"y', place=0, honest=True)
    @example(rows=[("v", "\n", ""), ("v", ",\n,", "")], evil=b'"', place=1, honest=True)
    def holds(rows: list[Row], evil: bytes, place: int, honest: bool) -> None:
        nonlocal accepted
        before, after = rows[:place], rows[place:]
        lines = [
            *(line_of(r, kind) for r in before),
            evil + b"\n",
            *(line_of(r, kind) for r in after),
        ]
        data = (HEAD if kind == ".csv" else line_of(("v0", "", ""), kind)) + b"".join(lines)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / SNAPSHOT).write_bytes(b"the old one")
            try:
                found, made = import_of(data, kind, folder, drop_damaged=honest)
            except DataError:
                assert (folder / SNAPSHOT).read_bytes() == b"the old one"
                assert sorted(p.name for p in folder.iterdir()) == [f"data{kind}", SNAPSHOT]
                return
        accepted += 1
        found = found if kind == ".csv" else found[1:]
        assert found[: len(before)] == before
        assert found[len(found) - len(after) :] == after
        assert len(found) >= len(rows)
        assert honest or not made.dropped

    holds()
    assert accepted > examples // 20  # it is not by refusing everything


@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
@pytest.mark.parametrize("examples", many)
def test_leaving_a_reader_out_leaves_the_rest_as_it_is(kind: str, examples: int) -> None:
    @settings(max_examples=examples // 3, deadline=None)
    @given(rows=st.lists(ROW, min_size=1, max_size=12), data=st.data())
    def holds(rows: list[Row], data: st.DataObject) -> None:
        reader = data.draw(st.sampled_from([row[0] for row in rows]))
        keeper = ("keeper", "", "")
        with tempfile.TemporaryDirectory() as name:
            found = [
                import_of(
                    (HEAD if kind == ".csv" else b"")
                    + b"".join(line_of(row, kind) for row in [*chosen, keeper]),
                    kind,
                    Path(name),
                    drop_damaged=False,
                )[0]
                for chosen in (rows, [row for row in rows if row[0] != reader])
            ]
        assert found == [[*rows, keeper], [*(row for row in rows if row[0] != reader), keeper]]

    holds()


ALONE: dict[str, tuple[str, bytes, str]] = {
    "wrong width": (".csv", b"zed,too,many,columns\n", UNREADABLE),
    "invalid UTF-8": (".csv", b"zed,caf\xe9,news\n", NOT_UTF8),
    "nobody's": (".csv", b" ,x,news\n", "null reader"),
    "malformed": (".jsonl", b"{\n", UNREADABLE),
    "17 MiB": (".jsonl", b'{"reader": "zed", "text": "' + b"x" * (17 << 20) + b'"}\n', UNREADABLE),
    "lone surrogate": (".jsonl", b'{"reader": "zed", "text": "\\ud800"}\n', UNREADABLE),
    "bytes of no text": (".jsonl", b'{"reader": "zed", "text": "\xff"}\n', NOT_UTF8),
    "nested": (".jsonl", b'{"reader": "zed", "text": [["x"]]}\n', UNREADABLE),
}


@pytest.mark.parametrize(("kind", "line", "reason"), ALONE.values(), ids=ALONE)
def test_a_damaged_record_is_named_and_dropped_alone(
    kind: str, line: bytes, reason: str, tmp_path: Path
) -> None:
    lines = numbered(20, kind)
    head = HEAD if kind == ".csv" else b""
    data = head + b"".join([*lines[:9], line, *lines[9:]])
    number = 10 + head.count(b"\n")
    with pytest.raises(
        DataError, match=rf"1 of 21 records, the first is record 10 \(line {number}\)"
    ):
        import_of(data, kind, tmp_path, drop_damaged=False)
    assert not (tmp_path / SNAPSHOT).exists()
    found, made = import_of(data, kind, tmp_path)
    assert found == import_of(head + b"".join(lines), kind, tmp_path)[0]
    assert (made.dropped, made.lines) == ({reason: 1}, {reason: [number]})


WHOLE = {
    "text behind a quote": b'zed,"x"y,news\n',
    "a quote in a value": b'zed,x"y,news\n',
    "two quotes in a value": b'zed,5" by 6",news\n',
    "a carriage return": b"zed,x\ry,news\n",
}


@pytest.mark.parametrize("line", WHOLE.values(), ids=WHOLE)
def test_what_no_one_can_part_is_refused_with_its_line(line: bytes, tmp_path: Path) -> None:
    lines = numbered(20, ".csv")
    with pytest.raises(DataError, match="begins in line 6"):
        import_of(HEAD + b"".join([*lines[:4], line, *lines[4:]]), ".csv", tmp_path)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
def test_marks_line_ends_breaks_and_nul_bytes_are_no_damage(
    kind: str, end: bytes, tmp_path: Path
) -> None:
    rows = [("ann", "two\nlines", "news"), ("bob", 'a "b", c', "sport"), ("zoë", "nul \0", "")]
    lines = [line_of(row, kind).removesuffix(b"\n") + end for row in rows]
    head = HEAD.removesuffix(b"\n") + end if kind == ".csv" else b""
    data = b"\xef\xbb\xbf" + head + b"".join(lines) + end
    assert import_of(data, kind, tmp_path, drop_damaged=False)[0] == rows


def test_columns_without_end_and_columns_twice(tmp_path: Path) -> None:
    wide = b"reader,text,label" + b",x" * 300_000
    row = b"ann,Gold,sport" + b"," * 300_000
    assert import_of(wide + b"\n" + row + b"\n", ".csv", tmp_path)[0] == [("ann", "Gold", "sport")]
    with pytest.raises(DataError, match="more than 1,048,576 bytes"):
        import_of(wide + b",x" * 300_000 + b"\n", ".csv", tmp_path)
    with pytest.raises(DataError, match="column 'text' is there 2 times"):
        import_of(b"reader,text,label,text\na,b,c,d\n", ".csv", tmp_path)


def test_a_parquet_value_without_end_is_dropped_alone(tmp_path: Path) -> None:
    table = pa.table(
        {"reader": ["ann", "zed"], "text": ["x", "y" * (2 << 20)], "label": ["a", "b"]}
    )
    pq.write_table(table, tmp_path / "data.parquet")
    data = (tmp_path / "data.parquet").read_bytes()
    with pytest.raises(DataError, match="value too long"):
        import_of(data, ".parquet", tmp_path, drop_damaged=False)
    assert import_of(data, ".parquet", tmp_path)[0] == [("ann", "x", "a")]


class _Brittle(Classification):
    """A task whose own code fails over a text, which its author did not think of."""

    def parse(self, rows: Mapping[str, pa.Array]) -> Mapping[str, pa.Array]:
        if "crash" in rows["text"].to_pylist():
            raise ZeroDivisionError
        return super().parse(rows)


def test_a_task_that_fails_over_one_text_loses_that_record_alone(tmp_path: Path) -> None:
    lines = numbered(50, ".csv")
    import_of(HEAD + b"".join([*lines[:9], b"zed,crash,news\n", *lines[9:]]), ".csv", tmp_path)
    task = _Brittle(ClassificationTable(labels=("news", "sport")))
    found = read_readers(tmp_path / SNAPSHOT, columns=Columns(), task=task, strict=False)
    assert found.table["text"].to_pylist() == [f"text {i}" for i in range(50)]
    assert found.dropped == {"unknown text": 1}


def test_a_large_file_is_imported_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "BLOCK_BYTES", 1 << 19)
    data = HEAD + b"".join(line_of((f"r{i}", "x" * 500, "news"), ".csv") for i in range(12_000))
    (tmp_path / "data.csv").write_bytes(data)
    tracemalloc.start()
    try:
        freeze(tmp_path / "data.csv", tmp_path / SNAPSHOT, columns=Columns(), kept=NAMES[1:])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(data) / 2


# --- The snapshot -------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "readers.csv").write_bytes(HEAD + b"".join(numbered(5, ".csv")))
    (tmp_path / "outlet.toml").write_text('name = "daily-bugle"\ndata = "readers.csv"\n')
    return tmp_path


def typed(home: Path, *options: str) -> int:
    try:
        return guarded(lambda: cli(["outlet", "import", "--home", str(home), *options]))
    except SystemExit as stop:
        return int(str(stop.code))


def test_the_command_says_what_it_dropped_and_keeps_the_old_one(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(home) == 0
    old = (home / SNAPSHOT).read_bytes()
    assert (home / SNAPSHOT).stat().st_mode & 0o777 == 0o600
    with (home / "readers.csv").open("ab") as stream:
        stream.write(b"zed,too,many,columns\n")
    assert typed(home) == 2
    said = capsys.readouterr().err
    assert "(line 7)" in said
    assert "--drop-damaged" in said
    assert (home / SNAPSHOT).read_bytes() == old
    assert typed(home, "--drop-damaged") == 0
    assert "left out: 1 unreadable record, first in line 7" in capsys.readouterr().out
    assert typed(home, "--drop-damaged", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["records"], document["dropped"]) == (5, {UNREADABLE: 1})
    assert document["source"] == "readers.csv"  # a home may move
    assert typed(home, "--task", "poetry") == 2


KILLED = """
import os, signal, sys
from pathlib import Path
from presspool.client.data.snapshots import freeze
from presspool.common.data.tables import Columns
Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
home = Path(sys.argv[1])
freeze(home / "readers.csv", home / "snapshot.parquet", columns=Columns(), kept=("text", "label"))
"""


def test_a_killed_import_leaves_the_old_snapshot_and_nothing_of_the_erased(home: Path) -> None:
    assert typed(home) == 0
    old = rows_of(home / SNAPSHOT)
    with (home / "readers.csv").open("ab") as stream:
        stream.write(b"zed,x,news\n")
    done = subprocess.run([sys.executable, "-c", KILLED, str(home)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert rows_of(home / SNAPSHOT) == old
    assert "zed" in [row[0] for row in rows_of(draft_of(home / SNAPSHOT))]
    erase(home, "zed")
    assert not draft_of(home / SNAPSHOT).exists()
    assert typed(home) == 0
    assert rows_of(home / SNAPSHOT) == old


def test_an_erased_reader_leaves_the_snapshot_and_comes_back_in_no_other(home: Path) -> None:
    source = (home / "readers.csv").read_bytes()
    assert typed(home) == 0
    made = manifest_of(home / SNAPSHOT)
    assert [row["removed"] for row in erase(home, "r3")["files"]] == [True, True]
    assert "r3" not in [row[0] for row in rows_of(home / SNAPSHOT)]
    assert manifest_of(home / SNAPSHOT) == made
    (home / "readers.csv").write_bytes(source)
    assert typed(home) == 0
    assert "r3" not in [row[0] for row in rows_of(home / SNAPSHOT)]
    assert manifest_of(home / SNAPSHOT).dropped == {ERASED: 1}
    (home / "private" / "key").unlink()
    assert typed(home) == 2  # the erased cannot be told apart: nobody is taken in


def test_an_import_and_an_erasure_exclude_each_other(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with SuppressionList(home / "private").locked():
        assert typed(home) == 2
    assert "another erasure or import is going on" in capsys.readouterr().err
    assert not (home / SNAPSHOT).exists()
