"""What an experiment found, as tables and a plot on a page of the documentation.

Example: `write_page(AGNEWS, judged, Path("docs/results.md"))`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from presspool.simulations.doc_sections import commit, write_section
from presspool.simulations.experiments.experiment import (
    Experiment,
    Question,
    Runs,
    ShareQuestion,
)
from presspool.simulations.experiments.tidy import (
    Estimate,
    Judged,
    difference,
    estimate,
    share,
)
from presspool.simulations.plots import new_figure, save

_BESIDE = 4
_COLOURS = ("#2f7d3b", "#35627f", "#c8702a", "#8a5a9e", "#9aa0a6", "#b03a48", "#7a6a2a")
_MARKERS = "os^D"  # the second line of a colour has another than the first


def write_page(experiment: Experiment, judged: Sequence[Judged], page: Path) -> str:
    """Write the experiment's section of the page, and its plot beside it; returns the section."""
    tables = markdown(experiment, judged)
    picture = page.parent / "images" / f"{experiment.name}.svg"
    draw(experiment, judged, picture)
    title = judged[0].trial.measure.title
    text = f"![{title} by arm and ε](images/{picture.name})\n\n{tables}"
    write_section(page, experiment.name, text)
    return tables


def markdown(experiment: Experiment, judged: Sequence[Judged]) -> str:
    """The tables of the documentation page."""
    seeds = sorted({j.trial.seed for j in judged})
    command = experiment.name.replace("-search", " --search")
    lines = [
        f"Made by `presspool experiment {command}` at commit {commit()}; seeds "
        f"{', '.join(map(str, seeds))}; mean and 95 % interval (bootstrap over seeds and test "
        "records, arms paired by seed). ± stands for half the interval's width."
    ]
    for pool in dict.fromkeys(j.trial.pool.name for j in judged):
        lines += ["", *_arm_table(pool, judged), "", *_question_table(experiment, pool, judged)]
    pools = list({j.trial.pool.name: j.trial.pool for j in judged}.values())
    return "\n".join([*lines, "", experiment.note(pools)]).strip()


def _arm_table(pool: str, judged: Sequence[Judged]) -> list[str]:
    of_pool = [j for j in judged if j.trial.pool.name == pool]
    first, columns = of_pool[0], of_pool[0].trial.measure.columns
    readers = sum(first.trial.pool.readers.values())
    lines = [
        f"**{pool}**: {len(first.trial.pool.readers)} outlets, {readers:,} training readers, "
        f"{len(first.outlet):,} test records.",
        "",
        f"| arm | reader ε | {' | '.join(c.head for c in columns)} | seeds | minutes a run |",
        f"| --- | {'---: | ' * (len(columns) + 2)}---: |",
    ]
    for runs in dict.fromkeys((j.trial.arm.name, j.trial.epsilon) for j in of_pool):
        found = select(judged, pool, runs)
        minutes = sum(j.seconds for j in found) / len(found) / 60
        figures = [
            column.shown(whole.mean, whole.low, whole.high)
            for column in columns
            for whole in [estimate(found, column.figure)]
        ]
        lines.append(
            f"| {runs[0]} | {_epsilon(runs[1])} | {' | '.join(figures)} | {len(found)} "
            f"| {minutes:.1f} |"
        )
    return lines


def _question_table(experiment: Experiment, pool: str, judged: Sequence[Judged]) -> list[str]:
    lines = []
    for question in experiment.questions:
        found = [select(judged, pool, runs) for runs in question.arms]
        if all(found):
            lines.append(_answer(question, found))
    head = ["| question | difference [95 %] | by more than the interval? |", "| --- | ---: | --- |"]
    return [*head, *lines] if lines else []


def _answer(question: Question | ShareQuestion, found: Sequence[Sequence[Judged]]) -> str:
    if isinstance(question, ShareQuestion):
        kept, start, best = found
        part, aim = share(kept, start, best, question.figure), question.at_least
        said = f"{part.mean:.2f} [{part.low:.2f}, {part.high:.2f}] of it; aim {aim:.2f}"
    else:
        left, right = found
        part, aim = difference(left, right, question.figure), 0.0
        said = f"{part.mean:+.3f} [{part.low:+.3f}, {part.high:+.3f}]"
    answer = "yes" if part.low > aim else "no" if part.high < aim else "not decided"
    return f"| {question.text} | {said} | {answer} |"


def _epsilon(epsilon: float) -> str:
    return "∞" if math.isinf(epsilon) else f"{epsilon:g}"


def select(judged: Sequence[Judged], pool: str, runs: Runs) -> list[Judged]:
    """The repetitions of one arm at one ε over one pool."""
    return [
        j for j in judged if (j.trial.pool.name, j.trial.arm.name, j.trial.epsilon) == (pool, *runs)
    ]


@dataclass(frozen=True, kw_only=True)
class PlotPoint:
    """One arm at one ε over one pool, as it is drawn.

    Attributes:
        panel: the panel's title.
        line: the line's name.
        tick: its place on the horizontal axis, in the axis' own numbers.
        found: its pooled figure.
        measure: what that is of, for the vertical axis.
    """

    panel: str
    line: str
    tick: float
    found: Estimate
    measure: str


def draw(experiment: Experiment, judged: Sequence[Judged], path: Path) -> None:
    """The pooled figure and its interval, as SVG: against ε, or against readers (`axis`).

    Over ε there is one panel for each pool and one line for each arm; over readers one panel for
    each arm and one line for each ε. At most `_BESIDE` panels stand side by side.
    """
    points = _points(experiment, judged)
    panels = list(dict.fromkeys(point.panel for point in points))
    alike = len({point.measure for point in points}) == 1
    beside = min(len(panels), _BESIDE)
    rows = -(-len(panels) // beside)
    figure = new_figure(1 + 4.2 * beside, 4.2 * rows)
    axes = figure.subplots(rows, beside, sharey=alike, squeeze=False).flatten()
    for empty in axes[len(panels) :]:
        empty.remove()
    for number, (axis, panel) in enumerate(zip(axes, panels, strict=False)):
        mine = [point for point in points if point.panel == panel]
        _panel(axis, mine)
        axis.set_title(panel, fontsize="medium")
        over_readers = experiment.axis == "readers"
        axis.set_xlabel("training readers in the pool" if over_readers else "reader-level ε")
        if number % beside == 0 or not alike:
            axis.set_ylabel(mine[0].measure)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)


def _points(experiment: Experiment, judged: Sequence[Judged]) -> list[PlotPoint]:
    points = []
    for pool, readers, arm, epsilon in dict.fromkeys(
        (j.trial.pool.name, sum(j.trial.pool.readers.values()), j.trial.arm.name, j.trial.epsilon)
        for j in judged
    ):
        chosen = select(judged, pool, (arm, epsilon))
        over_readers, line = experiment.axis == "readers", f"ε = {_epsilon(epsilon)}"
        points.append(
            PlotPoint(
                panel=arm if over_readers else pool,
                line=line if over_readers else arm,
                tick=readers if over_readers else epsilon,
                found=estimate(chosen, "pooled"),
                measure=chosen[0].trial.measure.axis,
            )
        )
    return points


def _panel(axis: Any, points: Sequence[PlotPoint]) -> None:
    lines = list(dict.fromkeys(point.line for point in points))
    ticks = sorted({point.tick for point in points})
    for number, line in enumerate(lines):
        mine = sorted((p for p in points if p.line == line), key=lambda p: p.tick)
        # Side by side, so that intervals do not hide each other.
        aside = 0.06 * (number - (len(lines) - 1) / 2)
        axis.errorbar(
            [ticks.index(p.tick) + aside for p in mine],
            [p.found.mean for p in mine],
            yerr=[
                [p.found.mean - p.found.low for p in mine],
                [p.found.high - p.found.mean for p in mine],
            ],
            marker=_MARKERS[number // len(_COLOURS) % len(_MARKERS)],
            markersize=4,
            capsize=2,
            linewidth=1.2,
            label=line,
            color=_COLOURS[number % len(_COLOURS)],
        )
    axis.set_xticks(range(len(ticks)), [_number(tick) for tick in ticks])
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize="small")


def _number(tick: float) -> str:
    return f"{tick:,}" if isinstance(tick, int) else _epsilon(tick)
