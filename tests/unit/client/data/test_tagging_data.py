"""An outlet's tagged texts: each bad record is named and left out alone, whatever the format."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from presspool.client.data.check_data import check
from presspool.client.data.readers import read_readers
from presspool.client.data.snapshots import freeze
from presspool.common.base.errors import DataError
from presspool.common.contract.contract_schema import Model
from presspool.common.data.judging import judged
from presspool.common.data.tables import Columns, Mapped, read_records
from presspool.common.tasks.tagging import NONE, Tagging, TaggingTable

LABELS = ("PER", "LOC")
Row = dict[str, Any]


def span(start: Any, end: Any, kind: Any = "PER") -> Row:
    return {"start": start, "end": end, "type": kind}


GOOD: dict[str, list[Row]] = {
    "tokens": [
        {"tokens": ["\U0001f3c6", "Cup", "final "], "tags": ["O", "B-LOC", "I-LOC"]},
        {"tokens": ["\u0623\u062e\u0628\u0627\u0631", "\u200f!"], "tags": ["B-PER", "O"]},
        {"tokens": ["\u5317\u4eac"], "tags": ["O"]},
    ],
    "spans": [
        {"text": "\U0001f3c6 Cup final", "spans": [span(2, 11, "LOC")]},
        {"text": "\u0623\u062e\u0628\u0627\u0631 \u200f!", "spans": [span(0, 5)]},
        {"text": "\u5317\u4eac\u65b0\u95fb", "spans": []},
    ],
}
BAD: dict[str, list[tuple[str, Row]]] = {
    "tokens": [
        ("another number of tags than of tokens", {"tokens": ["a", "b"], "tags": ["O"]}),
        ("empty tokens", {"tokens": [], "tags": []}),
        ("token that is empty or has white space in it", {"tokens": ["a", ""], "tags": ["O", "O"]}),
        ("NUL in tokens", {"tokens": ["a\0"], "tags": ["O"]}),
    ],
    "spans": [
        ("span that is empty or outside its text", {"text": "goal", "spans": [span(0, 5)]}),
        ("spans that are no list of {start, end, type}", {"text": "goal", "spans": [{"start": 1}]}),
        (
            "spans that overlap or share a word, or one without a word",
            {"text": "Ann Lee", "spans": [span(0, 5), span(4, 7)]},
        ),
        ("NUL in text", {"text": "a\0b", "spans": []}),
        ("null or empty text", {"text": " ", "spans": []}),
    ],
}
MORE = {
    "tokens": [
        ("tokens that are no list of texts", "[1]", "O"),
        ("tags that are no list of texts", "a", "[0]"),
        ("half a character in tokens", '["\\ud800"]', "O"),
    ],
    "spans": [
        ("span that is empty or outside its text", "goal", json.dumps([span(2, 2)])),
        ("span that is empty or outside its text", "goal", json.dumps([span(-1, 2)])),
        ("spans that are no list of {start, end, type}", "goal", "PER"),
        ("spans that are no list of {start, end, type}", "goal", json.dumps([span(0.5, 2)])),
        ("spans that are no list of {start, end, type}", "goal", json.dumps([span(0, "9" * 5000)])),
        ("spans that are no list of {start, end, type}", "goal", "[" * 100_000),
        (
            "spans that overlap or share a word, or one without a word",
            "Ann-Lee  x",
            json.dumps([span(7, 9)]),
        ),
        (
            "spans that overlap or share a word, or one without a word",
            "AnnLee",
            json.dumps([span(0, 3), span(3, 6)]),
        ),
    ],
}


@pytest.fixture(params=["tokens", "spans"])
def form(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def task_of_form(form: str, base: Path | None = None, **more: Any) -> Tagging:
    table = TaggingTable.model_validate({"format": form, "labels": LABELS, **more})
    return Tagging(table, None if base is None else Model(id=str(base)))


def written(folder: Path, suffix: str, rows: list[Row]) -> Path:
    """Lists as each format has them."""
    path = folder / f"data.{suffix}"
    rows = [{"reader": f"r{i}"} | row for i, row in enumerate(rows)]
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_bad_records_are_left_out_one_by_one_and_named(
    form: str, suffix: str, tmp_path: Path
) -> None:
    rows = [*GOOD[form], *(row for _, row in BAD[form])]
    if suffix == "parquet" and form == "spans":  # one type a column there
        rows = [r for r in rows if r["spans"] != [{"start": 1}]]
    path, task = written(tmp_path, suffix, rows), task_of_form(form)
    readers = read_readers(path, columns=Columns(), task=task, strict=False)
    reasons = [why for why, row in BAD[form] if row in rows]
    assert readers.dropped == dict.fromkeys(reasons, 1)
    assert readers.first == {why: len(GOOD[form]) + 1 + i for i, why in enumerate(reasons)}
    assert readers.records == len(GOOD[form])
    assert task.counts(readers.table) == {"PER": 1, "LOC": 1, NONE: 1}


def test_every_reason_is_one_of_few_and_quotes_nothing(form: str) -> None:
    why, *values = zip(*MORE[form], strict=True)
    columns = (pa.array(column, pa.large_string()) for column in values)
    task = task_of_form(form)
    rows = dict(zip(task.columns, columns, strict=True))
    assert Tagging.damage(rows).to_pylist() == list(why)
    assert len(judged(task.parse, rows)[task.columns[1]]) == len(why)  # whatever it makes of them


def test_an_import_names_the_lines_and_leaves_them_out(form: str, tmp_path: Path) -> None:
    rows = [*GOOD[form], *(row for _, row in BAD[form])]
    source, snapshot = written(tmp_path, "jsonl", rows), tmp_path / "snapshot.parquet"
    kept = Tagging.columns_in(Columns().found(source, Tagging.columns))
    frozen: dict[str, Any] = {"columns": Columns(), "kept": kept, "damage": Tagging.damage}
    with pytest.raises(DataError, match=r"lines? \d") as caught:
        freeze(source, snapshot, **frozen)
    assert "--drop-damaged" in caught.value.advice
    made = freeze(source, snapshot, **frozen, drop_damaged=True)
    readers = read_readers(snapshot, columns=Columns(), task=task_of_form(form), strict=True)
    assert (made.records, readers.dropped) == (readers.records, {})
    assert readers.records == len(GOOD[form])


def test_a_label_outside_the_contract_is_refused_with_the_nearest(
    form: str, tmp_path: Path
) -> None:
    odd: Row = {"tokens": ["Ann"], "tags": ["B-PRE"]}
    if form == "spans":
        odd = {"text": "Ann", "spans": [span(0, 3, "PRE")]}
    path = written(tmp_path, "jsonl", [*GOOD[form], odd])
    with pytest.raises(DataError, match="unknown") as caught:
        read_readers(path, columns=Columns(), task=task_of_form(form), strict=True)
    assert "PER'?" in caught.value.advice
    with pytest.raises(DataError, match="the first is record 4"):
        read_records(path, task_of_form(form), Mapped())
    assert read_readers(path, columns=Columns(), task=task_of_form(form), strict=False).records == 3


def test_a_line_of_ten_megabytes_is_named_and_left_out(form: str, tmp_path: Path) -> None:
    good = GOOD[form][2]
    path = written(tmp_path, "jsonl", [good, good | {form.replace("spans", "text"): "x" * 10**7}])
    readers = read_readers(path, columns=Columns(), task=task_of_form(form), strict=False)
    assert (readers.records, readers.dropped, readers.first) == (
        1,
        {"unreadable record": 1},
        {"unreadable record": 2},
    )


def test_the_report_counts_what_is_cut(form: str, tmp_path: Path, tiny_base: Path) -> None:
    rows = GOOD[form][2:] * 2 + [
        {"tokens": ["goal"] * 30, "tags": ["O"] * 30}
        if form == "tokens"
        else {"text": "goal " * 30, "spans": []}
    ]
    path, task = written(tmp_path, "jsonl", rows), task_of_form(form, tiny_base, max_length=16)
    report = check(
        path,
        columns=Columns(),
        task=task,
        records_per_reader=2,
        max_length=16,
        token_lengths=task.lengths,
        population=1,
    )
    assert report.records_truncated == 1
    assert report.labels == {"PER": 0, "LOC": 0, NONE: 3}


def test_tokens_and_tags_may_stand_between_spaces(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("reader,tokens,tags\nann,Ann met Lee,B-PER O B-PER\nbob,goal,\n")
    readers = read_readers(path, columns=Columns(), task=task_of_form("tokens"), strict=True)
    assert readers.dropped == {"null or empty tags": 1}
    assert readers.table.to_pylist() == [
        {"tokens": '["Ann","met","Lee"]', "tags": '["B-PER","O","B-PER"]'}
    ]


REAL = {
    "wnut17/dev": (
        1009,
        0,
        ("person", "location", "group", "corporation", "product", "creative-work"),
    ),
    "broad_twitter/all": (9340, 5, ("PER", "LOC", "ORG")),
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets_are_read_whole(name: str, data_root: Path, tmp_path: Path) -> None:
    """Broad Twitter has records with a token that is nothing but white space; one has no other."""
    count, damaged, labels = REAL[name]
    with gzip.open(data_root / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    path = written(tmp_path, "jsonl", [{k: row[k] for k in ("tokens", "tags")} for row in rows])
    task = Tagging(TaggingTable(labels=labels))
    readers = read_readers(path, columns=Columns(), task=task, strict=False)
    assert (readers.records + damaged, sum(readers.dropped.values())) == (count, damaged)
    assert set(readers.dropped) <= {"token that is empty or has white space in it", "empty tokens"}
    assert all(task.counts(readers.table).values())
