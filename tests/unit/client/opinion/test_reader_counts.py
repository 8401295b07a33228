"""Counts of readers: a slow oracle, the sensitivity on neighbouring data, and a planted mistake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from dp_accounting import dp_event, rdp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from presspool.client.opinion.opinion_query import OpinionQuery
from presspool.client.opinion.reader_counts import reader_counts
from presspool.common.accounting import events, filter

QUERY = OpinionQuery(
    name="mood",
    labels=("bad", "fair", "good"),
    first=date(2026, 1, 15),
    periods=3,
    by="month",
    share=0.02,
)
DAYS = [
    "2026-01-14",
    "2026-01-15",
    "2026-02-14",
    "2026-02-15",
    "2026-04-14",
    "2026-04-15",
    "",
    None,
]
Row = tuple[str | None, str | None, str | None]
Rows = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "cat", None]),
        st.sampled_from([*QUERY.labels, "unknown", None]),
        st.sampled_from([*DAYS, "2026-02-31", "\x00", "yesterday"]),
    ),
    max_size=40,
)
Count = Callable[[pa.Table, OpinionQuery], NDArray[np.int64]]


def table(rows: list[Row]) -> pa.Table:
    kinds = [(name, pa.large_string()) for name in ("reader", "label", "day")]
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return pa.table(
        [pa.array(c, k) for c, (_, k) in zip(columns, kinds, strict=True)],
        names=[name for name, _ in kinds],
    )


def oracle(rows: list[Row]) -> list[list[int]]:
    """One reader after the other, one period after the other, in plain words."""
    edges = ["2026-01-15", "2026-02-15", "2026-03-15", "2026-04-15"]
    found = [[0, 0, 0] for _ in range(3)]
    for who in {reader for reader, _, _ in rows if reader is not None}:
        for place in range(3):
            mine = Counter(
                label
                for reader, label, day in rows
                if reader == who
                and label in QUERY.labels
                and day in DAYS
                and day
                and edges[place] <= day < edges[place + 1]
            )
            if mine:
                best = max(QUERY.labels, key=lambda name: (mine[name], -QUERY.labels.index(name)))
                found[place][QUERY.labels.index(best)] += 1
    return found


def moved(count: Count, rows: list[Row], more: list[Row]) -> float:
    """How far a reader's records move the counts of one period, in L2 norm."""
    others: list[Row] = [row for row in rows if row[0] != "new"]
    mine: list[Row] = [("new", label, day) for _, label, day in more]
    change = count(table(others + mine), QUERY) - count(table(others), QUERY)
    return float(np.sqrt((change.astype(float) ** 2).sum(axis=1)).max())


def every_record(rows: pa.Table, query: OpinionQuery) -> NDArray[np.int64]:
    """The planted mistake: records are counted, not readers."""
    numbered = [f"{place}" for place in range(len(rows))]
    return reader_counts(rows.set_column(0, "reader", pa.array(numbered, pa.large_string())), query)


@given(Rows)
def test_counts_are_the_oracle_s(rows: list[Row]) -> None:
    assert reader_counts(table(rows), QUERY).tolist() == oracle(rows)


@settings(max_examples=300)
@given(Rows, Rows)
def test_a_reader_moves_a_period_by_one_at_most(rows: list[Row], more: list[Row]) -> None:
    assert moved(reader_counts, rows, more) in (0.0, 1.0)


def test_the_planted_mistake_is_found() -> None:
    more: list[Row] = [("new", "good", "2026-02-01")] * 3
    assert moved(reader_counts, [], more) == 1.0
    assert moved(every_record, [], more) == 3.0


@pytest.mark.parametrize("order", [2, 6, 32])
@pytest.mark.parametrize("share", [0.001, 0.02, 1.0])
def test_sigma_costs_the_share_that_was_asked_for(order: int, share: float) -> None:
    """The price by `dp_accounting`, which knows nothing of ours."""
    room = filter.capacity(epsilon=16.0, delta=1e-5, order=order)
    event = QUERY.model_copy(update={"share": share}).event(order=order, room=room)
    accountant = rdp.RdpAccountant(orders=[order])
    accountant.compose(events.to_dp(event))
    assert isinstance(events.to_dp(event), dp_event.SelfComposedDpEvent)
    assert float(accountant._rdp[0]) == pytest.approx(share * room, rel=1e-9)
    assert events.charge(event, order=order) * events.UNIT == pytest.approx(share * room, rel=1e-9)


def test_a_golden_sigma() -> None:
    """σ = √(3·6 / (2·0.02·5)) = √90, by hand."""
    event = QUERY.event(order=6, room=5.0)
    assert isinstance(event.event, events.Gaussian)
    assert event.event.noise_multiplier == pytest.approx(9.486832980505138, rel=1e-12)
    assert event.count == 3


def test_the_ledger_s_name_of_a_query_is_its_name_s_alone() -> None:
    other = QUERY.model_copy(update={"labels": ("a", "b"), "share": 0.5, "periods": 9})
    assert other.run == QUERY.run
    assert QUERY.model_copy(update={"name": "mood-2"}).run != QUERY.run
