"""The one frozen plan that says how much noise is drawn, for what, and what it costs.

Mechanism (DESIGN §3): each step Poisson-samples units with rate q, clips each unit's gradient to
C_g in every parameter group g, sums, adds N(0, (σS)² I) with S = √(Σ_g C_g²), divides by the public
b = q·n. Neighbouring data sets differ by adding or removing *all* records of one unit, so S is the
L2 sensitivity of the sum, and the accounting event is a Poisson-sampled Gaussian composed T times.

Invariants:
    * No other module knows σ, C, q, k or T; training, ledger and reports all ask this object.
    * `event()` describes exactly the steps that `client.training` executes: empty samples included.
    * b comes from the declared population, never from the data.

No torch here: contracts and audits must be readable on a machine without it.

Example:
    >>> plan = PrivacyPlan(unit="reader", noise_multiplier=1.2, clip={"all": 1.0},
    ...                    sampling_rate=0.15, records_per_reader=2, steps=12, delta=1e-5)
    >>> round(plan.epsilon(), 2)
    3.02
    >>> plan.expected_batch(1000)
    150.0
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from presspool.common.base.errors import ContractError, PlanError
from presspool.common.contract.privacy_loss import (
    COARSE,
    FINE,
    epsilon_of,
    group_epsilon_of,
    renyi_epsilon,
)

if TYPE_CHECKING:
    import dp_accounting

Unit = Literal["reader", "record"]

AccountantName = Literal["dp_accounting PLD", "presspool Renyi"]
"""What states an ε, as ledgers call it; the second of pooled sums alone."""
ACCOUNTANT = "dp_accounting PLD (privacy loss distribution, add/remove one)"

# Below this σ an (ε, 1e-5) statement is in the hundreds: not a protection anybody should buy.
SMALLEST_NOISE_MULTIPLIER = 0.2
# What noise on the grid has room for in 64 bits.
LARGEST_NOISE_MULTIPLIER = 2.0**14
# σ is solved to this step and rounded up, so that a contract's digest holds a short number; a
# smaller σ than one step is not told apart from 0.
NOISE_STEP = 1e-3
# The grid that clipped gradients and noise are counted in is so many binary places finer than S.
GRID_BITS = 40
LARGEST_RELEASE = 1 << 40  # numbers in one run, coordinates times steps


@dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """Everything that decides what one run costs a reader at one outlet.

    Attributes:
        unit: whose records are added or removed together.
        noise_multiplier: σ, the noise's standard deviation over the joint sensitivity; 0 means
            that the run is unprotected.
        clip: L2 bound C_g for each separately clipped parameter group ("all", or "adapter" and
            "head").
        sampling_rate: q, the chance of each unit to be in a step, 0 < q <= 1.
        records_per_reader: k, at most so many records make up a reader's mean gradient.
        steps: T, of one outlet over the whole run, at most (its rounds × local steps).
        delta: δ of the statement.

    Raises:
        ContractError: a value outside its range.
    """

    unit: Unit
    noise_multiplier: float
    clip: Mapping[str, float]
    sampling_rate: float
    records_per_reader: int
    steps: int
    delta: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "clip", MappingProxyType(dict(self.clip)))
        _require(self.unit in ("reader", "record"), "unit", "'reader' or 'record'", self.unit)
        _require(
            self.noise_multiplier == 0
            or NOISE_STEP <= self.noise_multiplier <= LARGEST_NOISE_MULTIPLIER,
            "noise_multiplier",
            f"0 (no noise) or a number from {NOISE_STEP:g} to {LARGEST_NOISE_MULTIPLIER:g}",
            self.noise_multiplier,
        )
        _require(
            bool(self.clip) and all(1e-12 <= c <= 1e12 for c in self.clip.values()),
            "clip",
            "a number from 1e-12 to 1e12 for each group",
            dict(self.clip),
        )
        _require(0 < self.sampling_rate <= 1, "sampling_rate", "0 < q <= 1", self.sampling_rate)
        _require(
            self.records_per_reader >= 1, "records_per_reader", ">= 1", self.records_per_reader
        )
        _require(self.steps >= 1, "steps", ">= 1", self.steps)
        _require(0 < self.delta < 1, "delta", "0 < δ < 1", self.delta)

    @property
    def sensitivity(self) -> float:
        """S = √(Σ C_g²): how far one unit can move the summed clipped gradient (L2)."""
        return math.hypot(*self.clip.values())

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise on each coordinate of the sum (before dividing by b)."""
        return self.noise_multiplier * self.sensitivity

    @property
    def protected(self) -> bool:
        """Whether any noise is drawn at all."""
        return self.noise_multiplier > 0

    def expected_batch(self, population: int) -> float:
        """The public b = q·n for an outlet's declared population of units; a public constant."""
        return self.sampling_rate * population

    def event(self, steps: int | None = None) -> dp_accounting.DpEvent:
        """The privacy event of `steps` steps (default: all T) of this plan.

        Raises:
            PlanError: more steps than the plan holds, or none.
        """
        import dp_accounting as dp

        count = self.steps if steps is None else steps
        if not 0 < count <= self.steps:
            raise PlanError("steps", expected=f"1 to {self.steps}", got=count)
        if not self.protected:
            return dp.NonPrivateDpEvent()
        gaussian: dp.DpEvent = dp.GaussianDpEvent(self.noise_multiplier)
        if self.sampling_rate < 1:
            gaussian = dp.PoissonSampledDpEvent(self.sampling_rate, gaussian)
        return dp.SelfComposedDpEvent(gaussian, count)

    def epsilon(self, steps: int | None = None) -> float:
        """ε at `delta` of the first `steps` steps (default: all), by PLD; inf if unprotected.

        Where a Rényi bound on it is above `LARGEST_PLD_EPSILON`, that bound, which is larger.

        Source: Meiser & Mohammadi 2018; Koskela et al., AISTATS 2020; computed by dp_accounting.
        """
        if steps == 0:
            return 0.0
        count = self.steps if steps is None else steps
        self.event(count)  # the range check
        return epsilon_of(self.noise_multiplier, self.sampling_rate, count, self.delta)

    @property
    def grid_delta(self) -> float:
        """What δ grows by because the noise is the discrete Gaussian, for any adapter.

        (1 + e^ε)·d·T/(40 s²) with s = σ·2⁴⁰ and d·T at most `LARGEST_RELEASE`; where that comes
        from says `presspool.client.engine.noise`.
        """
        scale = self.noise_multiplier * 2.0**GRID_BITS
        per_loss = LARGEST_RELEASE / (40 * scale * scale)
        return min(1.0, per_loss * (1 + math.exp(min(self.epsilon(), 700.0))))

    def group_epsilon(self, units: int) -> float:
        """ε at `delta` for `units` units that are added or removed together, by PLD.

        What a record-level plan gives a reader with that many records: a step samples a binomial
        number i of them and its sum moves by up to i·C, a mixture of Gaussians whose exact privacy
        loss is composed T times. An upper bound: the loss is rounded up to a grid of `units`/1000.

        Source: Choquette-Choo et al. 2024 (arXiv 2312.09148), section 3; dp_accounting's PLD.

        Raises:
            PlanError: no unit at all.
        """
        if units < 1:
            raise PlanError("units", expected="at least 1", got=units)
        if not self.protected:
            return math.inf
        return group_epsilon_of(
            self.noise_multiplier, self.sampling_rate, self.steps, self.delta, units
        )


def grid_step(sensitivity: float, bits: int = GRID_BITS) -> float:
    """γ: the power of two that is so many binary places below the sensitivity S."""
    return 2.0 ** (math.frexp(sensitivity)[1] - 1 - bits)


def solve_noise(*, epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    """The smallest σ, rounded up to `NOISE_STEP`, whose T steps cost at most `epsilon`.

    Args:
        epsilon: target for the whole run; `math.inf` gives 0 (no noise).
        delta: δ of the statement.
        sampling_rate: q.
        steps: T.

    Raises:
        ContractError: `epsilon` is not positive, or so large that it protects nobody.
    """
    _require(epsilon > 0, "epsilon", '> 0, or "inf" for an unprotected run', epsilon)
    if math.isinf(epsilon):
        return 0.0
    start = smallest_tick(
        lambda sigma: renyi_epsilon(sigma, sampling_rate, steps, delta) / epsilon, start=1.0
    )
    if start > SMALLEST_NOISE_MULTIPLIER:
        start = _least_noise(epsilon, delta, sampling_rate, steps, start=start)
    return useful_noise(start, epsilon=epsilon)


def _least_noise(epsilon: float, delta: float, q: float, steps: int, *, start: float) -> float:
    """The least tick of σ for an ε: near what a grid says that takes a tenth of the time."""

    def spent(sigma: float, grid: float = FINE) -> float:
        return epsilon_of(sigma, q, steps, delta, grid) / epsilon

    near = smallest_tick(lambda sigma: spent(sigma, COARSE), start=start)
    for ticks in (0, 1, -1):
        sigma = round(near + ticks * NOISE_STEP, 6)
        if spent(sigma) <= 1 < spent(round(sigma - NOISE_STEP, 6)):
            return sigma
    return smallest_tick(spent, start=near)


def useful_noise(sigma: float, *, epsilon: float) -> float:
    """The σ that was solved for an ε, unless it protects nobody.

    Raises:
        ContractError: it does not.
    """
    if sigma <= SMALLEST_NOISE_MULTIPLIER:
        raise ContractError(
            "epsilon",
            where="[privacy] epsilon",
            got=epsilon,
            expected=f"an ε that needs noise_multiplier > {SMALLEST_NOISE_MULTIPLIER}",
            advice='such a budget protects nobody; say "inf" if that is meant',
        )
    return sigma


def smallest_tick(spent: Callable[[float], float], *, start: float) -> float:
    """The least multiple of `NOISE_STEP` with spent(σ) <= 1, for a decreasing `spent`.

    Where that is `SMALLEST_NOISE_MULTIPLIER` or less, some value not above it.

    Root finding in log scale needs some eight evaluations where bisection needs fifteen, and one
    PLD evaluation takes half a second.
    """
    from scipy.optimize import brentq

    low, high = start / 1.1, start
    while spent(high) > 1:
        low, high = high, high * 2
    while spent(low) <= 1:
        if low <= SMALLEST_NOISE_MULTIPLIER:
            return low
        low, high = low / 1.25, low
    # Enough noise spends exactly 0, which has no logarithm.
    root = brentq(lambda s: math.log(max(spent(s), 1e-3)), low, high, xtol=NOISE_STEP / 4)
    ticks = math.ceil(root / NOISE_STEP)
    while spent(ticks * NOISE_STEP) > 1:
        ticks += 1
    while spent((ticks - 1) * NOISE_STEP) <= 1:
        ticks -= 1
    return round(ticks * NOISE_STEP, 6)


def _require(holds: bool, key: str, expected: str, got: object) -> None:
    if not holds:
        raise ContractError(key, where=f"[privacy] {key}", expected=expected, got=got)
