"""The sweep's table: what is written is read again, whatever is unknown."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.fakes.sweeps.made_trials import made_row

from presspool.common.base.errors import FolderError
from presspool.simulations.sweeps.sweep_trial import Ending
from presspool.simulations.sweeps.trial_table import TABLE_FILE, read_table, row_of, write_table

NOTHING = dict.fromkeys(
    ("contract", "epsilon", "delta", "unit", "bytes_up", "bytes_down", "seconds", "rounds")
)


def test_rows_come_back_as_they_were_in_order_of_number(tmp_path: Path) -> None:
    swept = {"privacy.epsilon": math.inf, "federation.rounds": 4, "adapter.method": "ffa"}
    rows = [
        made_row(2, values=swept, epsilon=math.inf, delta=None, seed=7),
        made_row(0, values=swept | {"privacy.epsilon": 3.0}, seed=7),
        made_row(
            1,
            values=swept | {"adapter.method": "head"},
            seed=8,
            **NOTHING,
            metrics={},
            state="failed",
            reason="too few",
            statement=None,
        ),
    ]
    write_table(tmp_path, rows)
    assert read_table(tmp_path) == sorted(rows, key=lambda row: row.number)
    schema = pq.read_schema(tmp_path / TABLE_FILE)
    assert schema.field("privacy.epsilon").type == pa.float64()
    assert schema.field("federation.rounds").type == pa.int64()
    assert schema.field("adapter.method").type == pa.string()
    assert schema.field("metric.hits").type == pa.float64()


def test_a_trial_that_has_not_come_to_a_folder_is_a_row_of_what_is_known(tmp_path: Path) -> None:
    row = row_of(
        tmp_path,
        Ending(state="failed", reason="no such layer"),
        number=3,
        point=1,
        seed=None,
        values={"privacy.epsilon": "inf"},
        folder="trials/0003",
    )
    assert (row.state, row.reason, row.metrics) == ("failed", "no such layer", {})
    assert row.values == {"privacy.epsilon": math.inf}
    assert all(getattr(row, name) is None for name in NOTHING)


def test_no_table_is_no_rows_and_a_strange_one_is_refused(tmp_path: Path) -> None:
    assert read_table(tmp_path) == []
    (tmp_path / TABLE_FILE).write_bytes(b"not Parquet")
    with pytest.raises(FolderError, match="not the table of a sweep"):
        read_table(tmp_path)
    pq.write_table(pa.table({"other": [1]}), tmp_path / TABLE_FILE)
    with pytest.raises(FolderError, match="not the table of a sweep"):
        read_table(tmp_path)
