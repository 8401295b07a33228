"""Pooled runs: whom they count on, what they cost, and the mistakes that would make that false."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.sums.lattices import Law, divergence, mixed, moved, shares_together

from presspool.client.engine.clipping import clip_factors, counted
from presspool.common.accounting import events, pooled_cost
from presspool.common.accounting.events import from_dp, renyi, sampled_gaussian
from presspool.common.accounting.filter import PORTFOLIO
from presspool.common.accounting.pooled_plan import (
    PooledCohort,
    PooledPlan,
    pooled_run,
    solve_pooled,
)
from presspool.common.base.errors import ContractError, LedgerError
from presspool.common.contract.contract import Contract
from presspool.common.contract.privacy_plan import NOISE_STEP, PrivacyPlan

TEMPLATE = PrivacyPlan(
    unit="reader",
    noise_multiplier=1.2,
    clip={"adapter": 0.2, "head": 0.2},
    sampling_rate=0.125,
    records_per_reader=2,
    steps=16,
    delta=1e-5,
)


def cohort(outlets: int, colluders: int, dropouts: int, readers: int = 6000) -> PooledCohort:
    return PooledCohort(outlets=outlets, readers=readers, colluders=colluders, dropouts=dropouts)


def pool(who: PooledCohort, **changes: Any) -> PooledPlan:
    given_: dict[str, Any] = {"plan": TEMPLATE, "cohort": who, "parameters": 1000}
    return PooledPlan(**given_ | changes)


def test_whom_a_cohort_counts_on() -> None:
    found = cohort(20, 4, 2)
    assert (found.honest, found.threshold) == (14, 13)
    assert cohort(1, 0, 0).threshold == 1


@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 60))
def test_a_cohort_that_is_taken_has_no_two_answers_and_goes_on_without_the_dropouts(
    outlets: int, colluders: int, dropouts: int
) -> None:
    try:
        found = cohort(outlets, colluders, dropouts)
    except ContractError:
        # Either nobody would be hidden, or two sets of signers could share colluders only.
        survivors = outlets - dropouts
        assert colluders + dropouts >= outlets or 2 * survivors - outlets <= colluders
        return
    assert 2 * found.threshold - outlets > colluders
    assert found.threshold <= outlets - dropouts
    assert found.honest >= 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: cohort(4, 2, 2), "2 colluders and 2 dropouts of 4 outlets"),
        (lambda: cohort(3, 1, 1), "at most 0: 3 outlets have to sign"),
        (lambda: cohort(0, 0, 0), "outlets"),
        (lambda: cohort(4, -1, 0), "colluders"),
        (lambda: cohort(4, 0, -1), "dropouts"),
        (lambda: cohort(4, 1, 0, readers=0), "readers"),
        (lambda: pool(cohort(4, 1, 0), parameters=0), "trained numbers times steps"),
        (lambda: pool(cohort(4, 1, 0), grid_bits=7), "8 to 40 binary places"),
        (lambda: pool(cohort(4, 1, 0), grid_bits=30, ring_bits=32), "expected 64"),
        (lambda: pool(cohort(4, 1, 0), ring_bits=48), "expected 32"),
        (lambda: pool(cohort(4, 1, 0, readers=2**30), grid_bits=40), "fewer than 40"),
        (lambda: pool(cohort(4, 1, 0), plan=replace(TEMPLATE, noise_multiplier=0.0)), "noise"),
        (lambda: pool(cohort(4, 1, 0)).stated(at=5), "1 to 4"),
        (lambda: solved(cohort(4, 1, 0), math.inf), "epsilon"),
        (lambda: solved(cohort(4, 1, 0), 1e6), "protects nobody"),
    ],
)
def test_numbers_that_cannot_be_are_refused_by_name(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ContractError) as refusal:
        make()
    assert says in str(refusal.value)


def solved(who: PooledCohort, epsilon: float) -> PooledPlan:
    return solve_pooled(TEMPLATE, epsilon=epsilon, cohort=who, parameters=13_824)


@pytest.mark.parametrize("epsilon", [1.0, 3.0, 8.0])
def test_the_least_noise_of_an_epsilon_is_found(epsilon: float) -> None:
    found = solved(cohort(20, 4, 2), epsilon)
    assert 0.98 * epsilon < found.stated().epsilon <= epsilon
    less = replace(found.plan, noise_multiplier=found.plan.noise_multiplier - NOISE_STEP)
    assert replace(found, plan=less).stated().epsilon > epsilon
    assert found.plan.epsilon() < epsilon  # the real Gaussian's, beside it
    assert found.alone().epsilon > epsilon
    assert found.stated(at=2).epsilon > 2 * epsilon
    assert found.ring_bits == 32


def test_shares_of_whoever_is_counted_on_are_the_noise_that_is_claimed() -> None:
    """A share's variance falls linearly with K − c − d; its square root would leave too much."""
    for colluders, dropouts in ((0, 0), (1, 0), (4, 2), (7, 3)):
        found = pool(cohort(20, colluders, dropouts))
        left = (20 - colluders - dropouts) * found.scale**2
        assert left == pytest.approx((1.2 * TEMPLATE.sensitivity / found.grid) ** 2)


@pytest.mark.parametrize("order", PORTFOLIO)
def test_one_outlet_that_counts_on_itself_costs_what_local_does(order: int) -> None:
    alone = pool(cohort(1, 0, 0))
    local = renyi(from_dp(TEMPLATE.event()), order=order)
    assert alone.cost(order) == pytest.approx(local, rel=1e-12)
    assert alone.alone() == alone.stated()


many = st.integers(12, 40)
few = st.integers(0, 3)


@given(many, few, few, st.floats(0.01, 0.9), st.integers(1, 200), st.floats(0.5, 5.0))
@settings(max_examples=15, deadline=None)
def test_more_of_anything_that_hurts_costs_more(
    outlets: int, colluders: int, dropouts: int, rate: float, steps: int, sigma: float
) -> None:
    plan = replace(TEMPLATE, sampling_rate=rate, steps=steps, noise_multiplier=sigma)
    here = pool(cohort(outlets, colluders, dropouts), plan=plan)
    for change in ({"sampling_rate": rate * 1.1}, {"steps": steps + 1}):
        worse = replace(here, plan=replace(plan, **change))
        assert worse.stated().epsilon >= here.stated().epsilon
        assert worse.alone().epsilon >= here.alone().epsilon
    for who in (cohort(outlets, colluders + 1, dropouts), cohort(outlets, colluders, dropouts + 1)):
        noisier = replace(here, cohort=who)
        assert noisier.scale > here.scale
        assert noisier.alone().epsilon <= here.alone().epsilon


def contract_with(contract: Contract, epsilon: float | None, **federation: int) -> Contract:
    noise = {"epsilon": epsilon, "noise_multiplier": 1.0}
    return contract.replace(federation=federation, privacy=noise)


def test_a_contract_s_run_at_its_own_epsilon(contract: Contract) -> None:
    numbers = {"parameters": 500, "colluders": 0, "dropouts": 0}
    one = contract_with(contract, 8.0, local_steps=1)
    found = pooled_run(one, **numbers)
    assert 7.5 < found.stated().epsilon <= 8.0
    assert (found.cohort.outlets, found.plan.steps) == (len(one.outlets), one.steps)
    of_sigma = pooled_run(contract_with(contract, None, local_steps=1), **numbers)
    assert of_sigma.stated().epsilon <= one.plan.epsilon()
    assert of_sigma.plan.noise_multiplier > 1.0  # whole orders say less than a loss distribution


def test_several_steps_a_round_are_refused_with_the_rounds_that_take_as_many(
    contract: Contract,
) -> None:
    several = contract_with(contract, 8.0, local_steps=4, rounds=3)
    with pytest.raises(ContractError, match="rounds = 12"):
        pooled_run(several, parameters=500, colluders=0, dropouts=0)


def test_an_auditor_needs_no_torch() -> None:
    import subprocess

    said = "import sys, presspool.common.accounting.pooled_plan; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", said], text=True).strip() == "False"


# What follows plants mistakes: each must make the claim fall below the exact cost of the shares.

TINY = PooledPlan(
    plan=replace(TEMPLATE, noise_multiplier=0.5, clip={"all": 1.0}, sampling_rate=0.3, steps=1),
    cohort=cohort(5, 1, 1, readers=10),
    parameters=1,
    grid_bits=8,
)


@cache
def three_shares(scale: float) -> Law:
    return shares_together(scale, 3, reach=2000)


def exact_step(run: PooledPlan, order: int) -> float:
    """What one step really costs: three shares of this scale, and a reader who moves them by Δ."""
    noise = three_shares(run.scale)
    rate = run.plan.sampling_rate
    drawn = mixed([(1 - rate, noise), (rate, moved(noise, 256))])
    return max(divergence(drawn, noise, order), divergence(noise, drawn, order))


def claims_enough(run: PooledPlan) -> bool:
    return all(run.cost(order) >= exact_step(run, order) * (1 - 1e-9) for order in (2, 3))


def added_only(rate: float, sigma: float, outlets: int, order: int) -> float:
    """The cost of adding a reader, by numerical integration; `outlets` is 1."""
    import numpy as np

    at = np.linspace(-12, 12, 20001)
    ratio = 1 - rate + rate * np.exp(at / sigma - 1 / (2 * sigma**2))
    normal = np.exp(-(at**2) / 2) / math.sqrt(2 * math.pi)
    return math.log(float(np.trapezoid(normal * ratio ** (1 - order), at))) / (order - 1)


def test_the_claim_is_the_exact_cost_of_a_step_as_outlets_take_it() -> None:
    assert TINY.moved == 256
    for order in (2, 3):
        assert TINY.cost(order) == pytest.approx(exact_step(TINY, order), rel=1e-9)
    assert claims_enough(TINY)


def test_planted_a_standard_deviation_that_falls_linearly(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = property(lambda run: run.plan.noise_multiplier / run.cohort.honest)
    monkeypatch.setattr(PooledPlan, "share_multiplier", wrong)
    assert not claims_enough(TINY)


def test_planted_dropouts_that_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = property(lambda who: who.outlets - who.colluders)
    monkeypatch.setattr(PooledCohort, "honest", wrong)
    assert not claims_enough(TINY)


def test_planted_the_direction_of_removing_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooled_cost, "group_cost", added_only)
    assert not claims_enough(TINY)


def test_planted_a_sampling_rate_that_is_squared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pooled_cost, "group_cost", lambda q, sigma, _, order: sampled_gaussian(q * q, sigma, order)
    )
    assert not claims_enough(TINY)


def test_planted_rounding_to_the_nearest_without_its_part_of_the_sensitivity() -> None:
    """Cut off towards zero a reader moves the sum by Δ at most; to the nearest, by more."""
    run = pool(cohort(4, 1, 0), plan=replace(TEMPLATE, clip={"all": 1.0}), grid_bits=8)
    gradient = torch.ones(1, 5000)  # clipped, 3.62 steps of the grid each
    factors = clip_factors([gradient], 1.0)
    cut = [int(k) for k in counted(gradient, factors, run.grid)]
    nearest = torch.round(gradient[0].double() * factors[0] / run.grid)
    assert sum(k * k for k in cut) <= run.moved**2
    length = math.sqrt(float((nearest**2).sum()))
    assert length > run.moved
    q, sigma = run.plan.sampling_rate, run.plan.noise_multiplier
    truth = run.plan.steps * sampled_gaussian(q, sigma * run.moved / length, 4)
    assert run.cost(4) < 0.9 * truth


def test_a_share_however_small_has_a_cost_of_its_own() -> None:
    """σ/√m below what a run of one outlet may have: dear, and whoever reads a ledger goes on."""
    least = events.PooledSum(rate=0.1, noise_multiplier=1e-3, shares=10**6, scale=0.5, parameters=1)
    event = events.SelfComposed(event=least, count=10**9)
    assert events.charge_alone(event, order=2) == events.LARGEST_CHARGE
    found = pooled_cost.epsilon_alone(event, delta=1e-5)
    assert found is not None
    assert 1e15 < found < math.inf


def test_a_plan_that_no_ledger_can_price_says_so() -> None:
    """As under trust "local": one sentence, where the program would have crashed."""
    plan = replace(TEMPLATE, sampling_rate=1e-13)
    run = pool(cohort(20, 4, 2), plan=plan)
    with pytest.raises(LedgerError, match="privacy event"):
        run.event()


def test_a_share_too_small_for_its_grid_is_refused_before_anything_is_charged() -> None:
    quiet = replace(TEMPLATE, noise_multiplier=0.005)
    with pytest.raises(ContractError, match="at least 1/2 a step"):
        pool(cohort(20, 4, 2), plan=quiet, grid_bits=8)
