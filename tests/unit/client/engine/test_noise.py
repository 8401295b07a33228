"""Noise: the right distribution, on a grid that the data cannot be read from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from tests.fakes.instruments.detectors import check_normal, in_a_fork
from torch import Tensor

from presspool.client.engine.noise import add_noise
from presspool.client.engine.randomness import SecureRandom
from presspool.common.contract.privacy_plan import LARGEST_RELEASE, PrivacyPlan, grid_step

N = 100_000


def noised(total: Tensor, *seed: int | str, sigma: float = 1.2, S: float = 0.5) -> Tensor:
    """`total` is in steps of the grid; in units of the gradient."""
    random, step = SecureRandom.deterministic(*seed), grid_step(S)
    (out,) = add_noise([total], noise_multiplier=sigma, sensitivity=S, grid=step, random=random)
    assert out.dtype == torch.int64
    return out.double() * step


def nothing(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.int64)


def test_ks_accepts_the_declared_sigma_and_rejects_five_percent_off() -> None:
    values = noised(nothing(N), "ks").numpy()
    check_normal(values, 1.2 * 0.5)
    for wrong in (0.95, 1.05):
        assert stats.kstest(values, "norm", args=(0, wrong * 1.2 * 0.5)).pvalue < 1e-6
        with pytest.raises(AssertionError):
            check_normal(values, wrong * 1.2 * 0.5)


def test_the_standard_deviation_is_sigma_times_sensitivity() -> None:
    values = noised(nothing(N), "std", sigma=0.8, S=math.hypot(0.3, 0.4)).numpy()
    # The standard error of a sample standard deviation is std/√(2n).
    assert np.std(values) == pytest.approx(0.8 * 0.5, rel=4 / math.sqrt(2 * N))
    assert abs(values.mean()) < 4 * 0.4 / math.sqrt(N)


def test_coordinates_and_tails_are_independent_normals() -> None:
    values = noised(nothing(N), "normal").numpy() / 0.6
    for lag in (1, 2, N // 2):
        pairs = np.corrcoef(values[:-lag], values[lag:])[0, 1]
        assert abs(pairs) < 5 / math.sqrt(len(values) - lag)
        squares = np.corrcoef(values[:-lag] ** 2, values[lag:] ** 2)[0, 1]
        assert abs(squares) < 5 / math.sqrt(len(values) - lag)
    beyond = int((np.abs(values) > 3).sum())
    assert stats.binomtest(beyond, N, 2 * stats.norm.sf(3)).pvalue > 1e-3


def test_one_vector_is_drawn_across_all_tensors() -> None:
    parts = [nothing(3, 5), nothing(7), nothing(2, 1, 2)]
    random, grid = SecureRandom.deterministic(1), grid_step(1.0)
    out = add_noise(parts, noise_multiplier=1.0, sensitivity=1.0, grid=grid, random=random)
    assert [part.shape for part in out] == [part.shape for part in parts]
    together = torch.cat([part.flatten() for part in out]).double() * grid
    assert torch.equal(together, noised(nothing(26), 1, sigma=1.0, S=1.0))
    assert len(set(together.tolist())) == 26


@pytest.mark.parametrize("most", [0, 1, 2**20, 2**51])
def test_the_noise_is_added_to_whole_numbers_and_nothing_else_shows(most: int) -> None:
    dice = np.random.default_rng(0)
    total = torch.from_numpy(dice.integers(-most, most + 1, 2000))
    step = grid_step(0.5)
    steps = noised(total, "grid") / step
    assert torch.equal(steps, steps.round())
    assert torch.equal(steps.long() - total, (noised(nothing(2000), "grid") / step).long())


def test_the_discrete_law_is_as_near_the_rounded_normal_as_the_statement_says() -> None:
    """τ <= 1/(40 s²), by summing the law itself; and what that makes of the largest run."""
    for s in (5.0, 20.0, 100.0):
        k = np.arange(-int(12 * s), int(12 * s) + 1)
        discrete = np.exp(-(k**2) / (2 * s * s))
        discrete /= discrete.sum()
        # Differences of tails: near zero, the distribution function has no digits to spare.
        edges = np.abs(k) + 0.5
        rounded = stats.norm.sf((edges - 1) / s) - stats.norm.sf(edges / s)
        rounded[k == 0] = 1 - 2 * stats.norm.sf(0.5 / s)
        tau = np.abs(discrete - rounded).sum() / 2
        assert 0.8 / (48 * s * s) < tau < 1 / (40 * s * s)
    smallest = 0.2 * 2**40
    assert (1 + math.exp(8)) * LARGEST_RELEASE / (40 * smallest**2) < 2.0**-28
    plan = PrivacyPlan(
        unit="reader",
        noise_multiplier=1.2,
        clip={"all": 1.0},
        sampling_rate=0.15,
        records_per_reader=2,
        steps=12,
        delta=1e-5,
    )
    expected = (1 + math.exp(plan.epsilon())) * 2**40 / (40 * 1.44 * 2.0**80)
    assert plan.grid_delta == pytest.approx(expected)
    assert plan.grid_delta < 1e-12


def test_rényi_costs_at_whole_orders_are_those_of_the_real_gaussian() -> None:
    """E over P of (Q/P)ʲ for a shift by whole numbers: the very exponent, on the lattice."""
    s, k = 3.0, np.arange(-200, 201)

    def log_law(centre: int) -> NDArray[np.float64]:
        exponents = -((k - centre) ** 2) / (2 * s * s)
        found: NDArray[np.float64] = exponents - np.log(np.exp(exponents).sum())
        return found

    for order in (2, 3, 6, 8):
        cost = np.log(np.exp(order * log_law(2) + (1 - order) * log_law(0)).sum())
        assert cost == pytest.approx(order * (order - 1) * 4 / (2 * s * s), rel=1e-9)


def test_two_forks_draw_different_noise() -> None:
    random = SecureRandom()

    def draw() -> bytes:
        (out,) = add_noise(
            [nothing(6)], noise_multiplier=1, sensitivity=1, grid=2.0**-40, random=random
        )
        return out.numpy().tobytes()

    drawn = {in_a_fork(draw), in_a_fork(draw), draw()}
    assert len(drawn) == 3


def test_noise_reproduces_and_differs_by_outlet_and_round() -> None:
    zero = nothing(50)
    same = noised(zero, 1, "north-post", 1)
    assert torch.equal(same, noised(zero, 1, "north-post", 1))
    for other in ((1, "north-post", 2), (1, "south-echo", 1), (2, "north-post", 1)):
        assert not (same == noised(zero, *other)).any()


def test_without_noise_the_sums_come_back_as_they_are() -> None:
    random = SecureRandom.deterministic(1)
    total = torch.tensor([3, -7])
    (out,) = add_noise([total], noise_multiplier=0, sensitivity=1.0, grid=0.5, random=random)
    assert torch.equal(out, total)
    untouched = SecureRandom.deterministic(1)
    assert random.words(1) == untouched.words(1)
