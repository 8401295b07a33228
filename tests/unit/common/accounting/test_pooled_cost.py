"""Costs of shared noise: every inequality of docs/pooled-privacy.md, by exact sums on lattices."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType, DiscreteGaussianPrivacyLoss
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import logsumexp
from tests.fakes.sums.lattices import (
    divergence,
    gaussian,
    mixed,
    moved,
    shares_together,
)

from presspool.common.accounting.events import sampled_gaussian
from presspool.common.accounting.filter import PORTFOLIO
from presspool.common.accounting.lattice import convolution, off_by
from presspool.common.accounting.pooled_cost import (
    RINGS,
    WRAP,
    best,
    group_cost,
    ring,
)
from presspool.common.base.errors import ContractError

Reals = NDArray[np.float64]
SMALL = (2, 3, 4, 6, 8)


def both_ways(one: Reals, other: Reals, order: int) -> tuple[float, float]:
    """Removing, then adding, a reader."""
    return divergence(one, other, order), divergence(other, one, order)


def exact_removal(q: float, sigma: float, outlets: int, order: int) -> float:
    """The cost of removing a reader at several outlets who all move the sum alike.

    E over n₁ … n_α ~ Binomial(m, q) of exp(((Σn)² − Σn²)/2σ²), by the power of a polynomial.
    """
    numbers = np.arange(outlets + 1)
    weights = [
        math.comb(outlets, k) * q**k * (1 - q) ** (outlets - k) * math.exp(-k * k / (2 * sigma**2))
        for k in numbers
    ]
    power = np.ones(1)
    for _ in range(order):
        power = np.convolve(power, weights)
    total = np.arange(len(power)) ** 2 / (2 * sigma**2)
    return float(logsumexp(total, b=power)) / (order - 1)


@pytest.mark.parametrize("shares", [2, 3, 5, 9])
@pytest.mark.parametrize("scale", [0.5, 0.6, 0.8, 1.0, 1.5])
def test_shares_add_up_to_one_discrete_gaussian_but_for_tau(shares: int, scale: float) -> None:
    together = shares_together(scale, shares, reach=80)
    alone = gaussian(scale * math.sqrt(shares), reach=80)
    gap = float(np.abs(together - alone)[40:-40].max())
    tau = convolution(shares=shares, scale=scale)
    assert gap <= tau + 1e-12
    if shares == 2 and tau > 1e-9:  # and the bound is of the right size
        assert gap > tau / 3


def test_one_share_is_no_sum_and_a_share_without_a_law_is_refused() -> None:
    assert convolution(shares=1, scale=0.5) == 0
    with pytest.raises(ContractError, match="finer grid"):
        convolution(shares=2, scale=0.49)


@pytest.mark.parametrize("order", PORTFOLIO)
@pytest.mark.parametrize(("q", "scale", "move"), [(0.1, 2.0, 2), (0.5, 3.0, 1), (1.0, 2.5, 3)])
def test_on_the_lattice_a_step_costs_what_the_real_gaussian_does(
    q: float, scale: float, move: int, order: int
) -> None:
    without = gaussian(scale, reach=600)
    removed, added = both_ways(mixed([(1 - q, without), (q, moved(without, move))]), without, order)
    claimed = sampled_gaussian(q, scale / move, order)
    assert removed == pytest.approx(claimed, rel=1e-9, abs=1e-12)
    assert added <= claimed * (1 + 1e-9)


@pytest.mark.parametrize("order", SMALL)
def test_what_counts_of_a_vector_is_its_length(order: int) -> None:
    line = gaussian(2.0, reach=60)
    plane = line[:, None] + line[None, :]
    with_reader = mixed([(0.7, plane), (0.3, moved(moved(plane, 1), 2, axis=1))])
    removed, added = both_ways(with_reader, plane, order)
    claimed = sampled_gaussian(0.3, 2.0 / math.sqrt(5), order)
    assert removed == pytest.approx(claimed, rel=1e-9)
    assert added <= claimed


@given(st.fractions(0, 1), st.fractions(Fraction(1, 50), 50), st.integers(2, 9))
@settings(max_examples=200)
def test_the_inequality_that_makes_adding_the_cheaper_direction(
    q: Fraction, ratio: Fraction, order: int
) -> None:
    """Proposition 4, in exact fractions: f(r)ᵅ + r·f(1/r)ᵅ >= f(r)¹⁻ᵅ + r·f(1/r)¹⁻ᵅ."""
    here, there = 1 - q + q * ratio, 1 - q + q / ratio
    larger = here**order + ratio * there**order
    assert larger >= here ** (1 - order) + ratio * there ** (1 - order)


@pytest.mark.parametrize("order", SMALL)
@pytest.mark.parametrize("q", [0.05, 0.5, 1.0])
def test_the_sum_of_shares_itself_is_within_the_claim(q: float, order: int) -> None:
    for scale, shares in itertools.product((0.5, 0.7, 1.0), (2, 4)):
        noise = shares_together(scale, shares, reach=120)
        with_reader = mixed([(1 - q, noise), (q, moved(noise, 1))])
        claimed = sampled_gaussian(q, scale * math.sqrt(shares), order)
        gap = convolution(shares=shares, scale=scale)
        assert max(both_ways(with_reader, noise, order)) <= claimed + off_by(gap, order) + 1e-12


def test_wrapping_around_costs_nothing() -> None:
    """A ring of eight numbers, which this noise fills many times."""
    without = gaussian(3.0, reach=200)
    with_reader = mixed([(0.6, without), (0.4, moved(without, 2))])

    def on_ring(law: Reals) -> Reals:
        return np.array([logsumexp(law[start::8]) for start in range(8)])

    for order in SMALL:
        seen = both_ways(on_ring(with_reader), on_ring(without), order)
        assert 0 < max(seen) < sampled_gaussian(0.4, 1.5, order)


@pytest.mark.parametrize("order", SMALL)
@pytest.mark.parametrize(
    ("q", "moves"), [(0.2, (1, 1)), (0.1, (1, 1, 1)), (0.6, (1, -1, 1)), (0.3, (1, 0, -1, 1))]
)
def test_a_reader_at_several_outlets_is_a_group_in_one_sum(
    q: float, moves: tuple[int, ...], order: int
) -> None:
    without = gaussian(3.0, reach=150)
    parts = []
    for drawn in itertools.product((0, 1), repeat=len(moves)):
        chance = math.prod(q if one else 1 - q for one in drawn)
        parts.append((chance, moved(without, int(np.dot(drawn, moves)))))
    found = max(both_ways(mixed(parts), without, order))
    claimed = group_cost(q, 3.0, len(moves), order)
    assert found <= claimed * (1 + 1e-9)
    if set(moves) == {1}:
        assert found == pytest.approx(exact_removal(q, 3.0, len(moves), order), rel=1e-9)


@pytest.mark.parametrize("q", [1e-9, 0.01, 0.125, 0.5, 1.0])
@pytest.mark.parametrize("sigma", [0.8, 3.0, 20.0])
def test_a_group_costs_no_less_than_removing_it_and_little_more_where_it_is_small(
    q: float, sigma: float
) -> None:
    for order, outlets in itertools.product((2, 4, 16), (1, 2, 5)):
        claimed, exact = (f(q, sigma, outlets, order) for f in (group_cost, exact_removal))
        assert claimed >= exact * (1 - 1e-9) - 1e-13
        if outlets == 1 or q == 1:
            assert claimed == pytest.approx(exact, rel=1e-9, abs=1e-13)
        elif sigma == 20.0 and order == 2:
            assert claimed < 1.2 * exact + 1e-13


def test_a_group_that_nothing_hides_costs_a_finite_number() -> None:
    assert 1e5 < group_cost(0.5, 0.2, 50, 64) < 64 * 50**2 / (2 * 0.2**2)
    assert group_cost(0.01, 0.854, 10, 8) > group_cost(0.01, 0.854, 1, 8)


def test_a_group_is_no_composition_of_its_outlets() -> None:
    """Two outlets cost four times one where all are drawn, and more than twice anywhere."""
    assert group_cost(1.0, 20.0, 2, 4) == pytest.approx(4 * group_cost(1.0, 20.0, 1, 4))
    assert group_cost(0.125, 1.3, 2, 4) > 2 * group_cost(0.125, 1.3, 1, 4)


@given(st.floats(1e-12, 1.0), st.floats(0.2, 50.0), st.integers(1, 50), st.sampled_from(PORTFOLIO))
@settings(max_examples=40, deadline=None)
def test_a_group_s_cost_is_a_number_and_grows(
    q: float, sigma: float, outlets: int, order: int
) -> None:
    costs = [group_cost(q, sigma, among, order) for among in (outlets, outlets + 1)]
    assert 0 <= costs[0] <= costs[1] * (1 + 1e-9) + 1e-14 < math.inf


@pytest.mark.parametrize("order", [2, 3, 6])
@pytest.mark.parametrize("q", [0.125, 0.5])
def test_dp_accounting_s_discrete_gaussian_says_the_same(q: float, order: int) -> None:
    def moment(adjacency: AdjacencyType) -> float:
        reach = 200
        loss = DiscreteGaussianPrivacyLoss(
            4.0, sensitivity=3, truncation_bound=reach, sampling_prob=q, adjacency_type=adjacency
        )
        at = range(-reach + 60, reach - 60)
        mass = np.diff([float(loss.mu_upper_cdf(x)) for x in (at[0] - 1, *at)])
        return math.log(
            math.fsum(
                m * math.exp((order - 1) * loss.privacy_loss(x))
                for x, m in zip(at, mass, strict=True)
            )
        ) / (order - 1)

    claimed = sampled_gaussian(q, 4.0 / 3, order)
    assert moment(AdjacencyType.REMOVE) == pytest.approx(claimed, abs=1e-9)
    assert moment(AdjacencyType.ADD) <= claimed + 1e-9


def wraps(law: Reals, room: int) -> float:
    """The chance of being outside [−room, room)."""
    reach = len(law) // 2
    return float(np.exp(law[np.abs(np.arange(-reach, reach + 1)) >= room]).sum())


@pytest.mark.parametrize("shares", [1, 3, 8])
def test_the_tail_that_decides_about_the_ring_is_a_bound(shares: int) -> None:
    law = shares_together(2.0, shares, reach=120)
    for chance in (1e-2, 1e-5, 1e-9):
        room = math.ceil(2.0 * math.sqrt(2 * shares * math.log(2 / chance)))
        assert wraps(law, room) <= chance


@pytest.mark.parametrize(("bits", "larger"), [(32, 64), (64, None)])
def test_the_smallest_ring_is_named(bits: int, larger: int | None) -> None:
    margin = 2.0**12 * math.sqrt(2 * 20 * math.log(2 * 2**18 / WRAP))
    room = 2.0 ** (bits - 1) - margin
    for share, fits in ((1 - 1e-9, bits), (1 + 1e-9, larger)):
        assert ring(largest=room * share, scale=2.0**12, shares=20, numbers=2**18) == fits
    assert bits in RINGS


def test_the_best_order_is_taken() -> None:
    assert best(lambda order: order / 200, delta=1e-5).order in (32, 64)
    assert best(lambda order: order / 2, delta=1e-5).order in (4, 6)


def test_planted_a_claim_without_tau_is_below_the_truth() -> None:
    noise = shares_together(0.5, 2, reach=60)
    truth = max(both_ways(mixed([(0.5, noise), (0.5, moved(noise, 1))]), noise, 3))
    claimed = sampled_gaussian(0.5, 0.5 * math.sqrt(2), 3)
    assert claimed < truth - 0.1
    assert truth <= claimed + off_by(convolution(shares=2, scale=0.5), 3)
