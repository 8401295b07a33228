"""Public opinion over time as one HTML page: a chart for each label, and all figures in a table.

Invariants:
    * A share never stands without its interval; where too little is known the page says so.
    * What the interval is of, and what was paid for, stands above the figures.

Example:
    >>> from presspool.common.released.opinion_series import Periods, of_counts
    >>> view = OpinionView(title="mood", labels=("bad", "good"), what="readers",
    ...     series=of_counts([[40, 60]], sigma=1.0, periods=Periods(date(2026, 1, 1), 1, "day")),
    ...     statement="Noised.", interval="of the noise")
    >>> "60.0%" in render_opinion(view), "<script" in render_opinion(view)
    (True, False)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby

from presspool.common.audit.pages import charts
from presspool.common.audit.pages.charts import Axis, Between, Drawing, Tick
from presspool.common.audit.pages.panels import Chart, Panel
from presspool.common.audit.pages.run_report import environment
from presspool.common.base.numbers import percent_tick
from presspool.common.released.opinion_series import OpinionPeriod

MOST_CHARTS = 8  # labels that are drawn; the table has all
_LONG = "{0.day} {0:%b %Y}"


@dataclass(frozen=True, kw_only=True)
class OpinionView:
    """What the page shows.

    Attributes:
        title: of the series.
        labels: in the order of each period's shares.
        series: the periods.
        what: what is counted: "readers" or "texts".
        statement: what was promised, or that nothing was spent.
        interval: what the intervals are of.
    """

    title: str
    labels: Sequence[str]
    series: Sequence[OpinionPeriod]
    what: str
    statement: str
    interval: str


def render_opinion(view: OpinionView) -> str:
    """The whole page."""
    shown = range(min(len(view.labels), MOST_CHARTS))
    return _PAGE.render(view=view, panels=[(view.labels[i], _panel(view, i)) for i in shown])


def _panel(view: OpinionView, place: int) -> Panel:
    label = view.labels[place]
    known = [(period.start, share) for period in view.series if (share := period.shares[place])]
    if not known:
        return Panel(sentence=f"Too little is known of “{label}” in every period.")
    (begun, first), (ended, last) = known[0], known[-1]
    sentence = f"“{label}”: {first.text} from {begun} on"
    if begun != ended:
        sentence += f", {last.text} from {ended} on"
    if missing := len(view.series) - len(known):
        sentence += f". Too little is known of {missing} of {len(view.series)} periods"

    def draw(width: int) -> Drawing:
        x = _axis([period.start for period in view.series], 8 if width > charts.NARROW else 4)
        top = max(share.high for _, share in known)
        y = charts.nice_axis(
            0, top, count=5, label=percent_tick, title=f"share of {view.what}: {label}"
        )
        return charts.band_chart(_runs(view.series, place), x=x, y=y, width=width)

    chart = Chart(
        alt=f"Line chart with a band. {sentence}.",
        wide=draw(charts.WIDE),
        narrow=draw(charts.NARROW),
        legend=(("main", "share"), ("band", "95 % interval")),
    )
    return Panel(sentence=f"{sentence}.", chart=chart)


def _axis(starts: Sequence[date], count: int) -> Axis:
    """The periods' first days; a tick at every so many of them, at most `count`.

    Days of one year stand without it, and the axis names it; those of several have it at every
    tick, and take more room.
    """
    title, form = "period's first day", "{0:%b %Y}"
    if not all(day.day == 1 for day in starts):
        one = starts[0].year == starts[-1].year
        title, form = (f"{title}, {starts[0].year}", "{0.day} {0:%b}") if one else (title, _LONG)
        count = count if one else count * 3 // 4
    shown = starts[:: -(-len(starts) // count)]
    ticks = tuple(Tick(at=day.toordinal(), label=form.format(day)) for day in shown)
    low, high = starts[0].toordinal(), max(starts[-1], starts[0] + timedelta(days=1)).toordinal()
    return Axis(low=low, high=high, ticks=ticks, title=title)


def _runs(series: Sequence[OpinionPeriod], place: int) -> list[list[Between]]:
    """Neighbouring periods of which something is known."""
    made = []
    for known, run in groupby(series, key=lambda period: period.shares[place] is not None):
        if known:
            made.append([_between(period, place) for period in run])
    return made


def _between(period: OpinionPeriod, place: int) -> Between:
    share = period.shares[place]
    assert share is not None  # asked only then
    text = f"{period.start}: {share.text}"
    day = date.toordinal(period.start)
    return Between(x=day, value=share.value, low=share.low, high=share.high, text=text)


_PAGE = environment().get_template("opinion.html")
