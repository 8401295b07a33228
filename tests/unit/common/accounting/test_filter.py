"""The Rényi filter: the issue's golden numbers, its formula, and caps that cannot hold anything."""

from __future__ import annotations

import math

import dp_accounting as dp
import pytest
from dp_accounting import rdp
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.made_ledgers import DAY, SETTINGS

from presspool.common.accounting import events
from presspool.common.accounting.events import Gaussian, PoissonSampled, SelfComposed
from presspool.common.accounting.filter import (
    PORTFOLIO,
    Caps,
    capacity,
    epsilon_of,
    propose,
    units,
)
from presspool.common.base.errors import EvidenceError, LedgerError
from presspool.common.ledger import entries

JOB = SelfComposed(event=PoissonSampled(rate=0.02, event=Gaussian(noise_multiplier=1.2)), count=200)


@pytest.mark.parametrize(("order", "admitted"), [(4, 29), (8, 17)])
def test_golden_numbers_of_jobs_admitted(order: int, admitted: int) -> None:
    room = units(epsilon=8.0, delta=1e-5, order=order)
    assert room // events.charge(JOB, order=order) == admitted


def test_golden_number_of_jobs_at_a_fractional_order() -> None:
    """29 at α = 3.7 as well: a check of the accountants, since ledgers have whole orders only.

    The cost is the library's, by the series of Mironov, Talwar & Zhang 2019, section 3.3; Rényi
    divergence grows with the order, so it lies between ours at 3 and at 4.
    """
    found = rdp.RdpAccountant(
        orders=[3.7], neighboring_relation=dp.NeighboringRelation.ADD_OR_REMOVE_ONE
    )
    found.compose(events.to_dp(JOB))
    cost = float(found._rdp[0])
    assert events.renyi(JOB, order=3) < cost < events.renyi(JOB, order=4)
    room = 8 - math.log1p(-1 / 3.7) + (math.log(1e-5) + math.log(3.7)) / 2.7
    assert room // cost == 29
    with pytest.raises(EvidenceError, match=r"order"):
        entries.parse_entry(fractional_opening())


def fractional_opening() -> bytes:
    """The first entry of a ledger of order 3.7, which nobody may write."""
    whole = entries.build(entries.Opened, seq=0, day=DAY, **SETTINGS).canonical()
    return whole.replace(b'"order":4', b'"order":3.7')


def test_golden_capacity_by_hand() -> None:
    # 8 − ln(3/4) + (ln 1e-5 + ln 4)/3 = 8 + 0.287682 + (−11.512925 + 1.386294)/3
    assert capacity(epsilon=8.0, delta=1e-5, order=4) == pytest.approx(4.912138, abs=1e-6)


def test_a_cap_without_capacity_is_refused_with_the_orders_that_work() -> None:
    with pytest.raises(LedgerError, match="orders that work for this ε: 6, 8, 12") as caught:
        units(epsilon=3.0, delta=1e-5, order=4)
    assert "ε above 3.088" in str(caught.value)


def test_a_cap_that_no_order_can_hold_says_so() -> None:
    with pytest.raises(LedgerError, match="no order works"):
        units(epsilon=0.01, delta=1e-5, order=4)


@given(st.sampled_from(PORTFOLIO), st.floats(1e-12, 0.01), st.floats(0.1, 1000))
def test_a_full_filter_implies_exactly_the_cap(order: int, delta: float, epsilon: float) -> None:
    room = capacity(epsilon=epsilon, delta=delta, order=order)
    if room > 0:
        assert epsilon_of(room, delta=delta, order=order) == pytest.approx(epsilon, rel=1e-9)
    if room > 1e-9:
        inside = units(epsilon=epsilon, delta=delta, order=order) * events.UNIT
        assert room - 3 * events.UNIT <= inside < room


def test_an_enormous_cap_stays_a_whole_number_for_json() -> None:
    assert units(epsilon=1e12, delta=1e-5, order=4) == events.LARGEST_CHARGE


@pytest.mark.parametrize(
    "caps",
    [
        {"epsilon_max": 0.0},
        {"epsilon_max": -1.0},
        {"epsilon_max": math.inf},
        {"epsilon_max": math.nan},
        {"epsilon_max": 8.0, "period": 9.0},
        {"epsilon_max": 8.0, "dataset": 0.0},
        {"epsilon_max": 8.0, "dataset": math.nan},
    ],
)
def test_caps_that_are_none(caps: dict[str, float]) -> None:
    with pytest.raises(LedgerError, match="cap "):
        Caps(**caps)


def test_every_sub_cap_needs_capacity() -> None:
    Caps(epsilon_max=8.0, period=4.0, dataset=5.0).check(delta=1e-5, order=4)
    for caps in (Caps(epsilon_max=8.0, period=3.0), Caps(epsilon_max=8.0, dataset=3.0)):
        with pytest.raises(LedgerError, match="without capacity"):
            caps.check(delta=1e-5, order=4)


def test_the_highest_caps_are_the_weaker_in_every_part() -> None:
    one = Caps(epsilon_max=8.0, period=4.0, dataset=5.0)
    other = Caps(epsilon_max=6.0, period=5.0)
    assert one.highest(other) == Caps(epsilon_max=8.0, period=5.0, dataset=None)


def test_a_proposal_holds_the_runs_expected_and_not_one_step_less() -> None:
    plan = propose([JOB] * 29, delta=1e-5)
    assert plan.order == 4
    assert plan.epsilon == pytest.approx(8.0)
    room = units(epsilon=plan.epsilon, delta=1e-5, order=plan.order)
    assert room >= 29 * events.charge(JOB, order=plan.order)
    for order in PORTFOLIO:
        assert capacity(epsilon=plan.epsilon - 0.1, delta=1e-5, order=order) < 29 * events.renyi(
            JOB, order=order
        )


def test_a_plan_needs_runs() -> None:
    with pytest.raises(LedgerError, match="at least one expected run"):
        propose([], delta=1e-5)
