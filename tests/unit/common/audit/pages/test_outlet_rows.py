"""Outlets on a page: each is in one line, none is shown with less than it paid."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from presspool.common.audit.pages.outlet_rows import MOST, outlet_rows
from presspool.common.runs.results import OutletResult

ONE = OutletResult(
    name="o", population=9, weight=0.1, epsilon=1.0, delta=1e-5, unit="reader", steps=3
)


def outlets(count: int, kinds: int) -> list[OutletResult]:
    """So many outlets, of so many kinds."""
    return [replace(ONE, name=f"o-{i}", epsilon=1.0 + i % kinds) for i in range(count)]


@given(st.integers(1, 200), st.integers(1, 200))
def test_every_outlet_is_in_a_line_or_counted(count: int, kinds: int) -> None:
    found = outlet_rows(outlets(count, kinds))
    assert sum(row.count for row in found.rows) + found.hidden == count
    assert len(found.rows) <= MOST
    if count > MOST:
        spent = {one.epsilon or 0.0 for one in outlets(count, kinds)}
        shown = [row.like.epsilon for row in found.rows]
        assert shown == sorted(spent, reverse=True)[:MOST]


def test_few_outlets_stand_one_by_one_in_their_order() -> None:
    found = outlet_rows(outlets(MOST, 2))
    assert [row.name for row in found.rows] == [f"o-{i}" for i in range(MOST)]


def test_many_that_are_alike_share_a_line_with_the_busiest_first() -> None:
    found = outlet_rows(outlets(1000, 2))
    names = [(row.name, row.like.epsilon, round(row.weight, 6)) for row in found.rows]
    assert names == [("500 outlets, as o-1", 2.0, 50.0), ("500 outlets, as o-0", 1.0, 50.0)]


def test_an_unprotected_outlet_stands_before_all_others() -> None:
    bare = replace(ONE, name="bare", epsilon=None, delta=None)
    found = outlet_rows([*outlets(100, 100), bare])
    assert found.rows[0].name == "bare"
    assert found.hidden == 101 - MOST
