"""The privacy plan: its ranges, its event, and the noise that an ε needs."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import dp_accounting as dp
import pytest

from presspool.common.base.errors import ContractError, PlanError
from presspool.common.contract.privacy_plan import (
    NOISE_STEP,
    SMALLEST_NOISE_MULTIPLIER,
    PrivacyPlan,
    smallest_tick,
    solve_noise,
)

GOOD: dict[str, Any] = {
    "unit": "reader",
    "noise_multiplier": 1.2,
    "clip": {"all": 1.0},
    "sampling_rate": 0.15,
    "records_per_reader": 2,
    "steps": 12,
    "delta": 1e-5,
}


def plan(**changes: Any) -> PrivacyPlan:
    return PrivacyPlan(**GOOD | changes)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("unit", "article"),
        ("noise_multiplier", -0.1),
        ("noise_multiplier", math.nan),
        ("noise_multiplier", math.inf),
        ("noise_multiplier", 1e-9),  # neither noise nor an honest 0
        ("clip", {}),
        ("clip", {"all": 0.0}),
        ("clip", {"all": -1.0}),
        ("clip", {"all": math.inf}),
        ("clip", {"adapter": 1.0, "head": math.nan}),
        ("sampling_rate", 0.0),
        ("sampling_rate", 1.0000001),
        ("sampling_rate", math.nan),
        ("records_per_reader", 0),
        ("steps", 0),
        ("delta", 0.0),
        ("delta", 1.0),
        ("delta", math.nan),
    ],
)
def test_values_outside_their_range_are_refused(key: str, value: Any) -> None:
    with pytest.raises(ContractError, match=key) as caught:
        plan(**{key: value})
    assert "[privacy]" in str(caught.value)


def test_a_plan_cannot_be_changed() -> None:
    clip = {"all": 1.0}
    frozen = plan(clip=clip)
    clip["all"] = 100.0
    assert frozen.sensitivity == 1.0
    with pytest.raises(TypeError):
        frozen.clip["all"] = 100.0  # type: ignore[index]
    with pytest.raises(AttributeError):
        frozen.noise_multiplier = 0.0  # type: ignore[misc]


def test_sensitivity_is_joint_over_the_groups() -> None:
    both = plan(clip={"adapter": 0.3, "head": 0.4}, noise_multiplier=2.0)
    assert both.sensitivity == pytest.approx(0.5)
    assert both.noise_std == pytest.approx(1.0)
    # σ is relative to the sensitivity, so clip norms do not enter the price.
    assert both.event() == plan(noise_multiplier=2.0).event()


def test_the_batch_is_a_product_of_public_constants() -> None:
    assert plan().expected_batch(1000) == 150.0
    assert plan(sampling_rate=1.0).expected_batch(7) == 7.0


def test_the_event_says_what_the_code_does() -> None:
    gaussian = dp.GaussianDpEvent(1.2)
    assert plan().event() == dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(0.15, gaussian), 12)
    assert plan().event(5) == dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(0.15, gaussian), 5)
    assert plan(sampling_rate=1.0).event() == dp.SelfComposedDpEvent(gaussian, 12)
    assert plan(noise_multiplier=0).event() == dp.NonPrivateDpEvent()


@pytest.mark.parametrize("steps", [0, -1, 13])
def test_no_event_beyond_the_plan(steps: int) -> None:
    with pytest.raises(PlanError):
        plan().event(steps)
    if steps:
        with pytest.raises(PlanError):
            plan().epsilon(steps)


def test_epsilon_of_the_steps_so_far() -> None:
    spent = [plan().epsilon(steps) for steps in (0, 1, 6, 12)]
    assert spent[0] == 0.0
    assert spent == sorted(spent)
    assert spent[-1] == plan().epsilon()


def test_without_noise_epsilon_is_infinite() -> None:
    bare = plan(noise_multiplier=0)
    assert bare.epsilon() == math.inf
    assert bare.epsilon(0) == 0.0
    assert not bare.protected
    assert plan().protected


@pytest.mark.parametrize(
    ("sigma", "rate", "steps"), [(0.01, 0.1, 10), (1e-3, 1.0, 1000), (1.0, 1.0, 10**8)]
)
def test_a_hopeless_plan_is_priced_at_once(sigma: float, rate: float, steps: int) -> None:
    """A contract with almost no noise must neither hang an outlet nor eat its memory."""
    epsilon = plan(noise_multiplier=sigma, sampling_rate=rate, steps=steps).epsilon()
    assert 1000 < epsilon < math.inf


# --- From ε to σ ---------------------------------------------------------------------------------


def cost(sigma: float, rate: float, steps: int, delta: float) -> float:
    return plan(noise_multiplier=sigma, sampling_rate=rate, steps=steps, delta=delta).epsilon()


@pytest.mark.parametrize(
    ("epsilon", "delta", "rate", "steps"),
    # On the coarse grid the last is thousands of ticks off: it is then looked for on the fine one.
    [(1.0, 1e-5, 0.15, 6), (0.01, 1e-5, 0.15, 2), (0.001, 1e-5, 0.5, 4)],
)
def test_the_solved_noise_is_the_least_that_pays(
    epsilon: float, delta: float, rate: float, steps: int
) -> None:
    sigma = solve_noise(epsilon=epsilon, delta=delta, sampling_rate=rate, steps=steps)
    assert cost(sigma, rate, steps, delta) <= epsilon
    assert cost(sigma - NOISE_STEP, rate, steps, delta) > epsilon
    assert sigma == round(sigma, 3)  # a short number in the contract


def test_an_infinite_budget_needs_no_noise() -> None:
    assert solve_noise(epsilon=math.inf, delta=1e-5, sampling_rate=0.1, steps=10) == 0.0


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan])
def test_a_budget_must_be_positive(epsilon: float) -> None:
    with pytest.raises(ContractError, match="epsilon"):
        solve_noise(epsilon=epsilon, delta=1e-5, sampling_rate=0.1, steps=10)


def test_a_budget_that_protects_nobody_is_refused() -> None:
    with pytest.raises(ContractError, match="protects nobody"):
        solve_noise(epsilon=500.0, delta=1e-5, sampling_rate=0.15, steps=12)


@pytest.mark.parametrize("spent", [lambda s: 0 * s, lambda s: 0.1 / s])
def test_the_search_ends_where_hardly_any_noise_is_enough(spent: Callable[[float], float]) -> None:
    """So with δ above the chance of being sampled at all, where ε is 0 whatever the noise."""
    assert smallest_tick(spent, start=3.0) <= SMALLEST_NOISE_MULTIPLIER


@pytest.mark.parametrize("root", [0.2345, 1.0, 7.1234, 900.0])
def test_the_search_finds_the_least_tick(root: float) -> None:
    for spent in (lambda s: root / s, lambda s: 2.0 * (s < root), lambda s: (root / s) ** 3):
        for start in (root / 5, root, root * 5):
            ticks = smallest_tick(spent, start=start) / NOISE_STEP
            assert round(ticks) == math.ceil(round(root / NOISE_STEP, 6))


def test_contracts_can_be_read_without_torch() -> None:
    code = "import sys; import presspool.common.contract.contract; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_group_that_is_in_every_step_is_one_unit_of_less_noise() -> None:
    """As a mixture of one Gaussian it was coarser, and the library fails on some (σ = 5.987)."""
    whole = plan(noise_multiplier=2.0, sampling_rate=1.0, steps=16)
    twentieth = plan(noise_multiplier=0.1, sampling_rate=1.0, steps=16)
    assert whole.group_epsilon(20) == twentieth.epsilon()
