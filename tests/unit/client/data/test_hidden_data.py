"""An outlet's texts for `fill-mask`: each bad record is named and left out alone."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.conftest import COMMON
from tests.fakes.bases.masked_bases import write_masked_base

from presspool.client.data.check_data import check
from presspool.client.data.readers import read_readers
from presspool.common.base.errors import DataError
from presspool.common.contract.contract_schema import Model
from presspool.common.data.tables import Columns
from presspool.common.tasks.fill_mask import UNKNOWN, FillMask, FillMaskTable

GOOD = ["the report \U0001f3c6", "\u0623\u062e\u0628\u0627\u0631 \u200f! today", "a [MASK] [SEP]"]
BAD = ["", " \t", "a\0b", "\u5317\u4eac", "x" * 10_000_000]
DROPPED = {"null or empty text": 2, "NUL in text": 1, UNKNOWN: 1, "value too long": 1}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> FillMask:
    folder = write_masked_base(tmp_path_factory.mktemp("masked"), "bert", COMMON)
    return FillMask(FillMaskTable(), Model(id=str(folder)))


def test_bad_records_are_left_out_one_by_one_and_counted(tmp_path: Path, task: FillMask) -> None:
    path = tmp_path / "data.parquet"
    rows = [{"reader": f"r{i}", "text": text} for i, text in enumerate([*GOOD, *BAD])]
    pq.write_table(pa.Table.from_pylist(rows), path)
    readers = read_readers(path, columns=Columns(), task=task, strict=False)
    assert readers.records == len(GOOD)
    assert readers.dropped == DROPPED
    assert task.encode(task.texts(readers.table).to_pylist())["input_ids"].shape[0] == len(GOOD)
    with pytest.raises(DataError, match="value too long") as caught:
        read_readers(path, columns=Columns(), task=task, strict=True)
    assert "the first is record 8" in str(caught.value)


def test_the_report_says_where_they_are(tmp_path: Path, task: FillMask) -> None:
    path = tmp_path / "data.jsonl"
    rows = [{"reader": "ann", "text": text} for text in [*GOOD, *BAD[:-1]]]
    path.write_text("\n".join(map(json.dumps, rows)))
    report = check(
        path,
        columns=Columns(),
        task=task,
        records_per_reader=2,
        max_length=64,
        token_lengths=task.lengths,
        population=1,
    )
    assert report.readers == 1
    assert report.lines[UNKNOWN] == [7]
    assert (
        set(report.lines)
        == set(report.dropped)
        == set(report.first)
        == {*DROPPED} - {"value too long"}
    )


def test_real_comments_are_whole(data_root: Path) -> None:
    path = data_root / "stackexchange_comments" / "all.csv.gz"
    if not path.exists():
        pytest.skip(f"real data are absent: {path}")
    task = FillMask(FillMaskTable(), Model())
    readers = read_readers(path, columns=Columns(reader="user_id"), task=task, strict=True)
    assert (readers.readers, readers.records) == (1453, 12_264)
    some = readers.table.slice(0, 200)
    for shown, gone in task.asked(some):
        assert shown.count("[MASK]") == len(gone.split("; "))
