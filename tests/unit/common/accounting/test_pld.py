"""The quick PLD: the library's numbers, one step by its definition, mistakes that would show."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from presspool.common.accounting import events, pld
from presspool.common.ledger.recompute import library_pld

Event = pld.Event


def job(q: float, sigma: float, steps: int) -> events.SelfComposed:
    step = events.PoissonSampled(rate=q, event=events.Gaussian(noise_multiplier=sigma))
    return events.SelfComposed(event=step, count=steps)


def plain(sigma: float, steps: int) -> events.SelfComposed:
    return events.SelfComposed(event=events.Gaussian(noise_multiplier=sigma), count=steps)


PHASES = events.Composed(events=(plain(9.0, 3), job(0.02, 1.2, 200), job(0.1, 2.0, 5)))
CASES = [
    job(0.02, 1.2, 200),
    job(0.15, 1.2, 12),
    job(0.048, 0.8, 24),
    job(0.01, 1.0, 2000),
    job(0.5, 3.0, 100),
    job(0.9, 5.0, 10),
    job(1.0, 1.5, 3),
    job(1e-5, 1.0, 10_000),
    job(0.001, 0.6, 5000),
    job(0.02, 0.3, 1),
    job(1e-12, 1.0, 1),
    plain(0.7, 3),
    PHASES,
]


@pytest.mark.parametrize("delta", [1e-5, pld.FINEST_DELTA, 1e-3])
@pytest.mark.parametrize("event", CASES, ids=str)
def test_it_is_the_librarys_number(event: Event, delta: float) -> None:
    found = pld.epsilon(event, delta=delta)
    assert found == pytest.approx(library_pld(event, delta=delta), abs=pld.CLOSE / 2)


@given(st.floats(1e-4, 1.0), st.floats(0.5, 10.0), st.integers(1, 500), st.floats(-6, -2))
@settings(max_examples=8, deadline=None)
def test_it_is_the_librarys_number_anywhere(
    q: float, sigma: float, steps: int, power: float
) -> None:
    event, delta = job(q, sigma, steps), 10.0**power
    if not pld.beyond_use(event, delta=delta):
        found = pld.epsilon(event, delta=delta)
        assert found == pytest.approx(library_pld(event, delta=delta), abs=pld.CLOSE)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(300))
def test_it_is_the_librarys_number_everywhere(seed: int) -> None:
    draw = np.random.default_rng(seed)
    q, steps = 10 ** draw.uniform(-4, 0), int(10 ** draw.uniform(0, 4))
    event = job(q, draw.uniform(0.5, 3.0) * max(1.0, q * math.sqrt(steps)), steps)
    for delta in (1e-5, pld.FINEST_DELTA):
        found = pld.epsilon(event, delta=delta)
        assert found == pytest.approx(library_pld(event, delta=delta), abs=pld.CLOSE)


@pytest.mark.parametrize(("sigma", "q"), [(1.2, 0.15), (0.8, 0.048), (3.0, 1.0), (0.6, 0.5)])
def test_one_step_is_what_the_definition_says(sigma: float, q: float) -> None:
    x = np.linspace(-10 * sigma, 1 + 10 * sigma, 200_001)
    without = stats.norm.pdf(x, 0, sigma)
    mixed = (1 - q) * without + q * stats.norm.pdf(x, 1, sigma)

    def delta(epsilon: float) -> float:
        gaps = mixed - math.exp(epsilon) * without, without - math.exp(epsilon) * mixed
        return max(float(np.trapezoid(np.maximum(gap, 0), x)) for gap in gaps)

    exact = optimize.brentq(lambda epsilon: delta(epsilon) - 1e-5, 0.0, 60.0, xtol=1e-6)
    found = pld.epsilon(job(q, sigma, 1), delta=1e-5)
    assert exact - 1e-4 <= found <= exact + 1e-3


def test_steps_without_sampling_are_one_step_with_less_noise() -> None:
    assert pld.epsilon(plain(4.0, 4), delta=1e-5) == pld.epsilon(plain(2.0, 1), delta=1e-5)
    assert pld.epsilon(job(1.0, 4.0, 4), delta=1e-5) == pytest.approx(
        pld.epsilon(plain(2.0, 1), delta=1e-5), abs=1e-6
    )


def test_a_loss_that_is_never_large_enough_costs_nothing() -> None:
    assert pld.epsilon(job(1e-12, 1.0, 1), delta=1e-5) == 0.0


def test_a_run_that_protects_nobody_is_infinite_and_takes_no_memory() -> None:
    assert pld.epsilon(plain(0.01, 100), delta=1e-5) == math.inf


def test_a_delta_below_what_was_cut_is_never_reached() -> None:
    assert pld.epsilon(job(0.02, 1.2, 200), delta=1e-16) == math.inf


def only_adding(patch: pytest.MonkeyPatch) -> None:
    right = pld._step
    patch.setattr(pld, "_step", lambda q, sigma, _: right(q, sigma, False))


def one_step_forgotten(patch: pytest.MonkeyPatch) -> None:
    right = pld._composed
    patch.setattr(pld, "_composed", lambda phases: right([(p, n - 1) for p, n in phases]))


def a_rate_that_is_doubled(patch: pytest.MonkeyPatch) -> None:
    right = pld._step
    patch.setattr(pld, "_step", lambda q, *rest: right(min(1.0, 2 * q), *rest))


def a_coarser_grid(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pld, "GRID", 1e-3)


@pytest.mark.parametrize(
    ("plant", "event"),
    [
        (only_adding, CASES[0]),
        (one_step_forgotten, CASES[1]),
        (a_rate_that_is_doubled, CASES[0]),
        (a_coarser_grid, CASES[0]),
    ],
)
def test_a_planted_mistake_is_told_apart(
    plant: Callable[[pytest.MonkeyPatch], None], event: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = library_pld(event, delta=1e-5)
    plant(monkeypatch)
    pld.epsilon.cache_clear()
    try:
        assert abs(pld.epsilon(event, delta=1e-5) - right) > pld.CLOSE
    finally:
        pld.epsilon.cache_clear()
