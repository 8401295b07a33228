"""A gate's report as one HTML page: the verdict, what is in the way, and every check's figures.

Invariants:
    * What is on the page is in the report; no figure is made here.
    * One file, no script, and nothing is fetched: names and texts from files are never markup.

Example: `Path("gate.html").write_text(render(report))`.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any, NamedTuple

from presspool.common.audit.pages import charts
from presspool.common.audit.pages.charts import Axis, Between, Drawing, Tick
from presspool.common.audit.pages.panels import Chart, Panel
from presspool.common.audit.pages.run_report import environment
from presspool.server.gate.finding import Figure, Finding
from presspool.server.gate.gate_judging import FullReport

_HEADINGS = {"attack_bound": "Attack", "ledgers": "Outlets’ ledgers", "public_rows": "Public rows"}


class Gauge(NamedTuple):
    """A share beside its limit, both in percent."""

    value: float
    limit: float
    label: str


def render(report: FullReport) -> str:
    """The page."""
    return _PAGE.render(
        report=report,
        sentence=_sentence(report),
        checks=[(check, list(found)) for check, found in groupby(report.findings, _check)],
        compared=next(filter(None, map(_compared, report.findings)), None),
        heading=_heading,
        gauge=gauge,
        cell=_cell,
        is_number=_is_number,
    )


def _check(found: Finding) -> str:
    return found.check


def _heading(check: str) -> str:
    return _HEADINGS.get(check, check.replace("_", " ").capitalize())


def _sentence(report: FullReport) -> str:
    asked = [found for found in report.findings if found.verdict != "not_applicable"]
    if report.passed:
        return f"All {len(asked)} demands of the policy and of the papers are met."
    failed = len(report.failures)
    return (
        f"{failed} of {len(asked)} demands {'is' if failed == 1 else 'are'} not met. Who overrides "
        "the gate does so by name, for ever."
    )


def gauge(found: Finding) -> Gauge | None:
    """A finding's value beside its limit, where both are shares or small bounds."""
    value, side = found.figures.get("value"), "least" if "least" in found.figures else "most"
    limit = found.figures.get(side)
    if not isinstance(value, int | float) or not isinstance(limit, int | float) or value < 0:
        return None
    whole = 1.0 if max(value, limit) <= 1 else max(value, limit) * 1.1
    label = f"{value:g}, at {side} {limit:g}"
    return Gauge(round(100 * value / whole, 1), round(100 * limit / whole, 1), label)


def _compared(found: Finding) -> Panel | None:
    """The interval of a difference, and where zero is."""
    ends = [found.figures.get(name) for name in ("value", "low", "high")]
    value, low, high = (end if isinstance(end, float) else None for end in ends)
    if value is None or low is None or high is None:
        return None
    point = Between(x=0.5, value=value, low=low, high=high, text=found.said)

    def draw(width: int) -> Drawing:
        ticks = (Tick(at=0.5, label=found.what),)
        x = Axis(low=0.0, high=1.0, ticks=ticks, title="")
        y = charts.nice_axis(
            min(low, 0.0), max(high, 0.0), count=5, label="{:+g}".format, title="difference"
        )
        return charts.band_chart([[point]], x=x, y=y, width=width)

    return Panel(
        sentence=f"{found.said}. Below zero the candidate is worse.",
        chart=Chart(
            alt=f"A difference with its interval. {found.said}",
            wide=draw(charts.WIDE),
            narrow=draw(charts.NARROW),
            legend=(("main", "difference"), ("second", "ends of its interval")),
        ),
    )


def _cell(value: Figure) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"  # shares stand in one line
    return "–" if value is None else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


_PAGE = environment("presspool.server.gate").get_template("gate.html")
