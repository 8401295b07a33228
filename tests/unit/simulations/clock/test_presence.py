"""Outlets' hours: what the formulas give is what counting second by second gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presspool.common.base.errors import DataError
from presspool.common.runs.clock_table import ClockTable
from presspool.simulations.clock.presence import ALWAYS, DAY, HOUR, Presence, presences

OUTLETS = ("north-post", "south-echo")
PERIOD = 12


@st.composite
def hours(draw: st.DrawFn) -> Presence:
    """Whole seconds in a period of twelve, at least one of them."""
    edges = draw(st.lists(st.integers(0, PERIOD), min_size=2, max_size=6, unique=True))
    edges = sorted(edges)[: len(edges) // 2 * 2]
    spans = tuple((float(a), float(b)) for a, b in zip(edges[::2], edges[1::2], strict=True))
    return Presence(period=float(PERIOD), spans=spans)


def is_there(presence: Presence, second: int) -> bool:
    """Whether an outlet is there from this second to the next."""
    return any(begin <= second % PERIOD < until for begin, until in presence.spans)


@given(hours(), st.integers(0, 40))
def test_it_is_next_there_when_counting_says_so(presence: Presence, at: int) -> None:
    assert presence.there(at) == next(s for s in range(at, at + 99) if is_there(presence, s))


@given(hours(), st.integers(0, 40), st.integers(1, 40))
def test_work_is_done_when_counting_says_so(presence: Presence, at: int, seconds: int) -> None:
    there = (s for s in range(at, 2000) if is_there(presence, s))
    *_, last = (next(there) for _ in range(seconds))
    assert presence.after(at, seconds) == last + 1


def test_who_is_always_there_loses_no_time() -> None:
    assert ALWAYS.there(5 * DAY + 7) == 5 * DAY + 7
    assert ALWAYS.after(23 * HOUR, 30 * HOUR) == 53 * HOUR


@pytest.mark.parametrize(("pattern", "length"), [("nights", 10), ("offices", 9)])
def test_a_pattern_has_its_hours_each_day_and_each_outlet_its_own(
    pattern: str, length: int
) -> None:
    table = ClockTable.model_validate({"deadline": 60.0, "pattern": pattern})
    found = presences(table, OUTLETS)
    for presence in found.values():
        assert sum(b - a for a, b in presence.spans) == pytest.approx(length * HOUR)
        assert presence.period == DAY
    assert found["north-post"] != found["south-echo"]
    assert found == presences(table, OUTLETS[::-1])
    assert found != presences(table.model_copy(update={"seed": 1}), OUTLETS)


@pytest.fixture
def traced(tmp_path: Path) -> Callable[..., ClockTable]:
    """A function that makes a clock whose trace has these lines."""

    def make(*lines: str) -> ClockTable:
        path = tmp_path / "there.csv"
        path.write_text("\n".join(["outlet,from,until", *lines]) + "\n")
        return ClockTable(deadline=60.0, trace=path)

    return make


def test_a_trace_s_hours_are_joined_and_come_again(traced: Callable[..., ClockTable]) -> None:
    table = traced("north-post,1,3", "north-post,2,4.5", "south-echo,20,30")
    found = presences(table, OUTLETS)
    assert found["north-post"].spans == ((HOUR, 4.5 * HOUR),)
    assert {presence.period for presence in found.values()} == {2 * DAY}
    assert found["south-echo"].there(31 * HOUR) == 68 * HOUR


def test_a_part_of_a_run_s_outlets_may_have_the_whole_run_s_trace(
    traced: Callable[..., ClockTable],
) -> None:
    table = traced("north-post,1,3", "south-echo,20,30")
    assert list(presences(table, OUTLETS[:1], known=OUTLETS)) == ["north-post"]


WRONG = {
    ("north-post,1,3", "west,1,3"): "an outlet that the contract does not list",
    ("north-post,1,3",): "an outlet that is never there",
    ("north-post,3,1", "south-echo,1,3"): "hours that end before they begin",
    ("north-post,1,1", "south-echo,1,3"): "hours that end before they begin",
    ("north-post,one,3", "south-echo,1,3"): "no hours",
    ("north-post,-1,3", "south-echo,1,3"): "no hours",
    ("north-post,1,nan", "south-echo,1,3"): "no hours",
    ("north-post,1,inf", "south-echo,1,3"): "no hours",
}


@pytest.mark.parametrize(("lines", "what"), WRONG.items(), ids=map(str, WRONG))
def test_a_wrong_trace_is_refused_in_a_sentence(
    traced: Callable[..., ClockTable], lines: tuple[str, ...], what: str
) -> None:
    with pytest.raises(DataError) as caught:
        presences(traced(*lines), OUTLETS)
    assert (caught.value.what, caught.value.exit_code) == (what, 2)
    assert "there.csv" in caught.value.where
