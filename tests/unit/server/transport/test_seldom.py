"""What is said once a minute, and the minute in which it is not said again."""

from __future__ import annotations

from presspool.server.transport.seldom import MOST_KEYS, Minute, Seldom


def test_a_minute_is_over_once() -> None:
    now = 100.0
    minute = Minute(lambda: now)
    now = 160.0
    assert not minute.is_over()
    now = 161.0
    assert [minute.is_over(), minute.is_over()] == [True, False]
    now = 222.0
    assert minute.is_over()


def test_things_are_said_again_in_the_next_minute_and_not_more_than_so_many_in_one() -> None:
    now = 0.0
    told = Seldom(lambda: now)
    assert [told("north", "late"), told("north", "late"), told("south", "late")] == [1, 0, 1]
    said = sum(told(str(number)) for number in range(2 * MOST_KEYS))
    assert said == MOST_KEYS - 2
    now = 61.0
    assert [told("north", "late"), told("north", "late")] == [1, 0]
