"""Privacy events as data: exactly what a run did to its readers, and what that costs.

What is charged is the serialised event of the code that runs, never a few numbers beside it. The
grammar is small on purpose: a Gaussian, Poisson-sampled or not, repeated, and phases of those one
after the other; and sums of whole numbers whose noise the outlets share. Everything in it can be
priced here and by `dp_accounting`, the last as the real Gaussian that it nearly is; what cannot be
priced (a mixture of Gaussians, an unprotected run) cannot be written down, and so not reserved.

Invariants:
    * `from_dp(to_dp(e)) == e` where nothing is pooled, and JSON gives back the same floats.
    * The Rényi cost is computed without `dp_accounting` (a second opinion) and without torch.
    * Charges are whole multiples of `UNIT` nats, rounded up: sums are exact in any order.

Example:
    >>> step = PoissonSampled(rate=0.02, event=Gaussian(noise_multiplier=1.2))
    >>> run = SelfComposed(event=step, count=200)
    >>> round(renyi(run, order=4), 6), run.first(50).steps
    (0.169225, 50)
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from presspool.common.accounting.lattice import convolution, off_by
from presspool.common.accounting.logs import log1p_exp, log_expm1, log_sum
from presspool.common.base.errors import LedgerError

if TYPE_CHECKING:
    import dp_accounting

E = TypeVar("E", bound=BaseModel)

UNIT_BITS = 40
UNIT = 2.0**-UNIT_BITS
"""The unit of charges, in nats of Rényi divergence: about 1e-12."""
# 8192 nats: far beyond any cap, and a whole number that every JSON reader keeps.
LARGEST_CHARGE = 2**53 - 1
MOST_PHASES = 64
MOST_STEPS = 10**9


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Gaussian(_Event):
    """Noise of standard deviation σ·S on a sum of L2 sensitivity S.

    Attributes:
        noise_multiplier: σ; one of a million shares of a sum has as little as 1e-6.
    """

    type: Literal["gaussian"] = "gaussian"
    noise_multiplier: Annotated[float, Field(ge=1e-6, le=1e6)]


class PoissonSampled(_Event):
    """A Gaussian over units that are each in the sample with chance q, independently.

    Attributes:
        rate: q.
    """

    type: Literal["poisson_sampled"] = "poisson_sampled"
    rate: Annotated[float, Field(ge=1e-12, le=1)]
    event: Gaussian


class PooledSum(_Event):
    """One sum over outlets of Poisson-sampled whole numbers and shares of noise; form 1.

    What hides a unit of one outlet in it: so many discrete Gaussians of s² that nobody else knows,
    (σS)² of variance together. Whoever knows all but the outlet's own share is left with s² of it.

    Attributes:
        rate: q.
        noise_multiplier: σ of what is left of the noise.
        shares: m, shares that are counted on.
        scale: s of one share, in steps of the sum's grid.
        parameters: D, numbers in the sum.

    Source: docs/pooled-privacy.md, propositions 1 to 4.
    """

    type: Literal["pooled_sum_1"] = "pooled_sum_1"
    rate: Annotated[float, Field(ge=1e-12, le=1)]
    noise_multiplier: Annotated[float, Field(ge=1e-3, le=1e6)]
    shares: Annotated[int, Field(ge=1, le=10**6)]
    scale: Annotated[float, Field(ge=0.5, le=2.0**56)]
    parameters: Annotated[int, Field(ge=1, le=2**40)]

    @property
    def continuous(self) -> Gaussian | PoissonSampled:
        """The same step with the real Gaussian that the shares add up to, nearly."""
        return _sampled(self.rate, self.noise_multiplier)

    @property
    def alone(self) -> Gaussian | PoissonSampled:
        """What is left of it against everybody else together: the outlet's own share, exactly."""
        return _sampled(self.rate, self.noise_multiplier / math.sqrt(self.shares))


Step = Gaussian | PoissonSampled | PooledSum


class SelfComposed(_Event):
    """One step, repeated.

    Attributes:
        count: T, the number of steps.
    """

    type: Literal["self_composed"] = "self_composed"
    event: Annotated[Step, Field(discriminator="type")]
    count: Annotated[int, Field(ge=1, le=MOST_STEPS)]

    @property
    def steps(self) -> int:
        """How many steps this event has."""
        return self.count

    @property
    def continuous(self) -> Gaussian | PoissonSampled:
        """The step, with a real Gaussian in a pooled sum's place."""
        return self.event.continuous if isinstance(self.event, PooledSum) else self.event

    def first(self, steps: int) -> SelfComposed:
        """The event of the first `steps` steps.

        Raises:
            LedgerError: none, or more than there are.
        """
        _in_range(steps, self.steps)
        return SelfComposed(event=self.event, count=steps)

    def after(self, steps: int) -> SelfComposed:
        """The event of what follows the first `steps` steps; 0 for all of it.

        Raises:
            LedgerError: nothing follows them.
        """
        return self.first(self.steps - steps)


class Composed(_Event):
    """Phases, one after the other (a warm-up with other noise, say)."""

    type: Literal["composed"] = "composed"
    events: Annotated[tuple[SelfComposed, ...], Field(min_length=1, max_length=MOST_PHASES)]

    @property
    def steps(self) -> int:
        """How many steps all phases have together."""
        return sum(phase.count for phase in self.events)

    def first(self, steps: int) -> Composed:
        """The event of the first `steps` steps, phases in their order.

        Raises:
            LedgerError: none, or more than there are.
        """
        _in_range(steps, self.steps)
        kept: list[SelfComposed] = []
        for phase in self.events:
            if steps > 0:
                kept.append(phase.first(min(steps, phase.count)))
                steps -= phase.count
        return Composed(events=tuple(kept))

    def after(self, steps: int) -> Composed:
        """The event of what follows the first `steps` steps, phases in their order; 0 for all.

        Raises:
            LedgerError: nothing follows them.
        """
        _in_range(self.steps - steps, self.steps)
        left: list[SelfComposed] = []
        for phase in self.events:
            if steps < phase.count:
                left.append(phase.after(max(0, steps)))
            steps -= phase.count
        return Composed(events=tuple(left))


Event = Annotated[SelfComposed | Composed, Field(discriminator="type")]


def phases_of(event: SelfComposed | Composed) -> tuple[SelfComposed, ...]:
    """The phases of an event, in their order."""
    return event.events if isinstance(event, Composed) else (event,)


def renyi(event: SelfComposed | Composed, *, order: int) -> float:
    """ε(α) in nats: the Rényi divergence bound of the event at this order, add/remove one."""
    return math.fsum(phase.count * _step(phase, order) for phase in phases_of(event))


@lru_cache(maxsize=4096)
def charge(event: SelfComposed | Composed, *, order: int) -> int:
    """`renyi` in whole `UNIT`s, rounded up and one more for the rounding of our own arithmetic.

    Raises:
        LedgerError: a cost above `LARGEST_CHARGE`.
    """
    units = math.ldexp(renyi(event, order=order), UNIT_BITS)
    if not units < LARGEST_CHARGE:
        raise LedgerError(
            "privacy event",
            expected="a cost that some budget could pay",
            got=f"more than {LARGEST_CHARGE * UNIT:.0f} nats at order {order}",
            advice="use more noise, fewer steps or a smaller sampling rate",
        )
    return math.ceil(units) + 1


def alone(event: SelfComposed | Composed) -> SelfComposed | Composed | None:
    """What an event is if everybody else works together; None where nothing in it is pooled."""
    phases = phases_of(event)
    left = tuple(
        SelfComposed(event=phase.event.alone, count=phase.count)
        if isinstance(phase.event, PooledSum)
        else phase
        for phase in phases
    )
    if left == phases:
        return None
    return Composed(events=left) if isinstance(event, Composed) else left[0]


def charge_alone(event: SelfComposed | Composed, *, order: int) -> int | None:
    """The charge of `alone`, at most `LARGEST_CHARGE`; None where nothing is pooled."""
    if (left := alone(event)) is None:
        return None
    units = math.ldexp(renyi(left, order=order), UNIT_BITS)
    return math.ceil(min(units, LARGEST_CHARGE - 1)) + 1


def beyond_gaussian(step: Step, order: int) -> float:
    """What a step costs beyond the real Gaussian, in nats: 0 but for a sum of shares."""
    if not isinstance(step, PooledSum):
        return 0.0
    return off_by(step.parameters * convolution(shares=step.shares, scale=step.scale), order)


def _step(phase: SelfComposed, order: int) -> float:
    step = phase.continuous
    rate, noise = (1.0, step) if isinstance(step, Gaussian) else (step.rate, step.event)
    cost = sampled_gaussian(rate, noise.noise_multiplier, order)
    return cost + beyond_gaussian(phase.event, order)


def _sampled(rate: float, sigma: float) -> Gaussian | PoissonSampled:
    gaussian = Gaussian(noise_multiplier=sigma)
    return gaussian if rate == 1 else PoissonSampled(rate=rate, event=gaussian)


def sampled_gaussian(q: float, sigma: float, order: int) -> float:
    """ε(α) of one Poisson-sampled Gaussian step, in nats.

    For whole α: (α−1) ε(α) = ln Σᵢ C(α,i) (1−q)^(α−i) qⁱ exp((i²−i)/(2σ²)). The terms of i = 0
    and 1 have exponent 0, so the sum is 1 + Σᵢ≥₂ C(α,i) (1−q)^(α−i) qⁱ (exp((i²−i)/(2σ²)) − 1):
    all positive, nothing cancels, and tiny costs keep all their digits.

    Args:
        q: sampling rate; 1 is the plain Gaussian, α/(2σ²).
        sigma: noise multiplier.
        order: α, whole, >= 2.

    Source: Mironov, Talwar & Zhang, "Rényi Differential Privacy of the Sampled Gaussian
    Mechanism", 2019, sections 3.1 and 3.3; Mironov 2017, proposition 7, for q = 1.
    """
    if q == 1:
        return order / (2 * sigma**2)
    terms = [
        math.log(math.comb(order, i))
        + i * math.log(q)
        + (order - i) * math.log1p(-q)
        + log_expm1((i * i - i) / (2 * sigma**2))
        for i in range(2, order + 1)
    ]
    return log1p_exp(log_sum(terms)) / (order - 1)


def from_dp(event: dp_accounting.DpEvent) -> SelfComposed | Composed:
    """The serialisable form of a `dp_accounting` event.

    Raises:
        LedgerError: an event that this ledger cannot price.
    """
    import dp_accounting as dp

    if isinstance(event, dp.ComposedDpEvent):
        phases = [from_dp(part) for part in event.events]
        if phases and all(isinstance(p, SelfComposed) for p in phases):
            return build(Composed, events=tuple(phases))
    elif isinstance(event, dp.SelfComposedDpEvent):
        return build(SelfComposed, event=_step_from_dp(event.event), count=event.count)
    raise _unpriceable(event)


def to_dp(event: SelfComposed | Composed) -> dp_accounting.DpEvent:
    """The same event as `dp_accounting` knows it; of a sum of shares, with the real Gaussian."""
    import dp_accounting as dp

    if isinstance(event, Composed):
        return dp.ComposedDpEvent([to_dp(phase) for phase in event.events])
    step = event.continuous
    if isinstance(step, Gaussian):
        return dp.SelfComposedDpEvent(dp.GaussianDpEvent(step.noise_multiplier), event.count)
    gaussian = dp.GaussianDpEvent(step.event.noise_multiplier)
    return dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(step.rate, gaussian), event.count)


def _step_from_dp(event: dp_accounting.DpEvent) -> Gaussian | PoissonSampled:
    import dp_accounting as dp

    if isinstance(event, dp.PoissonSampledDpEvent) and isinstance(event.event, dp.GaussianDpEvent):
        inner = build(Gaussian, noise_multiplier=float(event.event.noise_multiplier))
        return build(PoissonSampled, rate=float(event.sampling_probability), event=inner)
    if isinstance(event, dp.GaussianDpEvent):
        return build(Gaussian, noise_multiplier=float(event.noise_multiplier))
    raise _unpriceable(event)


def build(kind: type[E], **parts: Any) -> E:
    """An event of this kind; raises `LedgerError` for one that no ledger can price."""
    try:
        return kind(**parts)
    except ValueError as error:  # pydantic's own is one
        raise LedgerError("privacy event", got=str(error)) from None


def _unpriceable(event: object) -> LedgerError:
    return LedgerError(
        "privacy event",
        expected="Gaussian steps, Poisson-sampled or not, repeated, in phases",
        got=type(event).__name__,
        advice="such a run is refused until its Rényi cost can be computed and tested",
    )


def _in_range(steps: int, most: int) -> None:
    if not 1 <= steps <= most:
        raise LedgerError("steps", expected=f"1 to {most}", got=steps)
