"""An outlet's showings for `ad-response`: each bad record is named and left out alone."""

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
from presspool.client.identity.care_table import CareTable
from presspool.common.base.errors import DataError
from presspool.common.contract.contract_schema import Model
from presspool.common.data.tables import Columns, Mapped, read_records
from presspool.common.tasks.ad_response import AdResponse, AdTable

NAMES = ("text", "section", "hour", "clicked")
Row = tuple[str, str, str, str]
GOOD: list[Row] = [
    ("Cup tickets \U0001f3c6", "sport", "9", "1"),
    ("\u0625\u0639\u0644\u0627\u0646 \u200f!", "\u5317\u4eac", "10", "0"),
]
SECRET = "ann-s-own-words"
BAD: list[tuple[str, Row]] = [
    ("NUL in text", ("a\0", "sport", "9", "1")),
    ("clicked that is neither 0 nor 1", ("a", "sport", "9", "2")),
    ("unknown category of section", ("a", SECRET, "9", "1")),
    ("unknown category of hour", ("a", "sport", "9\u202e", "1")),
    ("NUL in section", ("a", "sport\0", "9", "0")),
    ("null or empty text", (" ", "sport", "9", "0")),
    ("null or empty section", ("a", "", "9", "0")),
    ("null or empty clicked", ("a", "sport", "9", "")),
]
TASK = AdResponse(
    AdTable.model_validate(
        {"context": {"section": ["sport", "\u5317\u4eac"], "hour": ["9", "10"]}, "max_length": 6}
    )
)


def written(folder: Path, suffix: str, rows: list[Row]) -> Path:
    path = folder / f"data.{suffix}"
    named = [{"reader": f"r{i}"} | dict(zip(NAMES, row, strict=True)) for i, row in enumerate(rows)]
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(named), path)
    elif suffix == "jsonl":
        path.write_text("\n".join(map(json.dumps, named)), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            lines = csv.DictWriter(stream, ["reader", *NAMES])
            lines.writeheader()
            lines.writerows(named)
    return path


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_bad_records_are_left_out_one_by_one_and_named(suffix: str, tmp_path: Path) -> None:
    path = written(tmp_path, suffix, [*GOOD, *(row for _, row in BAD)])
    readers = read_readers(path, columns=Columns(), task=TASK, strict=False)
    assert readers.dropped == {why: 1 for why, _ in BAD}
    assert readers.first == {why: 3 + place for place, (why, _) in enumerate(BAD)}
    found = [tuple(str(row[name]) for name in NAMES) for row in readers.table.to_pylist()]
    assert found == GOOD


@pytest.mark.parametrize(("why", "row"), BAD[:5])
def test_a_public_file_is_refused_by_row_in_no_words_of_the_record(
    why: str, row: Row, tmp_path: Path
) -> None:
    path = written(tmp_path, "csv", [*GOOD, row])
    with pytest.raises(DataError, match="the first is record 3") as caught:
        read_records(path, TASK, Mapped())
    assert why in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "clicks", [[1, 0], [True, False], [1.0, 0.0], ["1", "0"], ["true", "false"], [" 1", "0 "]]
)
def test_clicks_are_read_as_files_spell_them(clicks: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    rows = {"reader": ["a", "b"], "text": ["x", "y"], "section": ["sport"] * 2, "hour": [9, 10]}
    pq.write_table(pa.table({**rows, "clicked": clicks}), path)
    readers = read_readers(path, columns=Columns(), task=TASK, strict=False)
    assert readers.table["clicked"].to_pylist() == [1, 0]


def test_a_line_of_ten_megabytes_is_named_and_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, "jsonl", [GOOD[0], ("x" * 10**7, "sport", "9", "1")])
    readers = read_readers(path, columns=Columns(), task=TASK, strict=False)
    assert (readers.records, readers.dropped) == (1, {"unreadable record": 1})


def test_an_import_leaves_out_what_no_run_could_use(tmp_path: Path) -> None:
    """A category that one contract does not know is no damage: another may."""
    source, snapshot = tmp_path / "data.csv", tmp_path / "snapshot.parquet"
    written(tmp_path, "csv", [*GOOD, *(row for _, row in BAD)])
    kept = AdResponse.columns_in(Columns().found(source, AdResponse.columns))
    assert kept == NAMES
    frozen: dict[str, Any] = {"columns": Columns(), "kept": kept, "damage": AdResponse.damage}
    with pytest.raises(DataError, match=r"lines? \d") as caught:
        freeze(source, snapshot, **frozen)
    assert "--drop-damaged" in caught.value.advice
    made = freeze(source, snapshot, **frozen, drop_damaged=True)
    assert SECRET not in " ".join(made.dropped)
    readers = read_readers(snapshot, columns=Columns(), task=TASK, strict=False)
    assert readers.records == len(GOOD)


def test_what_cannot_be_answered_is_named() -> None:
    asked = [row for _, row in BAD[2:6]]
    rows = {
        name: pa.array([row[place] for row in asked], pa.large_string())
        for place, name in enumerate(TASK.inputs)
    }
    assert TASK.unanswerable(rows).to_pylist() == [
        "unknown category of section",
        "unknown category of hour",
        "unknown category of section",
        "empty text",
    ]
    alone = {"text": pa.array(["a"], pa.large_string())}
    assert TASK.unanswerable(alone).to_pylist() == ["no section"]


def test_the_report_counts_clicks_and_what_a_run_would_leave_out(
    tmp_path: Path, tiny_base: Path
) -> None:
    task = AdResponse(TASK.table, Model(id=str(tiny_base)))
    path = written(tmp_path, "jsonl", [*GOOD, BAD[2][1]])
    report = check(
        path,
        columns=Columns(),
        task=task,
        records_per_reader=2,
        max_length=task.table.max_length,
        token_lengths=task.lengths,
        population=1,
    )
    assert report.labels == {"clicked": 1, "not clicked": 1}
    assert report.dropped == {"unknown category of section": 1}
    assert report.first == {"unknown category of section": 3}


def test_context_of_other_names_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("reader,text,rubrik,hour,clicked\nann,Cup,sport,9,1\nbob,Vote,tram,9,0\n")
    columns = Columns.model_validate({"section": "rubrik"})
    readers = read_readers(path, columns=columns, task=TASK, strict=True)
    assert readers.table["section"].to_pylist() == ["sport"]
    assert readers.dropped == {"unknown category of section": 1}


def test_a_click_is_no_repeat_of_a_showing_without_one(tmp_path: Path) -> None:
    rows = [("ann", "Two tickets for tonight's opera", "sport", "8", said) for said in "010"]
    source = tmp_path / "showings.csv"
    with source.open("w", newline="") as file:
        csv.writer(file).writerows([("reader", "text", "section", "hour", "clicked"), *rows])
    kept = ("text", "section", "hour", "clicked")
    care = CareTable(duplicates="near")
    freeze(source, tmp_path / "made.parquet", columns=Columns(), kept=kept, care=care)
    assert pq.read_table(tmp_path / "made.parquet")["clicked"].to_pylist() == ["0", "1"]
