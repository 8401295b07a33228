"""The fixed-order Rényi filter: which runs an outlet's lifetime budget admits.

Runs are chosen after seeing what earlier ones gave, so their costs cannot be added as (ε, δ) of
runs fixed beforehand. At one order α, fixed when the ledger is created, the Rényi costs may be
added adaptively: as long as Σ ε_t(α) stays under the capacity, everything ever released is
(ε_max, δ)-DP. The claim is ε_max itself, never a running ε.

Invariants:
    * A cap without positive capacity is refused, with the orders that would have worked.
    * Periods and data sets have caps inside the outlet's, never budgets of their own.
    * All is counted in whole `events.UNIT`s; capacities are rounded down, charges up.

Source: Feldman & Zrnic, "Individual Privacy Accounting via a Rényi Filter", NeurIPS 2021, section
4 (adaptive composition under a fixed bound); Canonne, Kamath & Steinke, "The Discrete Gaussian for
Differential Privacy", NeurIPS 2020, proposition 12 (from Rényi to (ε, δ)).

Example:
    >>> job = events.SelfComposed(count=200, event=events.PoissonSampled(
    ...     rate=0.02, event=events.Gaussian(noise_multiplier=1.2)))
    >>> room = units(epsilon=8.0, delta=1e-5, order=4)
    >>> room // events.charge(job, order=4)
    29
    >>> propose([job] * 29, delta=1e-5).order
    4
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from presspool.common.accounting import events
from presspool.common.base.errors import LedgerError

PORTFOLIO = (2, 3, 4, 6, 8, 12, 16, 32, 64)
"""The orders that a ledger may be created with."""
USUAL_EPSILON, USUAL_DELTA, USUAL_ORDER = 8.0, 1e-5, 6
"""What `presspool outlet budget init` makes a ledger with, unless its operator says otherwise."""


def capacity(*, epsilon: float, delta: float, order: int) -> float:
    """How much Rényi divergence (nats, at `order`) an (ε, δ) cap leaves room for.

    ε − ln(1 − 1/α) + (ln δ + ln α)/(α − 1). Not positive where the cap has no room at all.
    """
    return epsilon - _conversion(delta, order)


def epsilon_of(spent: float, *, delta: float, order: int) -> float:
    """The ε that a Rényi divergence of `spent` nats at `order` implies; inverse of `capacity`."""
    return max(0.0, spent + _conversion(delta, order))


def units(*, epsilon: float, delta: float, order: int) -> int:
    """`capacity` in whole `events.UNIT`s, rounded down, at most `events.LARGEST_CHARGE`.

    Raises:
        LedgerError: no capacity; names the orders that would work.
    """
    room = capacity(epsilon=epsilon, delta=delta, order=order)
    found = min(math.floor(math.ldexp(room, events.UNIT_BITS)) - 1, events.LARGEST_CHARGE)
    if found > 0:
        return found
    work = [str(a) for a in PORTFOLIO if capacity(epsilon=epsilon, delta=delta, order=a) > 0]
    raise LedgerError(
        "a cap without capacity",
        got=f"ε = {epsilon:g}, δ = {delta:g} at order {order}",
        expected=f"ε above {_conversion(delta, order):.3f} at this order",
        advice=f"orders that work for this ε: {', '.join(work)}"
        if work
        else "raise ε: no order works for it",
    )


@dataclass(frozen=True, kw_only=True)
class Caps:
    """The outlet's caps, each an ε at the ledger's δ and order.

    Attributes:
        epsilon_max: for everything the outlet ever trains on.
        period: for any one period; None for no cap of its own.
        dataset: for any one data set; None for no cap of its own.

    Raises:
        LedgerError: a sub-cap above `epsilon_max`, or a cap that is not a positive number.
    """

    epsilon_max: float
    period: float | None = None
    dataset: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("epsilon_max", self.epsilon_max), *self._parts()):
            if not 0 < value <= self.epsilon_max < math.inf:
                raise LedgerError(
                    f"cap {name}", expected="0 < ε <= epsilon_max, and finite", got=value
                )

    def check(self, *, delta: float, order: int) -> None:
        """Raise `LedgerError` unless every cap has capacity."""
        for value in (self.epsilon_max, *(v for _, v in self._parts())):
            units(epsilon=value, delta=delta, order=order)

    def highest(self, other: Caps) -> Caps:
        """The weaker of both in every part: what may be claimed after both were in force."""
        return Caps(
            epsilon_max=max(self.epsilon_max, other.epsilon_max),
            period=_weaker(self.period, other.period),
            dataset=_weaker(self.dataset, other.dataset),
        )

    def _parts(self) -> list[tuple[str, float]]:
        named = (("period", self.period), ("dataset", self.dataset))
        return [(name, value) for name, value in named if value is not None]


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """An order and the smallest ε_max that holds the runs expected.

    Attributes:
        order: α.
        epsilon: ε_max, rounded up to `step`.
        table: for each order of the portfolio, the ε_max it would need.
    """

    order: int
    epsilon: float
    table: dict[int, float]


def propose(
    expected: Sequence[events.SelfComposed | events.Composed], *, delta: float, step: float = 0.1
) -> Proposal:
    """The order at which the runs expected need the smallest ε_max.

    Args:
        expected: the runs that the outlet expects in the ledger's lifetime, at least one.
        delta: δ of the ledger.
        step: ε_max is rounded up to a multiple of this.
    """
    if not expected:
        raise LedgerError("plan", expected="at least one expected run", got="none")
    # Two units above the sum: `units` rounds a capacity down by at most that much.
    table = {
        order: epsilon_of(
            (sum(events.charge(e, order=order) for e in expected) + 2) * events.UNIT,
            delta=delta,
            order=order,
        )
        for order in PORTFOLIO
    }
    order = min(table, key=table.__getitem__)
    epsilon = max(1, math.ceil(table[order] / step)) * step
    return Proposal(order=order, epsilon=round(epsilon, 9), table=table)


def _conversion(delta: float, order: int) -> float:
    """ln(1 − 1/α) − (ln δ + ln α)/(α − 1): what ε costs beyond the Rényi divergence."""
    return math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)


def _weaker(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(one, other)
