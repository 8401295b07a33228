"""Properties of the price: more steps, more sampling, less noise or a smaller δ never cost less."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from presspool.common.contract.privacy_plan import NOISE_STEP, PrivacyPlan, solve_noise

# Much noise, so that an evaluation takes hundredths of a second.
SIGMA, RATE, STEPS = st.floats(3.0, 9.0), st.floats(0.01, 0.5), st.integers(1, 15)
# The accountant rounds losses up to a grid of 1e-4, which costs now a little more, now less.
GRID = 1e-3


def epsilon(**changes: Any) -> float:
    values: dict[str, Any] = {
        "unit": "reader",
        "clip": {"all": 1.0},
        "records_per_reader": 1,
        "delta": 1e-5,
    }
    return PrivacyPlan(**values | changes).epsilon()


@given(sigma=SIGMA, rate=RATE, steps=STEPS, more=st.integers(1, 15))
@settings(max_examples=8, deadline=None)
def test_more_steps_cost_more(sigma: float, rate: float, steps: int, more: int) -> None:
    few = epsilon(noise_multiplier=sigma, sampling_rate=rate, steps=steps)
    many = epsilon(noise_multiplier=sigma, sampling_rate=rate, steps=steps + more)
    assert few <= many + GRID


@given(sigma=SIGMA, rates=st.tuples(RATE, RATE), steps=STEPS)
@settings(max_examples=8, deadline=None)
def test_more_sampling_costs_more(sigma: float, rates: tuple[float, float], steps: int) -> None:
    low, high = (
        epsilon(noise_multiplier=sigma, sampling_rate=rate, steps=steps) for rate in sorted(rates)
    )
    assert low <= high + GRID


@given(sigmas=st.tuples(SIGMA, SIGMA), rate=RATE, steps=STEPS)
@settings(max_examples=8, deadline=None)
def test_more_noise_costs_less(sigmas: tuple[float, float], rate: float, steps: int) -> None:
    much, little = (
        epsilon(noise_multiplier=sigma, sampling_rate=rate, steps=steps)
        for sigma in sorted(sigmas, reverse=True)
    )
    assert much <= little + GRID


@given(sigma=SIGMA, rate=RATE, steps=STEPS, deltas=st.tuples(*[st.floats(1e-9, 1e-2)] * 2))
@settings(max_examples=6, deadline=None)
def test_a_smaller_delta_costs_more(
    sigma: float, rate: float, steps: int, deltas: tuple[float, float]
) -> None:
    strict, loose = (
        epsilon(noise_multiplier=sigma, sampling_rate=rate, steps=steps, delta=delta)
        for delta in sorted(deltas)
    )
    assert loose <= strict + GRID


@given(rate=st.floats(0.02, 1.0), steps=st.integers(1, 8), target=st.floats(0.05, 0.4))
@settings(max_examples=2, deadline=None)
def test_solving_undoes_pricing(rate: float, steps: int, target: float) -> None:
    sigma = solve_noise(epsilon=target, delta=1e-5, sampling_rate=rate, steps=steps)
    assert epsilon(noise_multiplier=sigma, sampling_rate=rate, steps=steps) <= target
    less = sigma - NOISE_STEP
    assert epsilon(noise_multiplier=less, sampling_rate=rate, steps=steps) > target
