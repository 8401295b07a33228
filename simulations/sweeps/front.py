"""A sweep's points, each as the mean over its seeds, and which of them no other point beats.

Invariants:
    * A point is on the front if no other one has at least as good a metric for at most its ε and
      its bytes, and one of the three strictly better (Pareto).
    * Only points all of whose trials are complete are compared.

Example: `front(tried(rows, metric), metric)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import fmean

from presspool.common.runs.shown_metrics import merit
from presspool.common.tasks.metric import Metric
from presspool.simulations.sweeps.points import Point
from presspool.simulations.sweeps.trial_table import TrialRow


@dataclass(frozen=True, kw_only=True)
class TriedPoint:
    """A point, of which all trials are complete.

    Attributes:
        number: the point's.
        values: what was swept.
        figure: the metric, mean over its trials.
        worst: least good of its trials.
        best: best of them.
        epsilon: the largest of its trials'; infinite where one was not protected.
        bytes_moved: mean, up and down.
        trials: how many there are.
    """

    number: int
    values: Point
    figure: float
    worst: float
    best: float
    epsilon: float
    bytes_moved: float
    trials: int


def tried(rows: Sequence[TrialRow], metric: Metric, *, seeds: int) -> list[TriedPoint]:
    """The points that can be compared, the best first.

    Args:
        rows: of the trials.
        metric: by which they are judged.
        seeds: trials of a point.
    """
    found = []
    for number in dict.fromkeys(row.point for row in rows):
        mine = [row for row in rows if row.point == number and row.state == "complete"]
        known = [value for row in mine if (value := row.metrics.get(metric.name)) is not None]
        if len(known) == seeds:
            found.append(_point(number, mine, sorted(known, key=lambda v: merit(metric, v))))
    return sorted(found, key=lambda point: merit(metric, point.figure), reverse=True)


def _point(number: int, rows: Sequence[TrialRow], figures: Sequence[float]) -> TriedPoint:
    return TriedPoint(
        number=number,
        values=rows[0].values,
        figure=fmean(figures),
        worst=figures[0],
        best=figures[-1],
        epsilon=max(math.inf if row.epsilon is None else row.epsilon for row in rows),
        bytes_moved=fmean(row.bytes_moved for row in rows),
        trials=len(rows),
    )


def leader(points: Sequence[TriedPoint]) -> TriedPoint | None:
    """The best point that has an ε; where none has, the best one; None where there is none.

    Args:
        points: the best first.
    """
    private = [point for point in points if math.isfinite(point.epsilon)]
    return next(iter([*private, *points]), None)


def front(points: Sequence[TriedPoint], metric: Metric) -> list[TriedPoint]:
    """The points that no other beats in metric, ε and bytes at once."""
    return [one for one in points if not any(_beats(other, one, metric) for other in points)]


def _beats(one: TriedPoint, other: TriedPoint, metric: Metric) -> bool:
    mine, theirs = _goods(one, metric), _goods(other, metric)
    return mine != theirs and all(a >= b for a, b in zip(mine, theirs, strict=True))


def _goods(point: TriedPoint, metric: Metric) -> tuple[float, float, float]:
    """More is better in each."""
    return merit(metric, point.figure), -point.epsilon, -point.bytes_moved


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What all trials together would cost the readers of one outlet.

    Attributes:
        epsilon: the sum over protected trials, pruned and failed ones as well.
        delta: the same.
        paid: how many trials that is of.
        unprotected: trials that trained without noise, for which no bound holds.
    """

    epsilon: Decimal
    delta: Decimal
    paid: int
    unprotected: int


def bill(rows: Sequence[TrialRow]) -> Bill:
    """Basic composition: ε and δ add up (Dwork & Roth 2014, theorem 3.16); exact, never rounded."""
    known = [row for row in rows if row.epsilon is not None]
    paid = [row for row in known if math.isfinite(row.epsilon or 0.0) and row.delta is not None]
    return Bill(
        epsilon=sum((Decimal(repr(row.epsilon)) for row in paid), Decimal()),
        delta=sum((Decimal(repr(row.delta)) for row in paid), Decimal()),
        paid=len(paid),
        unprotected=len(known) - len(paid),
    )
