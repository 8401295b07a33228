"""The audit's mathematics: golden values, properties, oracles, and planted mistakes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.special import ndtr, ndtri

from presspool.common.base.errors import InputError
from presspool.common.contract.privacy_plan import PrivacyPlan
from presspool.simulations.attack import bounds, plan_tradeoff
from presspool.simulations.attack.attack import refuted
from presspool.simulations.attack.bounds import (
    TOLERANCE,
    Guesses,
    TradeOff,
    _largest,
    epsilon_lower,
    refutes,
    tail,
)

GOLDEN = [(1000, 100, 75, 1e-4, 0.673), (100_000, 1510, 1439, 1e-5, 2.676)]
PLAN = PrivacyPlan(
    unit="reader",
    noise_multiplier=0.8,
    clip={"all": 1.0},
    sampling_rate=0.05,
    records_per_reader=1,
    steps=10,
    delta=1e-5,
)


# --- A Gaussian mechanism, for which the truth is known ---


def tail_under(guesses: Guesses, tradeoff: TradeOff) -> float:
    """The smallest p (to 1e-6) at which the claimed f is refuted: a p-value; 1 where it is not."""
    low, high = 0.0, 1.0
    if not refutes(guesses, tradeoff, p=1 - TOLERANCE):
        return 1.0
    while high - low > TOLERANCE:
        middle = (low + high) / 2
        low, high = (low, middle) if refutes(guesses, tradeoff, p=middle) else (middle, high)
    return high


def gaussian(mu: float) -> TradeOff:
    """F of μ-GDP: Φ(Φ⁻¹(1 - α) - μ) (Dong, Roth & Su 2022, definition 3)."""
    return lambda alpha: float(ndtr(ndtri(1 - alpha) - mu))


def mu_of(epsilon: float, delta: float) -> float:
    """The μ whose μ-GDP is just (ε, δ)-DP (Dong, Roth & Su 2022, corollary 1)."""
    return _largest(lambda mu: _gaussian_delta(mu, epsilon) < delta)


def epsilon_lower_gaussian(guesses: Guesses, *, delta: float, p: float) -> float:
    """The largest ε, at δ, of a Gaussian mechanism that is refuted at significance p; else 0."""
    return _largest(
        lambda epsilon: refutes(guesses, gaussian(mu_of(epsilon, delta)), p=p), tolerance=1e-4
    )


def _gaussian_delta(mu: float, epsilon: float) -> float:
    if mu == 0:
        return 0.0
    return float(ndtr(mu / 2 - epsilon / mu) - math.exp(epsilon) * ndtr(-mu / 2 - epsilon / mu))


def guessed(canaries: int, made: int, right: int) -> Guesses:
    return Guesses(canaries=canaries, made=made, right=right)


@pytest.mark.parametrize(("m", "r", "v", "delta", "expected"), GOLDEN)
def test_the_papers_bounds_come_out(m: int, r: int, v: int, delta: float, expected: float) -> None:
    assert epsilon_lower(guessed(m, r, v), delta=delta, p=0.05) == pytest.approx(expected, abs=1e-3)


def exact_tail(m: int, r: int, v: int, rate: Fraction, delta: Fraction) -> Fraction:
    """Theorem 5.2 with appendix D's maximum in whole fractions, as the paper writes its sums."""
    mass = [math.comb(r, k) * rate**k * (1 - rate) ** (r - k) for k in range(r + 1)]
    beta = sum(mass[v:], Fraction())
    steps = [sum(mass[v - i : v], Fraction()) / i for i in range(1, v + 1)]
    return min(Fraction(1), beta + 2 * m * delta * max(steps, default=Fraction()))


@given(
    made=st.integers(1, 24),
    share=st.floats(0, 1),
    more=st.integers(0, 30),
    odds=st.integers(1, 40),
    power=st.integers(2, 7),
)
def test_the_tail_is_the_exact_sum_of_fractions(
    made: int, share: float, more: int, odds: int, power: int
) -> None:
    right, m = round(share * made), made + more
    exact = exact_tail(m, made, right, Fraction(odds, odds + 1), Fraction(1, 10**power))
    got = tail(guessed(m, made, right), epsilon=math.log(odds), delta=10.0**-power)
    assert got == pytest.approx(float(exact), rel=1e-9, abs=1e-12)


@given(made=st.integers(1, 300), p=st.sampled_from([0.01, 0.05, 0.2]))
def test_more_right_guesses_never_lower_the_bounds(made: int, p: float) -> None:
    counts = sorted({0, made // 2, (2 * made) // 3, (9 * made) // 10, made})
    for bound in (epsilon_lower, epsilon_lower_gaussian):
        found = [bound(guessed(1000, made, v), delta=1e-5, p=p) for v in counts]
        assert all(a <= b + 1e-4 for a, b in pairwise(found))


@given(made=st.integers(1, 200), share=st.floats(0.5, 1))
def test_a_larger_delta_or_a_smaller_p_never_raises_the_bound(made: int, share: float) -> None:
    g = guessed(1000, made, round(share * made))
    by_delta = [epsilon_lower(g, delta=d, p=0.05) for d in (0.0, 1e-6, 1e-4, 1e-2)]
    by_p = [epsilon_lower(g, delta=1e-5, p=p) for p in (0.2, 0.05, 0.01)]
    assert by_delta == sorted(by_delta, reverse=True)
    assert by_p == sorted(by_p, reverse=True)


def test_guesses_at_chance_refute_nothing() -> None:
    g = guessed(1000, 100, 50)
    assert epsilon_lower(g, delta=1e-5, p=0.05) == 0
    assert epsilon_lower_gaussian(g, delta=1e-5, p=0.05) == 0
    assert plan_tradeoff.epsilon_lower(g, PLAN, p=0.05) == 0
    assert tail_under(g, gaussian(1.0)) == 1.0


@pytest.mark.parametrize("wrong", [(10, 11, 3), (10, 5, 6), (10, 5, -1), (0, 0, 0)])
def test_impossible_counts_are_refused(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(InputError):
        guessed(*wrong)


# --- Mechanisms whose privacy is known exactly ---------------------------------------------------


def over_claims(
    bound: Callable[[Guesses], float], truth: float, rights: np.ndarray, made: int, m: int
) -> float:
    found = {v: bound(guessed(m, made, int(v))) for v in np.unique(rights)}
    return float(np.mean([found[v] > truth for v in rights]))


def test_randomised_response_is_refuted_no_oftener_than_stated() -> None:
    """The extremal mechanism: each coin is told right with probability 1/(1+e^-ε)."""
    truth, made, rng = 1.0, 200, np.random.default_rng(1)
    rights = rng.binomial(made, 1 / (1 + math.exp(-truth)), size=4000)
    wrong = over_claims(lambda g: epsilon_lower(g, delta=0, p=0.05), truth, rights, made, 400)
    assert 0.01 < wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4000)


def gaussian_rights(mu: float, m: int, made: int, runs: int, seed: int) -> np.ndarray:
    """Right guesses where each canary's score is N(0, 1) when out and N(μ, 1) when in: μ-GDP."""
    rng = np.random.default_rng(seed)
    inside = rng.random((runs, m)) < 0.5
    scores = rng.normal(size=(runs, m)) + mu * inside
    order = np.argsort(scores, axis=1)
    high = np.take_along_axis(inside, order[:, m - made // 2 :], 1).sum(1)
    low = (~np.take_along_axis(inside, order[:, : made // 2], 1)).sum(1)
    return high + low  # type: ignore[no-any-return]


@pytest.mark.parametrize("mu", [0.5, 1.5])
def test_a_gaussian_mechanism_is_refuted_no_oftener_than_stated(mu: float) -> None:
    m, made, runs = 400, 80, 2000
    rights = gaussian_rights(mu, m, made, runs, seed=2)
    found = {v: refutes(guessed(m, made, int(v)), gaussian(mu), p=0.05) for v in np.unique(rights)}
    wrong = np.mean([found[v] for v in rights])
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize(("m", "made"), [(60, 15), (400, 80), (1500, 370)])
@pytest.mark.parametrize("delta", [1e-5, 1e-2])
def test_approximate_dp_at_its_worst_is_refuted_no_oftener_than_stated(
    m: int, made: int, delta: float
) -> None:
    """Randomised response that, with chance δ for each coin, tells the coin outright."""
    truth, runs, rng = 1.0, 2000, np.random.default_rng(11)
    outright = rng.binomial(made, delta, size=runs)
    rights = outright + rng.binomial(made - outright, 1 / (1 + math.exp(-truth)))
    wrong = over_claims(lambda g: epsilon_lower(g, delta=delta, p=0.05), truth, rights, made, m)
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize(
    ("m", "plan"),
    [
        (200, PLAN),
        (1500, PLAN),
        (600, dataclasses.replace(PLAN, sampling_rate=1.0, steps=1, noise_multiplier=0.7)),
        (600, dataclasses.replace(PLAN, sampling_rate=0.3, steps=4, noise_multiplier=1.0)),
    ],
)
def test_all_bounds_together_refute_an_exact_plan_in_at_most_one_of_twenty_runs(
    m: int, plan: PrivacyPlan
) -> None:
    """The sampled Gaussian itself, each canary alone and scored by its likelihood, 400 times.

    Two attacks (here independent, the worst case) with two bounds each, as the audit joins them.
    """
    made = max(1, round(m * (1 - (1 - plan.sampling_rate) ** plan.steps) / 4))
    rights = [sampled_rights(plan, m, made, runs=400, seed=seed) for seed in (21, 22)]
    told = {v: refuted(guessed(m, made, int(v)), plan) for v in np.unique(rights)}
    wrong = np.mean([told[a] or told[b] for a, b in zip(*rights, strict=True)])
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_a_plan_that_draws_a_third_of_its_noise_is_refuted_by_the_same_bounds() -> None:
    """The planted mistake that the test above must not be blind to."""
    weak = dataclasses.replace(PLAN, noise_multiplier=PLAN.noise_multiplier / 3)
    made = round(1500 * (1 - 0.95**10) / 4)
    rights = sampled_rights(weak, 1500, made, runs=50, seed=23)
    assert np.mean([refuted(guessed(1500, made, int(v)), PLAN) for v in rights]) > 0.9


def sampled_rights(plan: PrivacyPlan, m: int, made: int, *, runs: int, seed: int) -> np.ndarray:
    """Right guesses "in" by the likelihood ratio, each canary's sum released with its own noise."""
    rng, q, std = np.random.default_rng(seed), plan.sampling_rate, plan.noise_multiplier
    inside = rng.random((runs, m)) < 0.5
    ratio = np.zeros((runs, m))
    for _ in range(plan.steps):
        released = (inside & (rng.random((runs, m)) < q)) + std * rng.normal(size=(runs, m))
        ratio += np.log(1 - q + q * np.exp((released - 0.5) / std**2))
    best = np.argsort(-ratio, axis=1)[:, :made]
    return np.take_along_axis(inside, best, 1).sum(1)  # type: ignore[no-any-return]


def test_the_refinement_is_stronger_for_a_gaussian_mechanism_and_below_the_truth() -> None:
    mu, delta, m, made = 1.5, 1e-5, 2000, 400
    truth = next(e for e in np.arange(0, 20, 0.01) if mu_of(float(e), delta) >= mu)
    rights = gaussian_rights(mu, m, made, 40, seed=3)
    g = guessed(m, made, int(np.median(rights)))
    plain = epsilon_lower(g, delta=delta, p=0.05)
    refined = epsilon_lower_gaussian(g, delta=delta, p=0.05)
    assert plain + 0.5 < refined < truth


def largest_tail(made: int, right: int, f: Callable[[float], float]) -> float:
    """max P[W >= right] over all laws of W that obey r_{i+1} <= 1 - f(h_i), m = made, by LP.

    f lies above its tangents, so 1 - f(h) is replaced by their lower envelope on a grid: a
    relaxation whose optimum is at least the true one.
    """
    grid = np.linspace(1e-4, 1 - 1e-4, 200)
    values = np.array([f(float(a)) for a in grid])
    slopes = (np.array([f(float(a) + 1e-6) for a in grid]) - values) / 1e-6
    k = np.arange(made + 1)
    rows, limits = [], []
    for i in range(made):
        reached = np.where(k >= i + 1, k / made, 0)
        missed = np.where(k >= i, (made - k) / made, 0)
        for a, value, slope in zip(grid, values, slopes, strict=True):
            rows.append(reached + slope * missed)  # r + f'(a) h <= 1 - f(a) + f'(a) a
            limits.append(1 - value + slope * a)
    solved = linprog(
        -(k >= right).astype(float), A_ub=rows, b_ub=limits, A_eq=[np.ones(made + 1)], b_eq=[1]
    )
    assert solved.fun is not None
    return float(-solved.fun)


@pytest.mark.parametrize(("made", "right", "mu"), [(6, 6, 0.5), (10, 8, 1.0), (12, 12, 2.0)])
def test_the_recursion_is_the_optimum_of_a_linear_programme(
    made: int, right: int, mu: float
) -> None:
    oracle = largest_tail(made, right, gaussian(mu))
    assert tail_under(guessed(made, made, right), gaussian(mu)) == pytest.approx(oracle, abs=5e-3)


# --- Plans as trade-off functions ----------------------------------------------------------------


def test_one_gaussian_step_has_the_gaussians_tradeoff() -> None:
    whole = dataclasses.replace(PLAN, sampling_rate=1.0, steps=1, noise_multiplier=1.25)
    f, exact = plan_tradeoff.tradeoff(whole), gaussian(1 / 1.25)
    for alpha in (0.001, 0.05, 0.3, 0.5, 0.9):
        assert exact(alpha) - 2e-3 <= f(alpha) <= exact(alpha) + 1e-6


def test_a_plan_stays_below_blind_guessing_and_falls_with_its_noise() -> None:
    little = dataclasses.replace(PLAN, noise_multiplier=0.5)
    for alpha in (0.01, 0.2, 0.5, 0.8):
        assert (
            plan_tradeoff.tradeoff(little)(alpha) < plan_tradeoff.tradeoff(PLAN)(alpha) <= 1 - alpha
        )


def test_the_plans_bound_passes_the_claim_exactly_when_the_claim_is_refuted() -> None:
    for right in (30, 45, 55, 60):
        g = guessed(600, 60, right)
        refuted = refutes(g, plan_tradeoff.tradeoff(PLAN), p=0.05)
        assert (plan_tradeoff.epsilon_lower(g, PLAN, p=0.05) > PLAN.epsilon()) == refuted


# --- Planted mistakes ----------------------------------------------------------------------------


def test_counting_abstentions_as_right_is_caught() -> None:
    """Blind guesses: whoever adds what was not guessed to what was right refutes a true claim."""
    rights, made, m = np.random.default_rng(4).binomial(100, 0.5, 400), 100, 400

    def bound(g: Guesses) -> float:
        return epsilon_lower(g, delta=1e-5, p=0.05)

    assert over_claims(bound, 0.0, rights, made, m) <= 0.09
    mistaken = np.mean([bound(guessed(m, m, int(v) + m - made)) > 0 for v in rights])
    assert mistaken > 0.5


def test_choosing_the_number_of_guesses_by_their_success_is_caught() -> None:
    rng, m, runs = np.random.default_rng(5), 400, 300
    best = []
    for _ in range(runs):
        right = np.cumsum(rng.random(m) < 0.5)
        tried = range(5, m, 5)
        tests = [guessed(m, r, int(right[r - 1])) for r in tried]
        best.append(max(epsilon_lower(g, delta=0, p=0.05) for g in tests))
    assert np.mean(np.array(best) > 0) > 0.2  # four times what one number fixed before allows


def test_a_forgotten_delta_is_caught_by_the_golden_values() -> None:
    m, r, v, _, expected = GOLDEN[0]
    assert abs(epsilon_lower(guessed(m, r, v), delta=0, p=0.05) - expected) > 0.01


def test_an_inverse_the_wrong_way_round_is_caught_by_simulation() -> None:
    def mistaken(alpha: float) -> float:  # f(1 - α) for f(α): a sign lost
        return float(ndtr(ndtri(alpha) - 1.0))

    rights = gaussian_rights(1.0, 400, 80, 500, seed=6)
    wrong = np.mean([refutes(guessed(400, 80, int(v)), mistaken, p=0.05) for v in rights])
    right = np.mean([refutes(guessed(400, 80, int(v)), gaussian(1.0), p=0.05) for v in rights])
    assert right <= 0.08
    assert wrong > 0.5


def test_the_largest_epsilon_is_where_the_search_ends() -> None:
    assert epsilon_lower(guessed(10**6, 10**6, 10**6), delta=0, p=0.05) < bounds.LARGEST_EPSILON
