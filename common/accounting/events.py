"""Privacy events as data: exactly what a run did to its readers, and what that costs.

What is charged is the serialised event of the code that runs, never a few numbers beside it. The
grammar is small on purpose: a Gaussian, Poisson-sampled or not, repeated, and phases of those one
after the other. Everything in it can be priced here and by `dp_accounting`; what cannot be priced
(a mixture of Gaussians, an unprotected run) cannot be written down, and so cannot be reserved.

Invariants:
    * `from_dp(to_dp(e)) == e`, and JSON gives back the same floats.
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
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

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
        noise_multiplier: σ.
    """

    type: Literal["gaussian"] = "gaussian"
    noise_multiplier: Annotated[float, Field(ge=1e-3, le=1e6)]


class PoissonSampled(_Event):
    """A Gaussian over units that are each in the sample with chance q, independently.

    Attributes:
        rate: q.
    """

    type: Literal["poisson_sampled"] = "poisson_sampled"
    rate: Annotated[float, Field(ge=1e-12, le=1)]
    event: Gaussian


class SelfComposed(_Event):
    """One step, repeated.

    Attributes:
        count: T, the number of steps.
    """

    type: Literal["self_composed"] = "self_composed"
    event: Annotated[Gaussian | PoissonSampled, Field(discriminator="type")]
    count: Annotated[int, Field(ge=1, le=MOST_STEPS)]

    @property
    def steps(self) -> int:
        """How many steps this event has."""
        return self.count

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


def renyi(event: SelfComposed | Composed, *, order: int) -> float:
    """ε(α) in nats: the Rényi divergence bound of the event at this order, add/remove one."""
    phases = event.events if isinstance(event, Composed) else (event,)
    return math.fsum(phase.count * _step(phase, order) for phase in phases)


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


def _step(phase: SelfComposed, order: int) -> float:
    inner = phase.event
    if isinstance(inner, Gaussian):
        return sampled_gaussian(1.0, inner.noise_multiplier, order)
    return sampled_gaussian(inner.rate, inner.event.noise_multiplier, order)


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
            return _build(Composed, events=tuple(phases))
    elif isinstance(event, dp.SelfComposedDpEvent):
        return _build(SelfComposed, event=_step_from_dp(event.event), count=event.count)
    raise _unpriceable(event)


def to_dp(event: SelfComposed | Composed) -> dp_accounting.DpEvent:
    """The same event as `dp_accounting` knows it."""
    import dp_accounting as dp

    if isinstance(event, Composed):
        return dp.ComposedDpEvent([to_dp(phase) for phase in event.events])
    step = event.event
    if isinstance(step, Gaussian):
        return dp.SelfComposedDpEvent(dp.GaussianDpEvent(step.noise_multiplier), event.count)
    gaussian = dp.GaussianDpEvent(step.event.noise_multiplier)
    return dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(step.rate, gaussian), event.count)


def _step_from_dp(event: dp_accounting.DpEvent) -> Gaussian | PoissonSampled:
    import dp_accounting as dp

    if isinstance(event, dp.PoissonSampledDpEvent) and isinstance(event.event, dp.GaussianDpEvent):
        inner = _build(Gaussian, noise_multiplier=float(event.event.noise_multiplier))
        return _build(PoissonSampled, rate=float(event.sampling_probability), event=inner)
    if isinstance(event, dp.GaussianDpEvent):
        return _build(Gaussian, noise_multiplier=float(event.noise_multiplier))
    raise _unpriceable(event)


def _build(kind: type[E], **parts: Any) -> E:
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


def log_sum(terms: Sequence[float]) -> float:
    """Ln Σ exp(term), without overflow; at least one term."""
    largest = max(terms)
    return largest + math.log(math.fsum(math.exp(term - largest) for term in terms))


def log_expm1(x: float) -> float:
    """ln(eˣ − 1) for x > 0, without overflow."""
    return x + math.log1p(-math.exp(-x)) if x > 1 else math.log(math.expm1(x))


def log1p_exp(x: float) -> float:
    """ln(1 + eˣ), without overflow."""
    return x + math.log1p(math.exp(-x)) if x > 0 else math.log1p(math.exp(x))
