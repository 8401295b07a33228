"""The ε that contracts state, against independent accountants and against plain integration.

Four kinds of oracle: golden values; for one step, the definition of (ε, δ)-DP integrated
numerically; Opacus's PRV accountant, another algorithm and another code base; and Rényi
accounting, which must never be below.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from opacus.accountants import PRVAccountant, RDPAccountant
from scipy import optimize, stats

from presspool.common.contract.privacy_plan import PrivacyPlan

DELTA = 1e-5
# Opacus's PRV returns an upper bound that is up to twice its `eps_error` = 0.01 above the truth.
PRV_SLACK = 0.02


def plan(sigma: float, rate: float, steps: int, delta: float = DELTA) -> PrivacyPlan:
    return PrivacyPlan(
        unit="reader",
        noise_multiplier=sigma,
        clip={"all": 1.0},
        sampling_rate=rate,
        records_per_reader=1,
        steps=steps,
        delta=delta,
    )


GOLDEN = {
    (0.8, 0.048, 24): 3.447,
    (1.2, 0.15, 12): 3.018,
    (1.2, 0.02, 200): 1.263,
}


@pytest.mark.parametrize(("parameters", "epsilon"), GOLDEN.items())
def test_golden(parameters: tuple[float, float, int], epsilon: float) -> None:
    assert plan(*parameters).epsilon() == pytest.approx(epsilon, abs=5e-4)


@pytest.mark.parametrize("parameters", [*GOLDEN, (2.0, 0.1, 10), (1.0, 1.0, 5)])
def test_opacus_agrees(parameters: tuple[float, float, int]) -> None:
    prv, rdp = PRVAccountant(), RDPAccountant()
    prv.history = rdp.history = [parameters]
    epsilon = plan(*parameters).epsilon()
    assert epsilon <= prv.get_epsilon(DELTA) + 1e-6
    assert epsilon == pytest.approx(prv.get_epsilon(DELTA), abs=PRV_SLACK)
    assert epsilon < rdp.get_epsilon(DELTA)


# --- One step, from the definition ---------------------------------------------------------------


def epsilon_of_one_step(sigma: float, rate: float) -> float:
    """ε at `DELTA` of one Poisson-sampled Gaussian, from the definition of (ε, δ)-DP.

    P = (1 − q) N(0, σ²) + q N(1, σ²) with the reader, Q = N(0, σ²) without (Abadi et al. 2016,
    lemma 3). δ(ε) = sup_E P(E) − e^ε Q(E) is the integral of (P − e^ε Q)⁺; the larger of the two
    directions counts.
    """
    x = np.linspace(-10 * sigma, 1 + 10 * sigma, 200_001)
    without = stats.norm.pdf(x, 0, sigma)
    with_reader = (1 - rate) * without + rate * stats.norm.pdf(x, 1, sigma)

    def delta(epsilon: float) -> float:
        gaps = (
            with_reader - math.exp(epsilon) * without,
            without - math.exp(epsilon) * with_reader,
        )
        return max(float(np.trapezoid(np.maximum(gap, 0), x)) for gap in gaps)

    return float(optimize.brentq(lambda epsilon: delta(epsilon) - DELTA, 0.0, 60.0, xtol=1e-6))


@pytest.mark.parametrize(("sigma", "rate"), [(1.2, 0.15), (0.8, 0.048), (3.0, 1.0), (0.6, 0.5)])
def test_one_step_is_what_the_definition_says(sigma: float, rate: float) -> None:
    exact = epsilon_of_one_step(sigma, rate)
    stated = plan(sigma, rate, 1).epsilon()
    assert stated >= exact - 1e-4  # never an ε that is too small
    assert stated == pytest.approx(exact, abs=1e-3)


def test_one_unsampled_step_is_the_analytic_gaussian() -> None:
    """Balle & Wang 2018, theorem 8: δ = Φ(1/2σ − εσ) − e^ε Φ(−1/2σ − εσ)."""
    sigma = 2.0

    def delta(epsilon: float) -> float:
        below = stats.norm.cdf(1 / (2 * sigma) - epsilon * sigma)
        return float(below - math.exp(epsilon) * stats.norm.cdf(-1 / (2 * sigma) - epsilon * sigma))

    exact = optimize.brentq(lambda epsilon: delta(epsilon) - DELTA, 0, 20)
    assert plan(sigma, 1.0, 1).epsilon() == pytest.approx(exact, abs=1e-3)
    # T unsampled steps are one step with σ/√T.
    assert plan(sigma * 2, 1.0, 4).epsilon() == pytest.approx(exact, abs=1e-3)


def test_a_wrong_event_is_told_apart() -> None:
    """The oracles are sharp enough: a missing step, or one without sampling, would show."""
    golden = GOLDEN[1.2, 0.15, 12]
    assert plan(1.2, 0.15, 11).epsilon() < golden - 0.05
    assert plan(1.2 * 1.02, 0.15, 12).epsilon() < golden - 0.05
    assert plan(1.2, 0.15, 1).epsilon() != pytest.approx(plan(1.2, 1.0, 1).epsilon(), abs=1.0)


def test_a_group_of_one_is_a_unit() -> None:
    one = plan(1.2, 0.15, 12)
    assert one.epsilon() <= one.group_epsilon(1) <= 1.01 * one.epsilon()


def test_a_group_is_one_unit_of_that_size_where_nothing_is_sampled() -> None:
    """m records that always take part together move the sum by m·C: σ/m for one."""
    one = plan(6.0, 1.0, 8)
    for records in (2, 5):
        alone = plan(6.0 / records, 1.0, 8)
        assert one.group_epsilon(records) == pytest.approx(alone.epsilon(), rel=0.01)


def test_a_sampled_group_costs_between_one_unit_and_all_of_it_always() -> None:
    one = plan(2.0, 0.2, 4)
    everybody = plan(2.0 / 6, 0.2, 4)
    grown = [one.group_epsilon(records) for records in (1, 3, 6)]
    assert grown == sorted(set(grown))
    # Six that are drawn together cost more than six that are drawn one by one.
    assert one.epsilon() < grown[-1] < everybody.epsilon()
