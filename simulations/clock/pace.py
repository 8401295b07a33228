"""How long an outlet takes for a task: its steps, and its bytes down and up.

Invariant: an outlet is as fast in every round; how fast is drawn from the clock's seed by its name.

Example:
    >>> from presspool.simulations.clock.presence import ALWAYS
    >>> slow = Pace(presence=ALWAYS, seconds=90.0)
    >>> slow.ends(10.0)
    100.0
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from presspool.common.contract.contract import Contract
from presspool.common.models.models import group_sizes
from presspool.common.runs.clock_table import ClockTable
from presspool.simulations.clock.draws import factor, uniform
from presspool.simulations.clock.presence import Presence, presences

_MEGABYTE, _FLOAT_BYTES = 1e6, 4


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How an outlet works.

    Attributes:
        presence: its hours.
        seconds: of a task, as long as it is there.
    """

    presence: Presence
    seconds: float

    def begins(self, at: float) -> float:
        """When it takes up a task that lies there at this moment."""
        return self.presence.there(at)

    def ends(self, begun: float) -> float:
        """When the answer to a task that it took up is there."""
        return self.presence.after(begun, self.seconds)


def paces(
    contract: Contract, table: ClockTable, *, known: Collection[str] = ()
) -> Mapping[str, Pace]:
    """Each outlet's pace in a run, by the contract's order.

    Args:
        contract: the run's.
        table: the clock's.
        known: further outlets that a trace may have.

    Raises:
        DataError: a trace that cannot be read, or is not of these outlets.
    """
    numbers = sum(group_sizes(contract).values())
    moved = numbers * (_FLOAT_BYTES + np.dtype(contract.trust.dtype(contract)).itemsize)
    hours = presences(table, list(contract.outlets), known=known)

    def seconds(outlet: str) -> float:
        slower = factor(table.speeds, uniform(table.seed, "speed", outlet))
        thinner = factor(table.links, uniform(table.seed, "link", outlet))
        link = moved * thinner / (table.link_megabytes * _MEGABYTE)
        return contract.federation.local_steps * table.step_seconds * slower + link

    return {name: Pace(presence=hours[name], seconds=seconds(name)) for name in contract.outlets}


def fails(table: ClockTable, outlet: str, number: int, attempt: int) -> bool:
    """Whether an outlet's task of a round never comes back, at its so many-th attempt."""
    return uniform(table.seed, "failure", outlet, number, attempt) < table.failures
