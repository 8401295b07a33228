"""A privacy plan as a trade-off function, and the largest ε of such plans that guesses refute.

The plan's privacy loss distribution gives δ(ε) for every ε; each pair is a line below f, and f is
their upper envelope (Dong, Roth & Su 2022, proposition 6). Finitely many lines lie below the true
f, so that what is refuted here is refuted by the true one.

The family is the plan with more or less noise: "as if σ were at most so much, hence ε at least x".
It presumes the mechanism's shape; `bounds.epsilon_lower` presumes nothing but (ε, δ).

Example: `epsilon_lower(guesses, contract.plan, p=0.05)`.
"""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache

import numpy as np

from presspool.common.contract.privacy_plan import PrivacyPlan
from presspool.simulations.attack.bounds import Guesses, TradeOff, refutes

# More ε than this no audit of a few thousand canaries can show, and its PLD takes long.
LARGEST = 32.0
SMALLEST = 0.02
LINES = 400


def tradeoff(plan: PrivacyPlan) -> TradeOff:
    """The f of a protected plan, from below."""
    epsilons, deltas = _profile(plan.noise_multiplier, plan.sampling_rate, plan.steps)
    grown = np.exp(epsilons)

    def f(alpha: float) -> float:
        steep, gentle = 1 - deltas - grown * alpha, (1 - deltas - alpha) / grown
        return max(0.0, float(steep.max()), float(gentle.max()))

    return f


def epsilon_lower(guesses: Guesses, plan: PrivacyPlan, *, p: float) -> float:
    """The largest ε, at the plan's δ, of a plan with other noise that is refuted at p; 0 for none.

    Args:
        guesses: what the attacker did.
        plan: the claim.
        p: significance.

    Returns:
        At most about `LARGEST`.
    """
    if not guesses.right:
        return 0.0

    def refuted(sigma: float) -> bool:
        return refutes(guesses, tradeoff(_with_noise(plan, sigma)), p=p)

    strong = weak = plan.noise_multiplier  # much noise is refuted sooner than little
    if refuted(weak):
        while refuted(weak):
            if _with_noise(plan, weak).epsilon() > LARGEST:
                return LARGEST
            strong, weak = weak, weak / 1.5
    else:
        while not refuted(strong):
            if _with_noise(plan, strong).epsilon() < SMALLEST:
                return 0.0
            strong, weak = strong * 1.5, strong
    while strong / weak > 1.002:
        middle = math.sqrt(strong * weak)
        strong, weak = (middle, weak) if refuted(middle) else (strong, middle)
    return _with_noise(plan, strong).epsilon()


def _with_noise(plan: PrivacyPlan, sigma: float) -> PrivacyPlan:
    return dataclasses.replace(plan, noise_multiplier=sigma)


@lru_cache(maxsize=256)
def _profile(sigma: float, q: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Values of ε >= 0 and the plan's δ at each, as dp_accounting's PLD bounds it from above."""
    import dp_accounting as dp
    from dp_accounting import pld

    accountant = pld.PLDAccountant(
        dp.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=1e-3
    )
    gaussian: dp.DpEvent = dp.GaussianDpEvent(sigma)
    event = dp.PoissonSampledDpEvent(q, gaussian) if q < 1 else gaussian
    accountant.compose(event, steps)
    largest = max(1.0, float(accountant.get_epsilon(1e-9)))
    epsilons = np.linspace(0, largest, LINES)
    return epsilons, np.array([accountant.get_delta(e) for e in epsilons])
