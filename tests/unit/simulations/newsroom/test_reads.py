"""Made clicks: the same from a seed, and with something to find in them."""

from __future__ import annotations

import csv
import json

import pyarrow as pa
from tests.conftest import REPOSITORY

from presspool.common.tasks.records.impressions import Impression, fault
from presspool.simulations.newsroom.click_baselines import by_popularity
from presspool.simulations.newsroom.reads import CANDIDATES, HISTORY, make_reads

NAMES = ("history", "candidates", "clicks")


def impressions(table: pa.Table) -> list[Impression]:
    columns = (map(json.loads, table[name].to_pylist()) for name in NAMES)
    return [Impression(*row) for row in zip(*columns, strict=True)]


def test_every_record_is_one_that_the_task_can_use() -> None:
    reads = make_reads(outlets=2, readers=20, seed=1)
    for table in (*reads.tables.values(), reads.held_out):
        assert not any(
            fault(*row) for row in zip(*(table[n].to_pylist() for n in NAMES), strict=True)
        )
        for one in impressions(table):
            assert len(one.candidates) == CANDIDATES
            assert len(one.history) <= HISTORY
            assert not {*one.history} & {*one.candidates}


def test_outlets_readers_and_held_out_do_not_move_each_other() -> None:
    small, large = (make_reads(outlets=n, readers=5 * n, seed=3) for n in (1, 2))
    (name,) = small.tables
    assert large.tables[name].slice(0, len(small.tables[name])) == small.tables[name]
    assert large.held_out == small.held_out
    assert make_reads(outlets=1, readers=5, seed=4).held_out != small.held_out


def test_popularity_finds_something_and_is_no_use_for_new_titles() -> None:
    reads = make_reads(outlets=4, readers=300, seed=2)
    tables = list(reads.tables.values())
    shown = [one for table in tables[:3] for one in impressions(table)]
    known = by_popularity(shown, impressions(tables[3]))["auc"]
    fresh = by_popularity(shown, impressions(reads.held_out))["auc"]
    assert known is not None
    assert fresh is not None
    assert known > 0.55
    assert fresh < known
    assert by_popularity([], impressions(reads.held_out))["auc"] == 0.5


def test_the_example_is_made_so() -> None:
    reads = make_reads(outlets=3, readers=60, seed=5)
    with (REPOSITORY / "examples" / "reads.csv").open(encoding="utf-8", newline="") as stream:
        found = list(csv.DictReader(stream))
    for name, table in reads.tables.items():
        own = [
            {n: v for n, v in row.items() if n != "outlet"}
            for row in found
            if row["outlet"] == name
        ]
        assert own == table.to_pylist()
