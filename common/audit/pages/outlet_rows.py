"""A run's outlets as a page lists them: one by one where they are few, alike ones together else.

A thousand lines tell nothing. Where a run has more than `MOST` outlets, those that paid the
same from as many readers share a line, and of what is left the lines with the largest ε are shown.

Invariants:
    * Every outlet is in a line or in the count of those that are not shown.
    * No line shows less ε than one of its outlets paid.

Example:
    >>> from presspool.common.runs.results import OutletResult
    >>> paid = [OutletResult(name=f"o-{i}", population=9, weight=0.001, epsilon=1.0, delta=1e-5,
    ...                      unit="reader", steps=3) for i in range(1000)]
    >>> [(row.name, row.count) for row in outlet_rows(paid).rows]
    [('1,000 outlets, as o-0', 1000)]
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from presspool.common.runs.results import OutletResult

MOST = 60
"""So many lines of outlets at most."""


@dataclass(frozen=True, kw_only=True)
class OutletRow:
    """One line.

    Attributes:
        name: of the outlet, or how many are alike.
        count: of the outlets in it.
        like: one of them; all have its ε, δ, steps and population.
        weight: of all of them together.
    """

    name: str
    count: int
    like: OutletResult
    weight: float


@dataclass(frozen=True, kw_only=True)
class OutletRows:
    """The lines of a page.

    Attributes:
        rows: those that are shown.
        hidden: outlets that are in none of them.
    """

    rows: tuple[OutletRow, ...]
    hidden: int


def outlet_rows(outlets: Sequence[OutletResult]) -> OutletRows:
    """The lines of a run's outlets."""
    if len(outlets) <= MOST:
        return OutletRows(rows=tuple(_row([one]) for one in outlets), hidden=0)
    alike = defaultdict[tuple[object, ...], list[OutletResult]](list)
    for one in outlets:
        alike[one.epsilon, one.delta, one.steps, one.population].append(one)
    rows = sorted(map(_row, alike.values()), key=lambda row: -_spent(row.like))
    return OutletRows(rows=tuple(rows[:MOST]), hidden=sum(row.count for row in rows[MOST:]))


def _row(outlets: Sequence[OutletResult]) -> OutletRow:
    first, count = outlets[0], len(outlets)
    return OutletRow(
        name=first.name if count == 1 else f"{count:,} outlets, as {first.name}",
        count=count,
        like=first,
        weight=math.fsum(one.weight for one in outlets),
    )


def _spent(outlet: OutletResult) -> float:
    return math.inf if outlet.epsilon is None else outlet.epsilon
