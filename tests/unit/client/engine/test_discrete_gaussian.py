"""The discrete Gaussian: the exact law, an independent sampler, and doubt that is resolved."""

from __future__ import annotations

import math
from decimal import Context, localcontext
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from presspool.client.engine import discrete_gaussian as module
from presspool.client.engine.discrete_gaussian import discrete_gaussian
from presspool.client.engine.randomness import SecureRandom
from presspool.common.base.errors import PlanError

N = 200_000


def law(scale: float, most: int) -> NDArray[np.float64]:
    """P(k) for k from -most to most, by its definition."""
    weights = np.exp(-(np.arange(-most, most + 1) ** 2) / (2 * scale**2))
    found: NDArray[np.float64] = weights / weights.sum()
    return found


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.7, 8.0, 20.0, 100.0])
def test_chi_square_against_the_exact_law(scale: float) -> None:
    draws = discrete_gaussian(N, scale, SecureRandom.deterministic("law", int(10 * scale)))
    most = math.ceil(5 * scale)
    expected = law(scale, 20 * most)[19 * most : 21 * most + 1] * N
    inside = expected >= 10
    counts = np.bincount(draws[abs(draws) <= most] + most, minlength=2 * most + 1)
    cells = np.append(expected[inside], N - expected[inside].sum())
    seen = np.append(counts[inside], N - counts[inside].sum())
    if cells[-1] < 10:
        cells, seen = cells[:-1] * (N / cells[:-1].sum()), seen[:-1]
        cells *= seen.sum() / cells.sum()
    assert stats.chisquare(seen, cells).pvalue > 1e-4
    # Five per cent off is seen.
    if scale >= 1:
        wrong = law(1.05 * scale, 20 * most)[19 * most : 21 * most + 1][inside]
        wrong *= counts[inside].sum() / wrong.sum()
        assert stats.chisquare(counts[inside], wrong).pvalue < 1e-6


@pytest.mark.parametrize("scale", [2.0**20, 1.3 * 2**40, 2.0**45, 2.0**56])
def test_on_a_fine_grid_it_is_the_normal_law(scale: float) -> None:
    draws = discrete_gaussian(N, scale, SecureRandom.deterministic("fine", int(scale)))
    z = draws / scale
    assert stats.kstest(z, "norm").pvalue > 1e-4
    for wrong in (0.97, 1.03):
        assert stats.kstest(z, "norm", args=(0, wrong)).pvalue < 1e-6
    # The lowest bits are as good as the others: no shells around zero.
    assert stats.binomtest(int((draws & 1).sum()), N, 0.5).pvalue > 1e-4
    beyond = int((np.abs(z) > 3.5).sum())
    assert stats.binomtest(beyond, N, 2 * stats.norm.sf(3.5)).pvalue > 1e-4


def bernoulli_exp(x: Fraction, coin: np.random.Generator) -> bool:
    """Canonne, Kamath & Steinke 2020, algorithm 1, in exact rational arithmetic."""

    def below(chance: Fraction) -> bool:
        return int(coin.integers(0, chance.denominator)) < chance.numerator

    while x > 1:
        if not bernoulli_exp(Fraction(1), coin):
            return False
        x -= 1
    k = 1
    while below(x / k):
        k += 1
    return k % 2 == 1


def theirs(variance: Fraction, coin: np.random.Generator) -> int:
    """Their algorithms 2 and 3: the slow oracle, which shares nothing with ours."""
    t = math.isqrt(variance.numerator // variance.denominator) + 1
    while True:
        u = int(coin.integers(0, t))
        if not bernoulli_exp(Fraction(u, t), coin):
            continue
        v = 0
        while bernoulli_exp(Fraction(1), coin):
            v += 1
        y, negative = u + t * v, coin.integers(0, 2) == 1
        if negative and y == 0:
            continue
        y = -y if negative else y
        if bernoulli_exp((abs(y) - variance / t) ** 2 / (2 * variance), coin):
            return y


@pytest.mark.parametrize("scale", [Fraction(3, 2), Fraction(12), Fraction(90)])
def test_the_sampler_of_the_paper_draws_the_same_law(scale: Fraction) -> None:
    coin = np.random.default_rng(7)
    slow = np.array([theirs(scale**2, coin) for _ in range(4000)])
    fast = discrete_gaussian(60_000, float(scale), SecureRandom.deterministic("oracle"))
    assert stats.ks_2samp(slow, fast, method="asymp").pvalue > 1e-4
    assert np.std(fast) == pytest.approx(np.std(slow), rel=0.06)


def test_the_whole_distribution_is_pinned_by_its_thresholds() -> None:
    """Block by block, P(V) as the definition says, to 60 digits of float-free arithmetic."""
    scale, bits = 40.0, 2
    whole, exact = module._thresholds(scale, bits)
    with localcontext(Context(prec=90)):
        weights = [module._decimal(-Fraction(16 * v * v) / 3200).exp() for v in range(len(exact))]
        total = sum(weights)
        for v in (1, 2, 30):
            assert abs(exact[v - 1] - Fraction(sum(weights[:v]) / total)) < Fraction(1, 10**60)
    assert whole[0] == int(exact[0] * 2**64)
    assert 1 - exact[-1] < Fraction(2) ** -180


class Forced(SecureRandom):
    """Gives chosen words first, then those of a stream of its own."""

    def __init__(self, *chosen: int) -> None:
        super().__init__()
        self.chosen, self._rest = list(chosen), SecureRandom.deterministic("rest")

    def words(self, count: int) -> NDArray[np.uint64]:
        taken, self.chosen = self.chosen[:count], self.chosen[count:]
        drawn = self._rest.words(count - len(taken))
        return np.concatenate([np.array(taken, np.uint64), drawn])


def test_a_word_on_a_threshold_is_decided_by_further_bits() -> None:
    whole, exact = module._thresholds(40.0, 2)
    first = int(exact[0] * (1 << 128)) & (2**64 - 1)  # the threshold's second 64 bits
    word = np.array([whole[0]], np.uint64)
    assert module._blocks(word, 40.0, 2, Forced(first - 1)).tolist() == [0]
    assert module._blocks(word, 40.0, 2, Forced(first + 1)).tolist() == [1]
    third = int(exact[0] * (1 << 192)) & (2**64 - 1)
    assert module._blocks(word, 40.0, 2, Forced(first, third - 1)).tolist() == [0]
    assert module._blocks(word, 40.0, 2, Forced(first, third + 1)).tolist() == [1]


def test_a_coin_within_the_error_of_its_chance_is_decided_exactly() -> None:
    with localcontext(Context(prec=80)):
        x = module._decimal(Fraction(1, 3))
        exact = Fraction((-x).exp())
    near, second = divmod(int(exact * (1 << 128)), 1 << 64)
    for chance in (math.exp(-1 / 3) - 2.0**-48, math.exp(-1 / 3), math.exp(-1 / 3) + 2.0**-48):
        for words, heads in (
            ((near - 1,), True),
            ((near + 1,), False),
            ((near, second - 1), True),
            ((near, second + 1), False),
        ):
            coins = module._coins(np.array([chance]), Forced(*words), lambda _: x)
            assert coins.tolist() == [heads]


def test_small_and_large_words_reach_the_far_tail_without_gaps() -> None:
    """A word of all ones is a tail of 2⁻⁶⁴ and what follows decides how far out it lies."""
    scale = 1.3 * 2**40
    top = 2**64 - 1
    far = [
        int(module._blocks(np.array([top], np.uint64), scale, 37, Forced(word))[0])
        for word in (0, 2**62, 2**63, top - 2**32, top - 1)
    ]
    assert far == sorted(far)
    assert far[-1] > far[0] > 8 * scale / 2**37
    (nothing,) = module._blocks(np.array([0], np.uint64), scale, 37, Forced())
    assert nothing == 0


def coarse(random: SecureRandom, count: int) -> NDArray[np.int64]:
    """The planted mistake: Box & Muller over 20-bit uniforms, rounded to the grid."""
    u = (random.words(count) >> np.uint64(44)).astype(np.float64) * 2.0**-20
    angle = 2 * np.pi * random.uniform(count)
    drawn: NDArray[np.int64] = np.rint(2.0**20 * np.sqrt(-2 * np.log1p(-u)) * np.cos(angle)).astype(
        np.int64
    )
    return drawn


def shells(draws: NDArray[np.int64], scale: float) -> float:
    """How unevenly the largest of n draws lie against the tail of the law (a p-value)."""
    largest = np.sort(np.abs(draws / scale))[-200:]
    tail = stats.norm.sf(largest) / stats.norm.sf(largest[0])
    return float(stats.kstest(tail[1:], "uniform").pvalue)


def test_a_coarse_uniform_is_caught_in_the_tail() -> None:
    count = 4_000_000
    bad = coarse(SecureRandom.deterministic("coarse"), count)
    good = discrete_gaussian(count, 2.0**20, SecureRandom.deterministic("good"))
    assert np.abs(bad).max() / 2.0**20 < 5.27  # √(2·20·ln 2): nothing is reachable beyond
    assert shells(good, 2.0**20) > 1e-3
    assert good.std() == pytest.approx(2.0**20, rel=0.01)


@pytest.mark.parametrize("scale", [0.0, -1.0, 2.0**57, math.inf, math.nan])
def test_a_scale_that_whole_numbers_do_not_hold_is_refused(scale: float) -> None:
    with pytest.raises(PlanError, match="the noise's scale"):
        discrete_gaussian(1, scale, SecureRandom.deterministic(1))


def test_draws_reproduce_and_a_count_is_kept() -> None:
    for count in (0, 1, 7, 1000):
        draws = discrete_gaussian(count, 2.0**40, SecureRandom.deterministic(3))
        assert draws.shape == (count,)
        assert draws.dtype == np.int64
    one, two = (discrete_gaussian(500, 2.0**40, SecureRandom.deterministic(4)) for _ in range(2))
    assert np.array_equal(one, two)
