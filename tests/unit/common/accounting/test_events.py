"""Privacy events: exact as JSON, and priced right by three independent computations."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext

import dp_accounting as dp
import pytest
from dp_accounting import rdp
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from presspool.common.accounting import events
from presspool.common.accounting.events import (
    Composed,
    Event,
    Gaussian,
    PoissonSampled,
    SelfComposed,
    charge,
    from_dp,
    renyi,
    sampled_gaussian,
    to_dp,
)
from presspool.common.accounting.filter import PORTFOLIO
from presspool.common.base.errors import LedgerError
from presspool.common.contract.privacy_plan import PrivacyPlan

ADAPTER: TypeAdapter[SelfComposed | Composed] = TypeAdapter(Event)
JOB = SelfComposed(event=PoissonSampled(rate=0.02, event=Gaussian(noise_multiplier=1.2)), count=200)
WARM_UP = SelfComposed(event=Gaussian(noise_multiplier=3.0), count=5)
PHASES = Composed(events=(WARM_UP, JOB))

sigmas = st.floats(0.3, 20.0)
rates = st.floats(1e-6, 1.0)
steps = st.builds(PoissonSampled, rate=rates, event=st.builds(Gaussian, noise_multiplier=sigmas))
runs = st.builds(
    SelfComposed,
    event=steps | st.builds(Gaussian, noise_multiplier=sigmas),
    count=st.integers(1, 5000),
)
phased = runs | st.builds(Composed, events=st.lists(runs, min_size=1, max_size=4).map(tuple))


def exact(q: float, sigma: float, order: int) -> float:
    """The formula of Mironov, Talwar & Zhang in 120 digits, with nothing rearranged."""
    getcontext().prec = 120
    rate, exponent = Decimal(q), 1 / (2 * Decimal(sigma) ** 2)
    total = sum(
        math.comb(order, i) * (1 - rate) ** (order - i) * rate**i * (exponent * (i * i - i)).exp()
        for i in range(order + 1)
    )
    return float(Decimal(total).ln() / (order - 1))


def oracle(event: SelfComposed | Composed, order: int) -> float:
    accountant = rdp.RdpAccountant(
        orders=[order], neighboring_relation=dp.NeighboringRelation.ADD_OR_REMOVE_ONE
    )
    accountant.compose(to_dp(event))
    return float(accountant._rdp[0])


@pytest.mark.parametrize("order", PORTFOLIO)
@pytest.mark.parametrize("sigma", [0.2, 0.5, 0.8, 1.2, 3.0, 20.0])
@pytest.mark.parametrize("q", [1e-9, 1e-4, 0.02, 0.3, 0.99])
def test_a_step_costs_what_the_paper_says_in_120_digits(q: float, sigma: float, order: int) -> None:
    assert sampled_gaussian(q, sigma, order) == pytest.approx(exact(q, sigma, order), rel=1e-12)


@pytest.mark.parametrize("order", PORTFOLIO)
@pytest.mark.parametrize("sigma", [0.3, 0.7, 1.2, 4.0])
@pytest.mark.parametrize("q", [0.01, 0.02, 0.15, 0.5, 0.9, 1.0])
def test_a_run_costs_what_dp_accounting_says(q: float, sigma: float, order: int) -> None:
    run = SelfComposed(
        event=PoissonSampled(rate=q, event=Gaussian(noise_multiplier=sigma)), count=200
    )
    # Its own sum loses digits where the cost is tiny: 1e-9 relative, or 200 roundings of 1.
    assert renyi(run, order=order) == pytest.approx(oracle(run, order), rel=1e-9, abs=2e-13)


@given(phased, st.sampled_from(PORTFOLIO))
@settings(max_examples=60)
def test_any_event_costs_what_dp_accounting_says(
    event: SelfComposed | Composed, order: int
) -> None:
    rounding = 1e-15 * event.steps * order
    assert renyi(event, order=order) == pytest.approx(oracle(event, order), rel=1e-9, abs=rounding)


@pytest.mark.parametrize("order", PORTFOLIO)
def test_without_sampling_the_cost_is_alpha_over_two_sigma_squared(order: int) -> None:
    plain = SelfComposed(event=Gaussian(noise_multiplier=1.3), count=7)
    whole = SelfComposed(
        event=PoissonSampled(rate=1.0, event=Gaussian(noise_multiplier=1.3)), count=7
    )
    assert renyi(plain, order=order) == renyi(whole, order=order)
    assert renyi(plain, order=order) == pytest.approx(7 * order / (2 * 1.3**2), rel=1e-15)


def test_the_sampled_cost_reaches_the_whole_cost_as_the_rate_goes_to_one() -> None:
    near = sampled_gaussian(1 - 1e-12, 1.3, 6)
    assert near == pytest.approx(sampled_gaussian(1.0, 1.3, 6), rel=1e-9)


def test_small_noise_does_not_overflow() -> None:
    assert sampled_gaussian(0.5, 0.01, 64) == pytest.approx(64 / (2 * 0.01**2), rel=1e-3)


@given(phased, st.sampled_from(PORTFOLIO))
def test_a_charge_is_never_below_the_cost_and_at_most_two_units_above(
    event: SelfComposed | Composed, order: int
) -> None:
    cost = renyi(event, order=order) / events.UNIT
    if cost < events.LARGEST_CHARGE:
        assert 1 <= charge(event, order=order) - cost <= 2


def test_a_charge_that_no_budget_could_pay_is_refused() -> None:
    reckless = SelfComposed(event=Gaussian(noise_multiplier=0.001), count=1000)
    with pytest.raises(LedgerError, match="some budget could pay"):
        charge(reckless, order=64)


@given(phased)
def test_json_and_dp_accounting_give_back_the_same_event(event: SelfComposed | Composed) -> None:
    assert ADAPTER.validate_json(ADAPTER.dump_json(event)) == event
    assert from_dp(to_dp(event)) == event


def test_the_event_of_a_privacy_plan_is_taken_as_it_is() -> None:
    plan = PrivacyPlan(
        unit="reader",
        noise_multiplier=1.2,
        clip={"adapter": 1.0, "head": 0.5},
        sampling_rate=0.02,
        records_per_reader=2,
        steps=200,
        delta=1e-5,
    )
    assert from_dp(plan.event()) == JOB
    assert to_dp(JOB) == plan.event()


@pytest.mark.parametrize(
    "event",
    [
        dp.NonPrivateDpEvent(),
        dp.NoOpDpEvent(),
        dp.GaussianDpEvent(1.0),
        dp.ComposedDpEvent([]),
        dp.ComposedDpEvent([dp.ComposedDpEvent([dp.GaussianDpEvent(1.0)])]),
        dp.SelfComposedDpEvent(dp.LaplaceDpEvent(1.0), 3),
        dp.SelfComposedDpEvent(
            dp.dp_event.MixtureOfGaussiansDpEvent(1.0, [0.0, 1.0], [0.5, 0.5]), 3
        ),
        dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(0.1, dp.LaplaceDpEvent(1.0)), 3),
        dp.SelfComposedDpEvent(dp.GaussianDpEvent(0.0), 3),
        dp.SelfComposedDpEvent(dp.GaussianDpEvent(1.0), 0),
        dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(0.0, dp.GaussianDpEvent(1.0)), 1),
    ],
)
def test_what_cannot_be_priced_cannot_be_written_down(event: dp.DpEvent) -> None:
    with pytest.raises(LedgerError, match="privacy event"):
        from_dp(event)


@given(phased, st.data())
def test_the_first_steps_cost_no_more_and_the_rest_is_not_lost(
    event: SelfComposed | Composed, data: st.DataObject
) -> None:
    kept = data.draw(st.integers(1, event.steps))
    part = event.first(kept)
    assert part.steps == kept
    assert event.first(event.steps) == event
    assert renyi(part, order=6) <= renyi(event, order=6) * (1 + 1e-12)


@given(phased, st.data())
def test_what_follows_the_first_steps_is_exactly_the_rest(
    event: SelfComposed | Composed, data: st.DataObject
) -> None:
    gone = data.draw(st.integers(0, event.steps - 1))
    rest = event.after(gone)
    assert rest.steps == event.steps - gone
    assert event.after(0) == event
    both = (renyi(event.first(gone), order=6) if gone else 0.0) + renyi(rest, order=6)
    assert both == pytest.approx(renyi(event, order=6), rel=1e-12)


def test_phases_are_kept_in_their_order() -> None:
    assert PHASES.after(3).events == (WARM_UP.after(3), JOB)
    assert PHASES.after(5).events == (JOB,)
    assert PHASES.after(105).events == (JOB.first(100),)
    assert PHASES.steps == 205
    assert PHASES.first(5).events == (WARM_UP,)
    assert PHASES.first(6).events == (WARM_UP, JOB.first(1))
    assert renyi(PHASES, order=8) == renyi(WARM_UP, order=8) + renyi(JOB, order=8)


@pytest.mark.parametrize("steps", [0, -1, 201])
def test_steps_that_an_event_does_not_have(steps: int) -> None:
    with pytest.raises(LedgerError, match="1 to 200"):
        JOB.first(steps)
    with pytest.raises(LedgerError, match="1 to 200"):
        JOB.after(200 - steps)
    with pytest.raises(LedgerError, match="1 to 205"):
        PHASES.after(205 - (steps if steps < 1 else 206))


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"gaussian","noise_multiplier":1.0}',
        '{"type":"self_composed","count":1,"event":{"type":"gaussian","noise_multiplier":0}}',
        '{"type":"self_composed","count":1,"event":{"type":"gaussian","noise_multiplier":1e999}}',
        '{"type":"self_composed","count":1,"event":{"type":"gaussian","noise_multiplier":NaN}}',
        '{"type":"self_composed","count":true,"event":{"type":"gaussian","noise_multiplier":1.0}}',
        '{"type":"self_composed","count":1,"event":{"type":"gaussian","noise_multiplier":"1"}}',
        '{"type":"self_composed","count":1,"event":{"type":"gaussian","noise_multiplier":1.0,"n":1}}',
        '{"type":"composed","events":[]}',
        '{"type":"composed","events":[{"type":"composed","events":[]}]}',
        "[" * 5000,
    ],
)
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_json(text)
