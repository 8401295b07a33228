"""When outlets are there: hours that come again, from a trace or by a pattern.

An outlet that leaves in the middle of its work goes on with it when it is back.

Invariants:
    * Hours are public: a trace's, or drawn from the clock's seed by the outlet's name.
    * Every outlet is there sometimes, so that nobody waits for ever.

Example:
    >>> night = Presence(period=24 * HOUR, spans=((20 * HOUR, 24 * HOUR),))
    >>> night.there(0.0) / HOUR, night.after(0.0, 5 * HOUR) / HOUR
    (20.0, 45.0)
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from presspool.common.base.errors import DataError
from presspool.common.data.tables import read_table
from presspool.common.runs.clock_table import ClockTable
from presspool.simulations.clock.draws import uniform

HOUR = 3600.0
DAY = 24 * HOUR
_LONGEST = 366 * 24  # hours of a trace
# Pattern to the hours of a day, which each outlet begins up to two hours earlier or later.
_HOURS = {"nights": (20.0, 10.0), "offices": (9.0, 9.0)}
_SHIFT = 2.0

Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Presence:
    """An outlet's hours.

    Attributes:
        period: seconds after which they come again.
        spans: from and until, in seconds of a period, in order and apart.
    """

    period: float
    spans: tuple[Span, ...]

    def there(self, at: float) -> float:
        """The first moment, at or after this one, at which it is there."""
        return next(begin for begin, _ in self._from(at))

    def after(self, at: float, seconds: float) -> float:
        """The first moment by which it has been there for so long since `at`."""
        each = sum(until - begin for begin, until in self.spans)
        whole = max(0, math.ceil(seconds / each) - 1)  # the last period's hours are walked through
        left = seconds - whole * each
        for begin, until in self._from(at + whole * self.period):
            if left <= until - begin:
                return begin + left
            left -= until - begin
        raise AssertionError("hours come again")

    def _from(self, at: float) -> Iterable[Span]:
        """Its spans from a moment on, the first cut there."""
        start = at // self.period * self.period
        while True:
            for begin, until in self.spans:
                if start + until > at:
                    yield max(start + begin, at), start + until
            start += self.period


ALWAYS = Presence(period=DAY, spans=((0.0, DAY),))


def presences(
    table: ClockTable, outlets: Sequence[str], *, known: Collection[str] = ()
) -> Mapping[str, Presence]:
    """The hours of each outlet.

    Args:
        table: the clock's.
        outlets: all of the run's.
        known: further ones that a trace may have.

    Raises:
        DataError: a trace that cannot be read, or that leaves an outlet out or knows another.
    """
    if table.trace is not None:
        return _traced(table.trace, outlets, {*outlets, *known})
    if table.pattern == "always":
        return dict.fromkeys(outlets, ALWAYS)
    first, hours = _HOURS[table.pattern]
    return {name: _daily(first + _shift(table.seed, name), hours) for name in outlets}


def _shift(seed: int, outlet: str) -> float:
    return _SHIFT * (2 * uniform(seed, "hours", outlet) - 1)


def _daily(first: float, hours: float) -> Presence:
    """So many hours from one hour on, each day, also over midnight."""
    begin, until = first * HOUR, (first + hours) * HOUR
    spans = [(begin, min(until, DAY))] + ([(0.0, until - DAY)] if until > DAY else [])
    return Presence(period=DAY, spans=_joined(spans))


def _traced(path: Path, outlets: Sequence[str], known: Collection[str]) -> Mapping[str, Presence]:
    rows = read_table(path, {"outlet": "outlet", "from": "from", "until": "until"}).to_pylist()
    spans = defaultdict[str, list[Span]](list)
    for number, row in enumerate(rows, start=1):
        outlet, span = _line(row, known, f"{path}, record {number}")
        spans[outlet].append(span)
    if missing := [name for name in outlets if name not in spans]:
        raise DataError(
            "an outlet that is never there",
            where=str(path),
            expected="a line or more for each outlet",
            got=f"none for {missing[0]}",
            advice="add its hours, or leave it out of the contract",
        )
    period = DAY * math.ceil(max(u for found in spans.values() for _, u in found) / DAY)
    return {name: Presence(period=period, spans=_joined(spans[name])) for name in outlets}


def _line(row: Mapping[str, str], known: Collection[str], where: str) -> tuple[str, Span]:
    if row["outlet"] not in known:
        raise DataError(
            "an outlet that the contract does not list",
            where=where,
            got=row["outlet"],
            advice="call outlets as [outlets] does, or take the line out",
        )
    begin, until = (_hours(row[key], f"{where}, {key}") for key in ("from", "until"))
    if until <= begin:
        raise DataError(
            "hours that end before they begin",
            where=where,
            expected="from < until",
            got=f"from {row['from']} until {row['until']}",
        )
    return row["outlet"], (begin * HOUR, until * HOUR)


def _hours(text: str, where: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0 <= hours <= _LONGEST:
        raise DataError("no hours", where=where, expected=f"0 to {_LONGEST}", got=text)
    return hours


def _joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same hours in order, what touches made one."""
    joined: list[Span] = []
    for begin, until in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], until)
        else:
            joined.append((begin, until))
    return tuple(joined)
