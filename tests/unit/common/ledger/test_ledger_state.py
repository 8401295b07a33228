"""The ledger's rules: what may come next, what counts as spent, and what can be claimed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.made_ledgers import (
    DAY,
    DIGEST,
    JOB,
    ORIGIN,
    RUN,
    SETTINGS,
    SIGNER,
    following,
    identity,
    opened,
    reserve,
    rotation,
)

from presspool.common.accounting import events
from presspool.common.accounting.filter import Caps
from presspool.common.base.errors import BudgetError, EvidenceError, LedgerError
from presspool.common.ledger import entries
from presspool.common.ledger.ledger_state import LedgerState
from presspool.common.transparency import notes

COST = events.charge(JOB, order=4)


def with_job(**changes: Any) -> LedgerState:
    book = opened(**changes)
    book.apply(reserve(book, 1))
    return book


def refused(book: LedgerState, entry: entries.Entry, match: str) -> LedgerError:
    """The entry is refused, and the book is exactly as it was."""
    before = copy.deepcopy(vars(book))
    with pytest.raises(LedgerError, match=match) as caught:
        book.apply(entry)
    assert vars(book) == before
    return caught.value


@pytest.mark.parametrize(("order", "admitted"), [(4, 29), (8, 17)])
def test_golden_number_of_jobs_admitted(order: int, admitted: int) -> None:
    book = opened(order=order)
    for number in range(admitted):
        book.apply(reserve(book, number))
    error = refused(book, reserve(book, admitted), "does not fit")
    assert isinstance(error, BudgetError)
    assert error.reason == "filter"
    assert error.charge == events.charge(JOB, order=order) > error.free
    assert book.spent <= book.room(8.0)


def test_a_ledger_without_capacity_is_never_opened() -> None:
    with pytest.raises(LedgerError, match="orders that work for this ε: 6, 8"):
        opened(epsilon_max=3.0, order=4)


def test_sub_caps_need_capacity_and_stay_inside_the_cap() -> None:
    with pytest.raises(LedgerError, match="without capacity"):
        opened(period_epsilon=3.0)
    with pytest.raises(LedgerError, match="cap dataset"):
        opened(dataset_epsilon=9.0)


def test_a_period_cap_holds_for_each_period_and_never_widens_the_filter() -> None:
    book = opened(period_epsilon=4.0)  # room for 5 jobs of 0.169 in 0.912 nats
    for number in range(5):
        book.apply(reserve(book, number))
    assert refused_for(book, reserve(book, 5)) == "period"
    for period in range(2, 7):
        for number in range(5):
            if book.spent + COST <= book.room(8.0):
                book.apply(reserve(book, 100 * period + number, period=f"20{10 + period}"))
    assert book.size - 1 == 29
    assert refused_for(book, reserve(book, 999, period="2099")) == "filter"


def refused_for(book: LedgerState, entry: entries.Entry) -> str:
    error = refused(book, entry, ".")
    assert isinstance(error, BudgetError)
    return error.reason


def test_a_data_set_cap_holds_for_each_of_a_runs_data_sets() -> None:
    book = opened(dataset_epsilon=4.0)
    for number in range(5):
        book.apply(reserve(book, number, datasets=(identity(100),)))
    mixed = reserve(book, 9, datasets=(identity(99), identity(100)))
    assert refused_for(book, mixed) == "dataset"
    book.apply(reserve(book, 9, datasets=(identity(99),)))
    assert book.charged(dataset=identity(99)) == COST
    assert book.charged(dataset=identity(100)) == 5 * COST
    assert book.charged() == 6 * COST


def test_a_run_of_another_unit_is_refused() -> None:
    book = opened()
    assert refused_for(book, reserve(book, unit="record")) == "unit"


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.999999, 1.000001])
def test_an_understated_charge_is_refused(factor: float) -> None:
    book = opened()
    refused(book, reserve(book, charge=int(COST * factor)), "charge")


def test_a_dangling_reservation_counts_as_spent() -> None:
    book = with_job()
    assert list(book.dangling) == [identity(1)]
    assert book.spent == COST
    book.apply(following(book, entries.Settle, reservation=identity(1)))
    assert not book.dangling
    assert book.spent == COST


def test_only_steps_never_executed_come_back() -> None:
    book = with_job()
    held = {"reservation": identity(1)}
    book.apply(following(book, entries.ReleaseIntent, **held, round=0, steps=50, digest=DIGEST))
    less = events.charge(JOB.first(49), order=4)
    refused(book, following(book, entries.GiveBack, **held, kept=49, charge=less), "kept steps")
    refused(book, following(book, entries.GiveBack, **held, kept=200, charge=COST), "kept steps")
    fifty = events.charge(JOB.first(50), order=4)
    refused(book, following(book, entries.GiveBack, **held, kept=50, charge=fifty // 2), "charge")
    book.apply(following(book, entries.GiveBack, **held, kept=50, charge=fifty))
    assert book.spent == book.charged(period="2026-Q1") == fifty
    late = following(book, entries.ReleaseIntent, **held, round=1, steps=51, digest=DIGEST)
    refused(book, late, "executed steps")


def test_a_run_that_never_began_can_be_given_back_whole() -> None:
    book = with_job()
    refused(
        book,
        following(book, entries.GiveBack, reservation=identity(1), kept=0, charge=5),
        "0 for no steps",
    )
    book.apply(following(book, entries.GiveBack, reservation=identity(1), kept=0, charge=0))
    assert book.spent == 0
    again = following(book, entries.GiveBack, reservation=identity(1), kept=0, charge=0)
    refused(book, again, "kept steps")


def test_a_give_back_never_raises_the_charge() -> None:
    book = with_job()
    tiny = following(book, entries.GiveBack, reservation=identity(1), kept=199, charge=COST + 1)
    refused(book, tiny, "after giving back")


def test_what_is_settled_stays_charged_for_ever() -> None:
    book = with_job()
    book.apply(following(book, entries.Settle, reservation=identity(1)))
    for entry in (
        following(book, entries.GiveBack, reservation=identity(1), kept=0, charge=0),
        following(book, entries.Settle, reservation=identity(1)),
        following(
            book, entries.ReleaseIntent, reservation=identity(1), round=0, steps=1, digest=DIGEST
        ),
    ):
        refused(book, entry, "one that is open")
    refused(book, reserve(book, 1), "a new id")


def test_one_round_is_released_once_and_in_order() -> None:
    book = with_job()
    first = {"reservation": identity(1), "steps": 10, "digest": DIGEST}
    book.apply(following(book, entries.ReleaseIntent, **first, round=3))
    for round_ in (3, 2):
        refused(book, following(book, entries.ReleaseIntent, **first, round=round_), "round")
    fewer = following(book, entries.ReleaseIntent, **{**first, "steps": 9}, round=4)
    refused(book, fewer, "executed steps")


def test_a_reservation_id_is_used_once() -> None:
    book = with_job()
    refused(book, reserve(book, 1), "a new id")


def test_claims_use_the_highest_caps_ever_in_force() -> None:
    book = opened(period_epsilon=5.0)
    book.apply(following(book, entries.PolicyChanged, epsilon_max=12.0, period_epsilon=4.0))
    book.apply(following(book, entries.PolicyChanged, epsilon_max=6.0, period_epsilon=4.5))
    assert book.caps == Caps(epsilon_max=6.0, period=4.5)
    assert book.highest == Caps(epsilon_max=12.0, period=5.0)
    book.apply(following(book, entries.PolicyChanged, epsilon_max=6.0))
    assert book.highest == Caps(epsilon_max=12.0, period=None)


def test_a_lowered_cap_admits_nothing_once_it_is_used_up() -> None:
    book = opened()
    for number in range(20):
        book.apply(reserve(book, number))
    book.apply(following(book, entries.PolicyChanged, epsilon_max=5.0))
    error = refused(book, reserve(book, 99), "does not fit")
    assert isinstance(error, BudgetError)
    assert error.free == 0


def test_a_policy_without_capacity_is_refused() -> None:
    book = opened()
    refused(book, following(book, entries.PolicyChanged, epsilon_max=3.0), "without capacity")


def test_a_closed_period_is_closed() -> None:
    book = with_job()
    closing = following(book, entries.PeriodClosed, period="2026-Q1", charge=COST)
    refused(book, closing, "no open reservations")
    book.apply(following(book, entries.Settle, reservation=identity(1)))
    wrong = following(book, entries.PeriodClosed, period="2026-Q1", charge=COST - 1)
    refused(book, wrong, "charge of the period")
    book.apply(following(book, entries.PeriodClosed, period="2026-Q1", charge=COST))
    assert refused_for(book, reserve(book, 2)) == "period-closed"
    again = following(book, entries.PeriodClosed, period="2026-Q1", charge=COST)
    refused(book, again, "one that is open")


def test_a_new_key_needs_the_old_keys_word() -> None:
    book = opened()
    new = notes.Signer.load(ORIGIN, b"n" * 32, kind=notes.NOTE)
    with pytest.raises(EvidenceError, match="does not verify"):
        book.apply(rotation(book, new, new))
    assert book.key == SIGNER.key.text
    book.apply(rotation(book, SIGNER, new))
    assert book.key == new.key.text
    with pytest.raises(EvidenceError, match="does not verify"):
        book.apply(rotation(book, SIGNER, SIGNER))


@pytest.mark.parametrize(
    "key",
    [
        notes.Signer.load("example.org/other", b"k" * 32, kind=notes.NOTE).key.text,
        notes.Signer.load(ORIGIN, b"k" * 32, kind=notes.COSIGNATURE).key.text,
        SIGNER.key.text[:-1] + "A",
    ],
)
def test_a_ledger_is_signed_by_a_note_key_of_its_own_name(key: str) -> None:
    with pytest.raises(LedgerError, match="signing key"):
        opened(key=key)


def test_entries_come_one_after_the_other_and_days_do_not_go_back() -> None:
    book = with_job()
    settle = {"reservation": identity(1)}
    for seq in (0, 1, 3):
        refused(book, following(book, entries.Settle, **settle, seq=seq), "sequence number")
    refused(book, following(book, entries.Settle, **settle, day="2026-01-04"), "day")


def test_nothing_comes_before_the_opening_and_only_one_opening() -> None:
    book = LedgerState()
    refused(book, following(book, entries.Settle, reservation=identity(1)), "first entry")
    for read in ("opened", "caps", "highest"):
        with pytest.raises(LedgerError, match="first entry"):
            getattr(book, read)
    book = opened()
    refused(book, following(book, entries.Opened, **SETTINGS), "second opening")


def test_records_spend_nothing() -> None:
    book = opened()
    book.apply(following(book, entries.AdapterReceived, run=RUN, round=0, digest=DIGEST))
    book.apply(following(book, entries.Refusal, run=RUN, reason="filter", charge=5, free=0))
    assert (book.size, book.spent, book.day) == (3, 0, DAY)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 200)), max_size=80))
@settings(max_examples=60)
def test_whatever_happens_the_filter_is_never_exceeded_and_sums_agree(
    actions: list[tuple[int, int, int]],
) -> None:
    """Model: the sum over reservations of the cost of the steps they may still have executed."""
    book, model = opened(epsilon_max=4.0, period_epsilon=3.9), dict[str, int]()
    for number, (action, which, steps) in enumerate(actions):
        chosen = identity(which)
        try:
            if action == 0:
                book.apply(reserve(book, which, period=f"200{steps % 3}"))
                model[chosen] = COST
            elif action == 1:
                charge = events.charge(JOB.first(steps), order=4) if steps else 0
                book.apply(
                    following(book, entries.GiveBack, reservation=chosen, kept=steps, charge=charge)
                )
                model[chosen] = charge
            elif action == 2:
                book.apply(following(book, entries.Settle, reservation=chosen))
            else:
                book.apply(
                    following(
                        book,
                        entries.ReleaseIntent,
                        reservation=chosen,
                        round=number,
                        steps=steps,
                        digest=DIGEST,
                    )
                )
        except LedgerError:
            continue
        assert book.spent == sum(model.values()) <= book.room(4.0)
    assert sum(book.charged(period=f"200{i}") for i in range(3)) == book.spent
