"""What a step costs whose noise the whole pool shares: a sum of discrete Gaussians on a lattice.

K outlets each add whole numbers of clipped gradients and a *share*, a discrete Gaussian of s² on
every coordinate; only the sum modulo 2^bits is seen. Of the shares at least m = K − c − d stay
unknown to whoever looks, so the sum is hidden by about a discrete Gaussian of m·s² = (σΔ)², Δ being
how far one reader moves it. `docs/pooled-privacy.md` proves every inequality that is used here.

Invariants:
    * Costs are Rényi divergences at whole orders, in nats, both of adding and of removing a reader.
    * They hold on the lattice itself: nothing is said of a continuous Gaussian that is rounded.
    * Wrapping around the ring is post-processing. It costs nothing; `ring` only keeps steps useful.

Example:
    >>> best(lambda order: 16 * sampled_gaussian(0.125, 1.2, order), delta=1e-5)
    EpsilonByOrder(epsilon=3.630859358827184, order=6)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from presspool.common.accounting import events, filter
from presspool.common.accounting.events import sampled_gaussian
from presspool.common.accounting.logs import log1p_exp, log_expm1, log_sum

RINGS = (32, 64)
"""Bits of the rings that sums can be taken in."""
WRAP = 2.0**-40
"""How likely any coordinate of any step of a run may wrap around, at most."""
# How strongly `_coupling` prefers many outlets at once, by (α − 1)k²/2σ²: the least bound is taken.
_TILTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
_SMALLEST_LOG = -600.0


class EpsilonByOrder(NamedTuple):
    """An ε at some δ, and the order that gives it."""

    epsilon: float
    order: int


def best(cost: Callable[[int], float], *, delta: float) -> EpsilonByOrder:
    """ε at the best of the ledger's orders; `cost` gives the Rényi cost in nats at an order."""
    return min(
        EpsilonByOrder(filter.epsilon_of(cost(order), delta=delta, order=order), order)
        for order in filter.PORTFOLIO
    )


def best_of(event: events.SelfComposed | events.Composed, *, delta: float) -> EpsilonByOrder:
    """ε of an event at the order of the ledger's that gives the least."""
    return best(lambda order: events.renyi(event, order=order), delta=delta)


def group_cost(rate: float, sigma: float, outlets: int, order: int) -> float:
    """ε(α) in nats of one step for a reader at several outlets, each of which draws them by itself.

    Their number k in a step is Binomial(m, q) and moves the one sum by kΔ at most. An upper bound
    in both directions: say beforehand which k it would be, if any (ν), and let it happen with
    chance q_k only, so that ν_k·q_k is the binomial's chance of k. Every k is then a
    Poisson-sampled Gaussian of multiplier σ/k and rate q_k, and the divergence's moment is at most
    the mean of theirs.

    Args:
        rate: q, 0 < q <= 1.
        sigma: σ.
        outlets: m >= 1; 1 gives `sampled_gaussian`.
        order: α, whole, >= 2.

    Source: docs/pooled-privacy.md, proposition 5. The law is Choquette-Choo, Ganesh, Steinke &
    Thakurta 2024 (arXiv 2312.09148), section 3.
    """
    numbers = range(1, outlets + 1) if rate < 1 else [outlets]
    if len(numbers) == 1:
        return sampled_gaussian(rate, sigma / numbers[0], order)
    chances = [_log_binomial(k, outlets, rate) for k in numbers]
    sigmas = [sigma / k for k in numbers]
    bounds = []
    for tilt in _TILTS:
        rates = _coupling(chances, [tilt * (order - 1) / (2 * one**2) for one in sigmas])
        bounds.append(_mean_moment(chances, rates, sigmas, order))
    return min(bounds)


def group_renyi(event: events.SelfComposed | events.Composed, *, outlets: int, order: int) -> float:
    """ε(α) in nats of an event for a reader at so many of a run's outlets, pooled or not.

    In a pooled sum they are a group; of anything else each outlet's costs add up.
    """
    return math.fsum(
        phase.count
        * (
            group_cost(phase.event.rate, phase.event.noise_multiplier, outlets, order)
            + events.beyond_gaussian(phase.event, order)
        )
        if isinstance(phase.event, events.PooledSum)
        else outlets * events.renyi(phase, order=order)
        for phase in events.phases_of(event)
    )


def group_epsilon(
    event: events.SelfComposed | events.Composed, *, outlets: int, delta: float
) -> float:
    """ε of `group_renyi` at the best of the ledger's orders."""
    return best(lambda order: group_renyi(event, outlets=outlets, order=order), delta=delta).epsilon


def is_pooled(event: events.SelfComposed | events.Composed) -> bool:
    """Whether outlets share the noise of an event."""
    return events.alone(event) is not None


def assumption(shared: int) -> str:
    """What a claim leans on that so many pooled runs are under, after the claim."""
    if not shared:
        return ""
    return (
        f", if in {shared} run{'s' * (shared != 1)} whose outlets share their noise no more of "
        "them work together with the coordinator than its contract says"
    )


def epsilon_alone(event: events.SelfComposed | events.Composed, *, delta: float) -> float | None:
    """ε of an outlet's own shares at the best of the ledger's orders; None where none is pooled."""
    left = events.alone(event)
    return None if left is None else best_of(left, delta=delta).epsilon


def ring(*, largest: float, scale: float, shares: int, numbers: int) -> int | None:
    """The smallest of `RINGS` that a sum does not wrap around in, but for a chance of `WRAP`.

    A discrete Gaussian of s² is sub-Gaussian with s², so a sum of K exceeds s√(2K·ln(2n/β)) in one
    of n numbers with chance β at most.

    Args:
        largest: the largest |coordinate| of the sum without noise, in steps of the grid.
        scale: s of one share.
        shares: K, as many as there can be.
        numbers: n, coordinates times steps of the run.

    Source: Canonne, Kamath & Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS
    2020, section 2 (sub-Gaussian tails).
    """
    reach = largest + scale * math.sqrt(2 * shares * math.log(2 * numbers / WRAP))
    return next((bits for bits in RINGS if reach < 2.0 ** (bits - 1)), None)


def _log_binomial(k: int, n: int, rate: float) -> float:
    """Ln of the chance of k out of n, for 0 < rate < 1."""
    return math.log(math.comb(n, k)) + k * math.log(rate) + (n - k) * math.log1p(-rate)


def _coupling(chances: Sequence[float], tilts: Sequence[float]) -> list[float]:
    """Ln q_k = ln min(1, κ·e^(−tilt_k)), with the least κ for which Σ p_k/q_k <= 1.

    Any such q_k are allowed; what Σ ν_k = Σ p_k/q_k leaves of 1 is for "none".
    """

    def rates(kappa: float) -> list[float]:
        return [max(_SMALLEST_LOG, min(0.0, kappa - tilt)) for tilt in tilts]

    low, high = tilts[0] + _SMALLEST_LOG, tilts[-1]  # tilts rise; at the upper end all q_k are 1
    for _ in range(80):
        middle = (low + high) / 2
        sum_ = math.fsum(
            math.exp(min(1.0, p - q)) for p, q in zip(chances, rates(middle), strict=True)
        )
        low, high = (low, middle) if sum_ <= 1 else (middle, high)
    return rates(high)


def _mean_moment(
    chances: Sequence[float], rates: Sequence[float], sigmas: Sequence[float], order: int
) -> float:
    """Ln of 1 + Σ ν_k·(moment_k − 1), by α − 1: all positive, nothing cancels."""
    terms = []
    for chance, rate, sigma in zip(chances, rates, sigmas, strict=True):
        cost = (order - 1) * sampled_gaussian(math.exp(rate), sigma, order)
        if cost > 0:  # but for what is less than the smallest float
            terms.append(chance - rate + log_expm1(cost))
    return log1p_exp(log_sum(terms)) / (order - 1) if terms else 0.0
