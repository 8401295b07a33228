"""From guesses about canaries to a lower bound on ε, by one training run.

m canaries are each included by a fair coin; the attacker sees the transcript, guesses r of the
coins and abstains from the rest; v guesses are right. Too many right guesses refute a privacy
claim, and the largest claim that is refuted is a lower bound on what really leaks.

Two bounds:

* `tail` and `epsilon_lower`: any (ε, δ)-DP mechanism. Steinke, Nasr & Jagielski 2023 (arXiv
  2305.08846), theorem 5.2 with the bound of appendix D:
  P[W >= v] <= β + 2mδ·max_i P[v > W' >= v-i]/i where W' is binomial(r, 1/(1+e^-ε)) and
  β = P[W' >= v].
* `refutes`: any mechanism with a symmetric trade-off function f.
  Mahloujifar, Melis & Chaudhuri 2024 (arXiv 2410.22235), algorithm "audit_rh_with_cap". With p_i
  the chance of i right guesses, h_i = Σ_{j>=i} p_j (r-j)/m and r_i = Σ_{j>=i} p_j j/m, f-DP of each
  coin gives r_{i+1} <= 1 - f(h_i), hence h_i >= f(1 - r_{i+1}); if that adds up to more than r/m,
  the chance of v right guesses was below p. It is stronger because a Gaussian's f is far above the
  line of its (ε, δ).

Invariants:
    * r is fixed before anybody looks at scores: a number of guesses that suits them is not covered.
    * A guess counts as right or wrong; an abstention counts as neither.

No torch here.

Example:
    >>> round(epsilon_lower(Guesses(canaries=1000, made=100, right=75), delta=1e-4, p=0.05), 3)
    0.673
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import binom

from presspool.common.base.errors import InputError

TradeOff = Callable[[float], float]
"""f: false positive rate → smallest false negative rate of any test; symmetric, convex."""

# Where a search stops: no number of canaries that fits into a run can show more.
LARGEST_EPSILON = 64.0
TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """How an attacker did.

    Attributes:
        canaries: m, all that coins were flipped for.
        made: r, guesses that were made; the other m - r are abstentions.
        right: v.

    Raises:
        InputError: not 0 <= right <= made <= canaries, or no canary.
    """

    canaries: int
    made: int
    right: int

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.made <= self.canaries or self.canaries < 1:
            raise InputError(
                "guesses",
                expected="0 <= right <= made <= canaries, and a canary",
                got=f"{self.right}, {self.made}, {self.canaries}",
            )


def tail(guesses: Guesses, *, epsilon: float, delta: float) -> float:
    """The chance that an (ε, δ)-DP mechanism gives so many right guesses or more; at most 1.

    Source: Steinke et al. 2023, theorem 5.2 and appendix D.
    """
    m, r, v = guesses.canaries, guesses.made, guesses.right
    rate = float(expit(epsilon))
    beta = float(binom.sf(v - 1, r, rate))
    if delta == 0 or v == 0:
        return min(1.0, beta)
    steps = np.arange(1, v + 1)
    below = binom.sf(v - steps - 1, r, rate) - beta
    return min(1.0, beta + 2 * m * delta * max(0.0, float(np.max(below / steps))))


def epsilon_lower(guesses: Guesses, *, delta: float, p: float) -> float:
    """The largest ε whose (ε, δ) claim is refuted at significance p; 0 where none is.

    Args:
        guesses: what the attacker did.
        delta: δ of the claims.
        p: chance of an answer that is too large, 0.05 for 95 % confidence.
    """
    return _largest(lambda epsilon: tail(guesses, epsilon=epsilon, delta=delta) < p)


def refutes(guesses: Guesses, tradeoff: TradeOff, *, p: float) -> bool:
    """Whether so many right guesses have a chance below p under f-DP.

    Args:
        guesses: what the attacker did, r > 0 of them for anything to be refuted.
        tradeoff: the claimed f.
        p: significance, 0 < p < 1.

    Source: Mahloujifar et al. 2024, algorithms "rh_with_cap" and "audit_rh_with_cap", k = 2.
    """
    m, made, right = guesses.canaries, guesses.made, guesses.right
    reached = p * right / m  # r_i of the paper: right guesses among outcomes of i or more
    missed = p * (made - right) / m  # h_i: the wrong ones
    for i in range(right - 1, -1, -1):
        needed = max(missed, tradeoff(1 - reached))
        reached, missed = reached + i / (made - i) * (needed - missed), needed
        if reached + missed > made / m:
            return True
    return False


def _largest(holds: Callable[[float], bool], *, tolerance: float = TOLERANCE) -> float:
    """The end of the interval from 0 on which `holds`; 0 where it never does."""
    low, high = 0.0, 1.0
    if not holds(low):
        return 0.0
    while holds(high):
        low, high = high, 2 * high
        if high > LARGEST_EPSILON:
            return low
    while high - low > tolerance:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
