"""Public opinion over time: shares of labels in periods, each with how far it may be off.

Either from released predictions, whose texts are a sample (Wilson's interval), or from counts of
readers with noise of a known size (the interval of the noise alone, by the delta method).

Invariants:
    * Periods follow each other without a gap; each day is in one of them or in none.
    * Where the noise may be a large part of a period's total, no share is given.

Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.

Example:
    >>> periods = Periods(first=date(2026, 1, 1), count=3, by="month")
    >>> [periods.index(date(2026, 3, 31)), periods.index(date(2026, 4, 1))]
    [2, None]
    >>> of_predictions([(date(2026, 1, 5), "good")] * 8 + [(date(2026, 1, 6), "bad")] * 2,
    ...                labels=("good", "bad"), periods=periods)[0].shares[0].text
    '80.0% (49.0% to 94.3%)'
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Literal

from presspool.common.base.numbers import percent
from presspool.common.released.share_drift import (
    ShareDrift,
    drift_of_counts,
    drift_of_samples,
)

Z = 1.959964  # 95 %
CLEAR = 5.0  # standard deviations of noise that a period's total must have
By = Literal["day", "week", "month"]


@dataclass(frozen=True)
class Periods:
    """Some periods of equal kind.

    Attributes:
        first: the first day of the first.
        count: how many.
        by: what one is; a month begins on the first's day of the month, 28 at most.
    """

    first: date
    count: int
    by: By

    @cached_property
    def edges(self) -> tuple[date, ...]:
        """The first day of each, and the day after the last."""
        return tuple(self._start(number) for number in range(self.count + 1))

    def index(self, day: date) -> int | None:
        """Which period a day is in."""
        found = bisect_right(self.edges, day) - 1
        return found if 0 <= found < self.count else None

    def _start(self, number: int) -> date:
        if self.by != "month":
            return self.first + timedelta(days=number * (7 if self.by == "week" else 1))
        months = self.first.year * 12 + self.first.month - 1 + number
        return self.first.replace(year=months // 12, month=months % 12 + 1)


@dataclass(frozen=True, kw_only=True)
class ShareEstimate:
    """A share and its 95 % interval, all in [0, 1]."""

    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """For people."""
        return f"{percent(self.value)} ({percent(self.low)} to {percent(self.high)})"


@dataclass(frozen=True, kw_only=True)
class OpinionPeriod:
    """One period.

    Attributes:
        start: its first day.
        total: texts or readers in it; of noised counts their sum, which may be below 0.
        shares: of each label; None where too little is known.
        moved: how far they lie from those of the first period of which enough is known; None there
            and where too little is known.
    """

    start: date
    total: int
    shares: tuple[ShareEstimate | None, ...]
    moved: ShareDrift | None = None


def of_predictions(
    rows: Iterable[tuple[date, str]], *, labels: Sequence[str], periods: Periods
) -> list[OpinionPeriod]:
    """A series from dated labels; what lies in no period is left out."""
    counts = Counter((periods.index(day), label) for day, label in rows)
    cells = [[counts[place, label] for label in labels] for place in range(periods.count)]
    return _series(
        cells,
        periods,
        lambda cell, row: wilson(cell, sum(row)) if sum(row) else None,
        drift_of_samples,
    )


def of_counts(
    counts: Sequence[Sequence[int]], *, sigma: float, periods: Periods
) -> list[OpinionPeriod]:
    """A series from counts that noise of standard deviation `sigma` was added to.

    Args:
        counts: (periods, labels).
        sigma: of each count's noise.
        periods: as many as rows.
    """
    return _series(
        counts,
        periods,
        lambda cell, row: noised_share(cell, row, sigma),
        lambda row, first: drift_of_counts(row, first, sigma=sigma),
    )


def _series(
    counts: Sequence[Sequence[int]],
    periods: Periods,
    share: Callable[[int, Sequence[int]], ShareEstimate | None],
    drift: Callable[[Sequence[int], Sequence[int]], ShareDrift],
) -> list[OpinionPeriod]:
    made = list[OpinionPeriod]()
    first: Sequence[int] | None = None
    for start, row in zip(periods.edges[:-1], counts, strict=True):
        shares = tuple(share(cell, row) for cell in row)
        known = bool(shares) and None not in shares
        moved = drift(row, first) if known and first is not None else None
        first = row if known and first is None else first
        made.append(OpinionPeriod(start=start, total=sum(row), shares=shares, moved=moved))
    return made


def wilson(hits: int, total: int) -> ShareEstimate:
    """The share of hits in a sample."""
    share, z = hits / total, Z * Z / total
    middle = (share + z / 2) / (1 + z)
    half = Z * math.sqrt(share * (1 - share) / total + z / (4 * total)) / (1 + z)
    return ShareEstimate(value=share, low=max(0.0, middle - half), high=min(1.0, middle + half))


def noised_share(cell: int, row: Sequence[int], sigma: float) -> ShareEstimate | None:
    """The share of one noised count in its row; None where noise may make up the row.

    With p = x/t and independent noise of variance σ² on each of L counts, to first order
    Var p = σ²((1−p)² + (L−1)p²)/t².
    """
    total = sum(row)
    if total < CLEAR * sigma * math.sqrt(len(row)):
        return None
    share = cell / total
    spread = math.sqrt((1 - share) ** 2 + (len(row) - 1) * share**2)
    half = Z * sigma * spread / total
    value, low, high = (min(1.0, max(0.0, s)) for s in (share, share - half, share + half))
    return ShareEstimate(value=value, low=low, high=high)
