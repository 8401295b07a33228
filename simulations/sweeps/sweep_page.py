"""`sweep.html`: which point is best, what it costs, and what all trials together would cost.

Invariants:
    * An ε never stands alone, and what choosing would cost on readers' data is said beside it.
    * Everything from the run is text; the page fetches nothing and has no script.
    * A sweep that still runs, or in which nothing came out, has its own words.

Example: `write_page(swept)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from presspool.common.audit.pages import charts
from presspool.common.audit.pages.charts import Axis, Drawing, Series, Tick
from presspool.common.audit.pages.panels import Chart, Panel, claim
from presspool.common.audit.pages.run_report import environment
from presspool.common.base.files import replace_file
from presspool.common.base.numbers import bound, byte_text, byte_unit
from presspool.common.runs.shown_metrics import ShownMetric, shown
from presspool.simulations.sweeps.front import Bill, TriedPoint, bill, front, leader, tried
from presspool.simulations.sweeps.parallel_lines import ParallelAxis, parallel
from presspool.simulations.sweeps.points import spelt, value_text
from presspool.simulations.sweeps.sweeping import Swept

PAGE_FILE, ON_FRONT, BEHIND = "sweep.html", "on the front", "behind it"
LEGEND = (("main", ON_FRONT), ("thin", BEHIND))


def write_page(swept: Swept) -> Path:
    """Write, or replace, the sweep's page.

    Raises:
        StorageError: the disk refuses; the page before is still there.
    """
    return replace_file(swept.request.out / PAGE_FILE, render(swept).encode())


def render(swept: Swept) -> str:
    """The page."""
    points, metric = compared(swept)
    best = front(points, metric)
    by_trial = [panel(points, best, metric, over) for over in (_over_epsilon, _over_bytes)]
    return _PAGE.render(
        name=swept.request.run.contract.name,
        plan=swept.request.file.plan,
        rows=swept.rows,
        total=swept.request.trials,
        metric=metric,
        points=points,
        best=leader(points),
        front=[point.number for point in best],
        keys=[*swept.request.file.space],
        epsilon_panel=by_trial[0],
        bytes_panel=by_trial[1],
        lines_panel=lines_panel(points, best, metric),
        cost=cost_sentence(bill(swept.rows)),
        reproducible=swept.request.deterministic is not None,
        weaker=any(row.unit == "record" for row in swept.rows),
        value_text=value_text,
        epsilon_text=epsilon_text,
    )


def compared(swept: Swept) -> tuple[list[TriedPoint], ShownMetric]:
    """The points that can be compared, the best first, and how their figures are written."""
    points = tried(swept.rows, swept.metric, seeds=len(swept.request.seeds))
    name = swept.metric.name
    (metric,) = shown([swept.metric], [{name: point.figure} for point in points])
    return points, metric


def cost_sentence(cost: Bill) -> str:
    """What choosing would cost where trials were on readers who had to be paid for."""
    said = (
        "Points are compared on public records, so choosing among them costs readers nothing "
        "more. But every trial would be paid for where its outlets' readers are real, the best one "
        "and all others: "
    )
    if not cost.paid:
        said += "no trial here had an ε."
    elif cost.paid == 1:
        said += f"the one trial here costs {claim(cost.epsilon, cost.delta)} at an outlet."
    else:
        whole = claim(cost.epsilon, cost.delta)
        said += f"the {cost.paid:,} trials here add up to {whole} at an outlet."
    if cost.unprotected:
        said += f" {cost.unprotected:,} more trained without noise: no bound holds for those."
    return said + (
        " To choose by a metric on readers' own records would cost their budget besides, and is "
        "not offered."
    )


def epsilon_text(epsilon: float) -> str:
    """An ε in a table."""
    return bound(epsilon) if math.isfinite(epsilon) else "∞"


def panel(
    points: Sequence[TriedPoint],
    best: Sequence[TriedPoint],
    metric: ShownMetric,
    over: Callable[[Sequence[TriedPoint]], tuple[list[float], Callable[[int], Axis], str]],
) -> Panel:
    """The metric of every point against one of its costs."""
    if not points:
        return Panel(sentence="No point is complete yet, so there is nothing to compare.")
    places, axis, sentence = over(points)
    numbers = {point.number for point in best}
    better = f"{'Higher' if metric.higher_is_better else 'Lower'} is better. "
    groups = [
        _group(style, name, points, places, metric, where)
        for style, name, where in (
            ("second", BEHIND, [p.number not in numbers for p in points]),
            ("main", ON_FRONT, [p.number in numbers for p in points]),
        )
    ]

    def draw(width: int) -> Drawing:
        return charts.scatter_chart(
            groups, x=axis(width), y=_value_axis(points, metric), width=width
        )

    return Panel(
        sentence=better + sentence,
        chart=Chart(
            alt=f"Dots: {metric.word} of each point. {sentence}",
            wide=draw(charts.WIDE),
            narrow=draw(charts.NARROW),
            legend=(("dot main", ON_FRONT), ("dot second", BEHIND)),
        ),
    )


def _group(
    style: str,
    name: str,
    points: Sequence[TriedPoint],
    places: Sequence[float],
    metric: ShownMetric,
    where: Sequence[bool],
) -> Series:
    chosen = [(p, x) for p, x, mine in zip(points, places, where, strict=True) if mine]
    return Series(
        style=style,
        name=name,
        points=tuple((x, point.figure) for point, x in chosen),
        texts=tuple(_said(point, metric) for point, _ in chosen),
    )


def _said(point: TriedPoint, metric: ShownMetric) -> str:
    cost = f"ε {epsilon_text(point.epsilon)}, {byte_text(point.bytes_moved)}"
    return f"{spelt(point.values)}: {metric.said(point.figure)}, {cost}"


def _value_axis(points: Sequence[TriedPoint], metric: ShownMetric) -> Axis:
    """Never so narrow that noise looks like a gain."""
    low, high = (pick(point.figure for point in points) for pick in (min, max))
    half = max((high - low) / 2, 0.05 if metric.share else 0.05 * abs(high))
    middle = (low + high) / 2
    low, high = middle - half, middle + half
    if metric.share:
        low, high = max(0.0, low), min(1.0, high)
    return charts.nice_axis(low, high, count=4, label=metric.tick, title=metric.heading)


def _over_epsilon(
    points: Sequence[TriedPoint],
) -> tuple[list[float], Callable[[int], Axis], str]:
    """Places along ε; an unprotected point stands at the end, behind every number."""
    finite = [point.epsilon for point in points if math.isfinite(point.epsilon)]
    top = max(finite, default=1.0)
    open_end = len(finite) < len(points)

    def axis(width: int) -> Axis:
        count = 8 if width > charts.NARROW else 4
        found = charts.nice_axis(
            0, top, count=count, label=lambda v: f"{v:g}", title="ε of a trial"
        )
        if not open_end:
            return found
        high = found.high * 1.15
        ticks = (*found.ticks, Tick(at=high, label="∞"))
        return Axis(low=found.low, high=high, ticks=ticks, title=found.title)

    end = axis(charts.WIDE).high
    places = [point.epsilon if math.isfinite(point.epsilon) else end for point in points]
    cheapest = min(points, key=lambda point: point.epsilon)
    unprotected = " A dot at ∞ was trained without noise, and is not private." if open_end else ""
    return (
        places,
        axis,
        (
            "Further left is cheaper for readers. The smallest ε that was tried is "
            f"{epsilon_text(cheapest.epsilon)}.{unprotected}"
        ),
    )


def _over_bytes(points: Sequence[TriedPoint]) -> tuple[list[float], Callable[[int], Axis], str]:
    """Places along what a run moves."""
    most = max(point.bytes_moved for point in points)
    least = min(point.bytes_moved for point in points)
    name, size = byte_unit(most)

    def axis(width: int) -> Axis:
        count = 8 if width > charts.NARROW else 4
        title = f"{name} of a trial, up and down"
        return charts.nice_axis(0, most / size, count=count, label=lambda v: f"{v:g}", title=title)

    places = [point.bytes_moved / size for point in points]
    moved = byte_text(most) if most == least else f"{byte_text(least)} to {byte_text(most)}"
    return places, axis, f"Left is cheaper for the network: a trial moved {moved}."


def lines_panel(
    points: Sequence[TriedPoint], best: Sequence[TriedPoint], metric: ShownMetric
) -> Panel:
    """What was swept beside what came out, a line for each point."""
    if len(points) < 2:
        return Panel(sentence="With fewer than two complete points there are no lines to compare.")
    numbers = {point.number for point in best}
    ordered = sorted(points, key=lambda point: point.number in numbers)
    columns = _columns(ordered, metric)
    styles = ["main" if point.number in numbers else "thin" for point in ordered]
    texts = [_said(point, metric) for point in ordered]
    sentence = (
        f"Each line is a point: what was swept, then what it cost, then its {metric.word}. "
        f"{len(best)} of {len(points)} are on the front: no other point is at least as good in "
        "all three of metric, ε and bytes."
    )
    wide, narrow = (parallel(columns, styles, texts, width=w) for w in (charts.WIDE, charts.NARROW))
    alt = f"Parallel coordinates. {sentence}"
    return Panel(sentence=sentence, chart=Chart(alt=alt, wide=wide, narrow=narrow, legend=LEGEND))


def _columns(points: Sequence[TriedPoint], metric: ShownMetric) -> list[ParallelAxis]:
    swept = [
        ParallelAxis(
            title=key.rpartition(".")[2].replace("_", " "),
            values=tuple(point.values[key] for point in points),
            said=value_text,
        )
        for key in points[0].values
    ]
    found = (
        ("ε", [point.epsilon for point in points], epsilon_text),
        ("bytes", [point.bytes_moved for point in points], byte_text),
        (metric.word, [point.figure for point in points], metric.cell),
    )
    costs = [
        ParallelAxis(title=title, values=tuple(values), said=said) for title, values, said in found
    ]
    return swept + costs


_PAGE = environment("presspool.simulations.sweeps").get_template("sweep.html")
