"""A.2: what lies in the tail of the noise must not tell where its centre is.

The attacker knows how noise is made and looks at coordinates far out, two by two. Box-Muller from a
53-bit uniform puts both halves of a pair on one of few circles around the true sum: out there the
circles are farther apart than the grid, so a guess of the sum is right if the pair lies on one of
them. The tail is rare; here it is made common by forcing the uniforms that lead there.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from presspool.client.engine.optimizer import ReaderOptimizer
from presspool.client.engine.randomness import SecureRandom
from presspool.common.contract.privacy_plan import PrivacyPlan

COUNT = 4000
SMALLEST = 64  # the uniforms 1 - u·2⁻⁵³ with u up to this


class IntoTheTail(SecureRandom):
    """The first words drawn are the largest that there are; the rest is as random as ever."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._forced, self._rest = True, SecureRandom.deterministic(seed)

    def words(self, count: int) -> NDArray[np.uint64]:
        drawn = self._rest.words(count)
        if not self._forced:
            return drawn
        self._forced = False
        return np.uint64(2**64 - 1) - (drawn % np.uint64(SMALLEST << 11))


def outputs(seed: int, centre: float) -> NDArray[np.float64]:
    """A step's noised sum for σ = S = 1, whose true value is `centre` in every coordinate."""
    plan = PrivacyPlan(
        unit="reader",
        noise_multiplier=1.0,
        clip={"all": 1.0},
        sampling_rate=0.5,
        records_per_reader=1,
        steps=1,
        delta=1e-5,
    )
    parameter = torch.nn.Parameter(torch.zeros(COUNT))
    optimizer = ReaderOptimizer(
        torch.optim.SGD([parameter], lr=1.0),
        plan=plan,
        groups={"all": [parameter]},
        population=2,
        random=IntoTheTail(seed),
    )
    parameter.grad_sample = torch.full((1, COUNT), centre)  # type: ignore[attr-defined]
    optimizer.accumulate()
    optimizer.add_noise()
    assert parameter.grad is not None
    noised: NDArray[np.float64] = parameter.grad.double().numpy()
    return noised


def on_circles(noised: NDArray[np.float64], centre: float) -> float:
    """Of the pairs far out, the share that lies on a circle that Box and Muller could reach."""
    x, y = noised[: COUNT // 2] - centre, noised[COUNT // 2 :] - centre
    squares = x * x + y * y
    reached = np.exp(-squares[squares > 2 * math.log(2.0**53 / SMALLEST)] / 2) * 2.0**53
    on_one = (reached > 0.5) & (np.abs(reached - np.rint(reached)) < 1e-4 * reached)
    return float(on_one.mean()) if len(reached) else 0.0


def test_pairs_far_out_lie_on_no_circle_around_the_true_sum() -> None:
    for centre in (0.0, 0.5 / math.sqrt(COUNT)):
        noised = outputs(1, centre)
        shares = [on_circles(noised, guess) for guess in (0.0, 0.5 / math.sqrt(COUNT))]
        assert max(shares) < 0.2, shares


def test_the_attack_sees_the_circles_where_they_are() -> None:
    """The planted mistake, so that the test above is known to look at the right thing."""
    radius = np.sqrt(-2 * np.log(np.arange(1, COUNT // 2 + 1) % SMALLEST * 2.0**-53 + 2.0**-53))
    angle = np.linspace(0, 6, COUNT // 2)
    noised = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    assert on_circles(noised.astype(np.float32).astype(np.float64), 0.0) > 0.9


def test_the_tail_has_as_many_values_as_draws() -> None:
    noised = np.abs(outputs(2, 0.0))
    far = noised[noised > 7]
    assert len(far) > COUNT / 4
    assert len(np.unique(far)) > 0.99 * len(far)


@pytest.mark.soak
def test_the_tail_is_the_laws_own_over_many_draws() -> None:
    from scipy import stats

    from presspool.client.engine.discrete_gaussian import discrete_gaussian

    scale, threshold, seen = 2.0**40, 4.5, 0
    random, far = SecureRandom(), []
    for _ in range(100):
        z = np.abs(discrete_gaussian(2_000_000, scale, random) / scale)
        far.append(z[z > threshold])
        seen += len(z)
    tail = np.concatenate(far)
    assert stats.binomtest(len(tail), seen, 2 * stats.norm.sf(threshold)).pvalue > 1e-5
    assert stats.kstest(stats.norm.sf(tail) / stats.norm.sf(threshold), "uniform").pvalue > 1e-5
