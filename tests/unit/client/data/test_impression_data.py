"""An outlet's impressions for `recommendation`: each bad record is named and left out alone."""

from __future__ import annotations

import csv
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
from presspool.common.data.tables import Columns, Mapped, read_records
from presspool.common.tasks.recommendation import Recommendation, RecommendationTable

NAMES = ("history", "candidates", "clicks")
Row = tuple[Any, Any, Any]
GOOD: list[Row] = [
    (["Cup final \U0001f3c6"], ["\u0623\u062e\u0628\u0627\u0631 \u200f!", "\u5317\u4eac"], [1, 0]),
    ([], ["Rates rise", "Derby won", "Storm"], [0, 1, 1]),
]
TWO = ["a", "b"]
BAD: list[tuple[str, Row]] = [
    ("history with a title without text", (["a", " "], TWO, [1, 0])),
    ("NUL in history", (["a\0"], TWO, [1, 0])),
    ("candidates without a click", (["a"], TWO, [0, 0])),
    ("candidates that were all clicked", (["a"], TWO, [1, 1])),
    ("another number of clicks than of candidates", (["a"], TWO, [1, 0, 0])),
    ("clicks that are no list of 0 and 1", (["a"], TWO, [2, 0])),
    ("no candidates", (["a"], [], [])),
    ("candidates with a title without text", (["a"], ["a", ""], [1, 0])),
    ("more than 3 candidates", (["a"], ["a", "b", "c", "d"], [1, 0, 0, 0])),
]
MORE = [
    ("history without text", " ", '["a","b"]', "1 0"),
    ("history that is no list of titles", "a title", '["a","b"]', "1 0"),
    ("history that is no list of titles", "[1]", '["a","b"]', "1 0"),
    ("history that is no list of titles", "[" * 100_000, '["a","b"]', "1 0"),
    ("half a character in history", '["\\ud800"]', '["a","b"]', "1 0"),
    ("candidates that are no list of titles", "[]", '{"a": 1}', "1 0"),
    ("clicks that are no list of 0 and 1", "[]", '["a","b"]', "[true, false]"),
    ("clicks that are no list of 0 and 1", "[]", '["a","b"]', "[1.0, 0]"),
    ("clicks that are no list of 0 and 1", "[]", '["a","b"]', "[[1], 0]"),
    ("clicks that are no list of 0 and 1", "[]", '["a","b"]', "a-1 b-0"),
    (None, "[]", '["a","b"]', '["1", "0"]'),
    (None, "[]", '["a","b"]', "0 1"),
]
TASK = Recommendation(RecommendationTable(history=2, candidates=3, title_length=6))


def written(folder: Path, suffix: str, rows: list[Row]) -> Path:
    """Lists as each format has them."""
    path = folder / f"data.{suffix}"
    named = [{"reader": f"r{i}"} | dict(zip(NAMES, row, strict=True)) for i, row in enumerate(rows)]
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(named), path)
    elif suffix == "jsonl":
        path.write_text("\n".join(map(json.dumps, named)), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            lines = csv.writer(stream)
            lines.writerow(["reader", *NAMES])
            lines.writerows(
                [[row["reader"], *(json.dumps(row[n]) for n in NAMES)] for row in named]
            )
    return path


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_bad_records_are_left_out_one_by_one_and_named(suffix: str, tmp_path: Path) -> None:
    path = written(tmp_path, suffix, [*GOOD, *(row for _, row in BAD)])
    readers = read_readers(path, columns=Columns(), task=TASK, strict=False)
    assert readers.dropped == {why: 1 for why, _ in BAD}
    assert readers.first == {why: 3 + place for place, (why, _) in enumerate(BAD)}
    found = [tuple(json.loads(row[name]) for name in NAMES) for row in readers.table.to_pylist()]
    assert found == GOOD
    with pytest.raises(DataError, match="1 of 11 records, the first is record 3"):
        read_records(path, TASK, Mapped())


def test_every_reason_is_one_of_few_and_quotes_nothing() -> None:
    why, *values = zip(*MORE, strict=True)
    rows = dict(zip(NAMES, (pa.array(column, pa.large_string()) for column in values), strict=True))
    assert Recommendation.damage(rows).to_pylist() == list(why)
    parsed = TASK.parse(rows)
    assert [value is None for value in parsed["clicks"].to_pylist()] == [w is not None for w in why]
    assert parsed["clicks"].to_pylist()[-2:] == ["[1,0]", "[0,1]"]
    asked = {name: rows[name] for name in TASK.inputs}
    assert TASK.unanswerable(asked).to_pylist()[:6] == list(why[:6])


def test_a_line_of_ten_megabytes_is_named_and_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, "jsonl", [GOOD[0], (["x" * 10**7], TWO, [1, 0])])
    readers = read_readers(path, columns=Columns(), task=TASK, strict=False)
    assert (readers.records, readers.dropped) == (1, {"unreadable record": 1})


def test_an_import_leaves_out_what_no_run_could_use(tmp_path: Path) -> None:
    """A contract's cap is no damage: another run may have room for as many."""
    source, snapshot = tmp_path / "data.jsonl", tmp_path / "snapshot.parquet"
    written(tmp_path, "jsonl", [*GOOD, *(row for _, row in BAD)])
    kept = Recommendation.columns_in(Columns().found(source, Recommendation.columns))
    frozen: dict[str, Any] = {"columns": Columns(), "kept": kept, "damage": Recommendation.damage}
    with pytest.raises(DataError, match=r"lines? \d") as caught:
        freeze(source, snapshot, **frozen)
    for place, (why, _) in enumerate(BAD[:-1]):  # the last is a contract's cap
        line = len(GOOD) + place + 1
        said = f"{why}: 1 of {len(GOOD) + len(BAD)} records, the first is record {line} (line"
        assert said in str(caught.value)
    assert "wrong in 8 ways" in caught.value.what
    assert "--drop-damaged" in caught.value.advice
    assert freeze(source, snapshot, **frozen, drop_damaged=True).records == len(GOOD) + 1


def test_the_report_counts_readers_without_history(tmp_path: Path, tiny_base: Path) -> None:
    task = Recommendation(TASK.table, Model(id=str(tiny_base)))
    path = written(tmp_path, "jsonl", GOOD)
    report = check(
        path,
        columns=Columns(),
        task=task,
        records_per_reader=2,
        max_length=task.table.max_length,
        token_lengths=task.lengths,
        population=1,
    )
    assert report.labels == {
        "impressions with a history": 1,
        "impressions without history": 1,
        "candidates": 5,
        "clicks": 3,
        f"histories cut to their last {task.table.history} titles": 0,
        f"different titles cut to {task.table.title_length} tokens": 0,
    }
    assert report.records_truncated is None  # titles are cut, and no record


def test_the_report_counts_what_the_caps_cut(tiny_base: Path) -> None:
    table = TASK.table.model_copy(update={"history": 1, "title_length": 4})
    task = Recommendation(table, Model(id=str(tiny_base)))
    rows = {
        name: pa.array([json.dumps(value)] * 2, pa.large_string())
        for name, value in zip(
            NAMES, (["goal vote", "goal"], ["goal goal vote vote", "vote"], [0, 1]), strict=True
        )
    }
    found = task.counts(pa.table(dict(TASK.parse(rows))))
    assert found["histories cut to their last 1 titles"] == 2
    assert found["different titles cut to 4 tokens"] == 1  # shown twice, and counted once


def test_the_last_titles_of_a_history_count() -> None:
    rows = {
        name: pa.array([json.dumps(value)], pa.large_string())
        for name, value in zip(NAMES, (["a", "b", "c"], TWO, [0, 1]), strict=True)
    }
    records = pa.table(dict(TASK.parse(rows)))
    assert TASK.texts(records).to_pylist() == ['["b","c","a","b"]']
    assert TASK.asked(records) == [("a | b", "b")]
