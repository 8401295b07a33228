"""What a privacy loss distribution says that steps cost, by dp_accounting.

Plans ask it, with plain numbers, so that an answer can be kept.

Invariants:
    * Each answer is to the last bit `PLDAccountant`'s: it is made in less time of the same parts.

Example:
    >>> round(epsilon_of(1.2, 0.15, 12, 1e-5), 2)
    3.02
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dp_accounting

# Above this ε a privacy loss distribution takes gigabytes, to say that nobody is protected.
LARGEST_PLD_EPSILON = 1000.0
FINE, COARSE = 1e-4, 1e-3  # grids of a privacy loss: of what is said, and a search's; nats


@lru_cache(maxsize=4096)
def epsilon_of(
    noise_multiplier: float, sampling_rate: float, steps: int, delta: float, grid: float = FINE
) -> float:
    """PLD ε of T Poisson-sampled Gaussians; beyond `LARGEST_PLD_EPSILON` the Rényi bound."""
    from dp_accounting.pld import privacy_loss_distribution as losses

    if noise_multiplier == 0:
        return math.inf
    bound = renyi_epsilon(noise_multiplier, sampling_rate, steps, delta)
    if bound > LARGEST_PLD_EPSILON:
        return bound
    if sampling_rate < 1:
        spent = _sampled_step(noise_multiplier, sampling_rate, grid).self_compose(steps)
    else:
        spent = _gaussian(noise_multiplier / math.sqrt(steps), grid)
    nothing = losses.identity(value_discretization_interval=grid)  # where accountants begin
    return float(nothing.compose(spent).get_epsilon_for_delta(delta))


@lru_cache(maxsize=4)  # some ten megabytes each
def _sampled_step(sigma: float, q: float, grid: float) -> Any:
    """The privacy loss of one step, whose making takes most of the time that an ε takes.

    A run states ε after each of its rounds, and all of them are made of it.
    """
    from dp_accounting.pld import privacy_loss_distribution as losses

    return losses.from_gaussian_mechanism(
        sigma, value_discretization_interval=grid, sampling_prob=q
    )


def _gaussian(sigma: float, grid: float) -> Any:
    """The privacy loss of a Gaussian without sampling, with all of the grid asked for at once.

    As `from_gaussian_mechanism`, which inverts the loss point by point.
    """
    import numpy as np
    from dp_accounting.pld import pld_pmf
    from dp_accounting.pld import privacy_loss_distribution as losses
    from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType, GaussianPrivacyLoss

    loss = GaussianPrivacyLoss(sigma, sensitivity=1, adjacency_type=AdjacencyType.REMOVE)
    bounds = loss.connect_dots_bounds()
    low = math.floor(bounds.epsilon_lower / grid)
    high = math.ceil(bounds.epsilon_upper / grid)
    epsilons = np.arange(low, high + 1) * grid
    x = -0.5 - epsilons * sigma**2  # where the loss is ε
    deltas = loss.mu_upper_cdf(x) - np.exp(epsilons + loss.mu_lower_log_cdf(x))
    pmf = pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(
        grid, low, high, np.clip(deltas, 0, 1)
    )
    return losses.PrivacyLossDistribution(pmf)


def event_epsilon(event: dp_accounting.DpEvent, delta: float) -> float:
    """ε at `delta` of any event that `dp_accounting`'s PLD can price, add or remove one unit."""
    import dp_accounting as dp
    from dp_accounting import pld

    accountant = pld.PLDAccountant(dp.NeighboringRelation.ADD_OR_REMOVE_ONE)
    accountant.compose(event)
    return float(accountant.get_epsilon(delta))


@lru_cache(maxsize=256)
def group_epsilon_of(sigma: float, q: float, steps: int, delta: float, units: int) -> float:
    """PLD ε of as many steps for units that come and go together: `PrivacyPlan.group_epsilon`."""
    import dp_accounting as dp
    from dp_accounting import pld
    from dp_accounting.dp_event import MixtureOfGaussiansDpEvent
    from scipy.stats import binom

    if q == 1:  # all of them in every step: no mixture
        return epsilon_of(sigma / units, 1.0, steps, delta)
    sampled = range(units + 1)
    chances = [float(binom.pmf(i, units, q)) for i in sampled]
    kept = [i for i in sampled if chances[i] > 0]
    accountant = pld.PLDAccountant(
        dp.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=units / 1000
    )
    moves, total = [float(i) for i in kept], sum(chances)
    event = MixtureOfGaussiansDpEvent(sigma, moves, [chances[i] / total for i in kept])
    accountant.compose(event, steps)
    return float(accountant.get_epsilon(delta))


def renyi_epsilon(sigma: float, q: float, steps: int, delta: float) -> float:
    """A quick Rényi upper bound on ε: where the search for σ starts.

    Source: Mironov, Talwar & Zhang 2019 (sampled Gaussian), computed by dp_accounting.
    """
    import dp_accounting as dp
    from dp_accounting import rdp

    accountant = rdp.RdpAccountant(
        # Whole orders only: their sums are finite, the series for fractions may not converge.
        orders=[*range(2, 65), 128, 256],
        neighboring_relation=dp.NeighboringRelation.ADD_OR_REMOVE_ONE,
    )
    accountant.compose(dp.PoissonSampledDpEvent(q, dp.GaussianDpEvent(sigma)), steps)
    return float(accountant.get_epsilon(delta))
