"""A history holds what its state forgets: refusals, runs that are over, the budget over time."""

from __future__ import annotations

from tests.fakes.made_ledgers import JOB, RUN, following, opened, reserve

from presspool.common.accounting import events
from presspool.common.ledger import entries
from presspool.common.ledger.history import History

COST = events.charge(JOB, order=4)


def lived() -> History:
    """A job that was reserved and settled, then a refusal."""
    history = History()
    first = opened().opened
    history.apply(first)
    run = reserve(history, 1)
    history.apply(run)
    history.apply(following(history, entries.Settle, reservation=run.reservation))
    history.apply(following(history, entries.Refusal, run=RUN, reason="filter", charge=5, free=0))
    return history


def test_it_is_the_state_of_the_same_entries() -> None:
    history = lived()
    assert (history.size, history.spent) == (4, COST)
    assert not history.dangling  # the job is over


def test_what_a_state_forgets_is_there() -> None:
    history = lived()
    assert [held.charge for held in history.runs.values()] == [COST]
    assert [(entry.seq, entry.reason) for entry in history.refusals] == [(3, "filter")]
    assert [type(entry) for entry in history.keyed] == [entries.Opened]


def test_the_budget_over_time_is_what_was_used_of_the_room() -> None:
    history = lived()
    room = history.room(8.0)
    assert [(point.seq, point.used) for point in history.points] == [(0, 0), (1, COST)]
    assert [point.share for point in history.points] == [0.0, COST / room]
