"""`report.html`: one page that says what a run reached, what it cost readers, and what moved.

The page is one file without scripts and without anything to fetch, so it can be mailed, archived
and opened in ten years. Each drawing stands beside a sentence that says what it shows, and all
figures stand in a table as well.

Invariants:
    * Everything from the result is text: autoescape is on, and the page's own policy forbids
      scripts and requests should a text get through all the same.
    * An ε never stands alone: δ, unit, and every caution of the result stand beside it.
    * A running, unmeasured or unprotected run has its own words, never an empty drawing.

Example:
    >>> from presspool.common.runs.results import OutletResult, RunResult
    >>> from presspool.common.tasks.metric import Metric
    >>> north = OutletResult(name="north", population=9, weight=1.0, epsilon=None, delta=None,
    ...                      unit="reader", steps=0)
    >>> hits = Metric(name="hits", title="Hits", higher_is_better=True, primary=True)
    >>> page = render_report(RunResult(
    ...     name="<em>", contract_digest="sha256:" + "0" * 64, status="running",
    ...     deterministic=False, measures=(hits,), rounds=(), outlets=(north,), adapter_sha256=None,
    ...     statement="No noise was added.", trust="local", accountant="none", seconds=0.0,
    ...     versions={}, contract={}))
    >>> "&lt;em&gt;" in page, "<em>" in page, "unprotected" in page
    (True, False, True)
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from presspool.common.audit.pages import charts
from presspool.common.audit.pages.charts import Axis, Drawing, Series
from presspool.common.audit.pages.comparison import dotted_keys
from presspool.common.base.files import replace_file
from presspool.common.base.numbers import (
    bound,
    byte_text,
    byte_unit,
    duration,
    percent,
    plain,
)
from presspool.common.runs.results import Caution, RoundResult, RunResult
from presspool.common.runs.shown_metrics import ShownMetric, listed, shown_of

REPORT_FILE = "report.html"
_TRUST = {
    "local": (
        "Trust model local: each outlet adds its own noise, so its figure holds whatever the "
        "coordinator and the other outlets do."
    ),
    "pooled": (
        "Trust model pooled: outlets share the noise under secure aggregation, so the figures "
        "hold only while no more outlets collude or drop out than the contract assumes."
    ),
}


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawing for a wide column and for a phone; `legend` pairs a style with its words."""

    alt: str
    wide: Drawing
    narrow: Drawing
    legend: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A section's sentence with its chart; without a chart the sentence says why."""

    sentence: str
    chart: Chart | None = None


def render_report(result: RunResult) -> str:
    """The whole HTML page of a run."""
    metrics = shown_of(result)
    return _PAGE.render(
        result=result,
        Caution=Caution,
        metrics=metrics,
        listed=listed(metrics),
        measured=measured_panel(result),
        tradeoff=_tradeoff(result),
        traffic=traffic_panel(result),
        budget=_budget_sentences(result),
        largest=max((outlet.epsilon or 0.0 for outlet in result.outlets), default=0.0) or 1.0,
        total_weight=sum(outlet.weight for outlet in result.outlets),
        refusals=[(e.round, *pair) for e in result.rounds for pair in e.refused.items()],
        sections=_sections(result.contract),
    )


def write_report(folder: Path, result: RunResult) -> Path:
    """Write or replace the folder's report.html as a whole; returns its path.

    Raises:
        StorageError: the disk refused; an earlier report is still there and whole.
    """
    return replace_file(folder / REPORT_FILE, render_report(result).encode())


def measured_panel(result: RunResult) -> Panel:
    """The primary metric over the rounds, and what can be drawn on its scale."""
    metrics = shown_of(result)
    primary = metrics[0]
    measured = [entry for entry in result.rounds if entry.metrics[primary.name] is not None]
    if not result.rounds:
        return Panel(sentence="No round has finished yet, so there is nothing to show.")
    if not measured:
        return Panel(
            sentence=f"This run had no public held-out set, so {primary.word} was not measured. An "
            "[evaluation] table in run.toml names one."
        )
    lines = _line("main", primary, measured, _round)
    for other in metrics[1:]:
        lines += _line("second", other, measured, _round) if other.same_scale(primary) else []
    start = measured[0].metrics[primary.name] if measured[0].round == 0 else None
    last, sentence = result.final.round, _measured_sentence(primary, measured)

    def draw(width: int) -> Drawing:
        x, y = charts.round_axis(0, last, count=_steps(width)), _value_axis(result, lines)
        return charts.line_chart(lines, x=x, y=y, width=width, level=start)

    legend = [(line.style, line.name) for line in lines]
    if start is not None:
        legend.append(("level", f"{primary.word} before training"))
    return _panel(f"Line chart of {primary.word} per round.", sentence, draw, legend)


def _measured_sentence(primary: ShownMetric, measured: Sequence[RoundResult]) -> str:
    first, last = measured[0], measured[-1]
    was, now = first.metrics[primary.name] or 0.0, last.metrics[primary.name] or 0.0
    # An accuracy is a share of the records; of other metrics they are only where it was measured.
    accuracy = primary.name == "accuracy"
    where = f"{'of' if accuracy else 'on'} the public held-out records"
    if first is last:
        said = "the model is right on" if accuracy else f"{primary.word} is"
        return f"After round {last.round} {said} {primary.figure(now)} {where}."
    before = "before training" if first.round == 0 else f"after round {first.round}"
    verb = "rose" if now > was else "fell" if now < was else "stayed"
    return (
        f"{primary.title} {verb} from {primary.figure(was)} {before} to {primary.figure(now)} "
        f"{where} after round {last.round}"
        + ("." if primary.metric.higher_is_better else "; lower is better.")
    )


def _tradeoff(result: RunResult) -> Panel:
    primary = shown_of(result)[0]
    if result.epsilon is None:
        return Panel(
            sentence=f"This run is unprotected: ε is infinite, so there is no {primary.word} to "
            "set against a budget."
        )
    measured = [e for e in result.rounds if e.metrics[primary.name] is not None]
    priced = [e for e in measured if e.epsilon is not None]
    if len(priced) < 2:
        return Panel(
            sentence=f"{primary.title} was measured fewer than two times: there is no curve."
        )
    lines = _line("main", primary, priced, _epsilon)
    label = "ε spent at one outlet" + (" (record level: weaker)" if result.unit == "record" else "")

    def draw(width: int) -> Drawing:
        top, steps = result.epsilon or 1.0, min(_steps(width), 6)
        x = charts.nice_axis(0, top, count=steps, label=lambda v: f"{v:g}", title=label)
        return charts.line_chart(lines, x=x, y=_value_axis(result, lines), width=width)

    sentence = _tradeoff_sentence(result, primary, priced[-1])
    return _panel(f"Line chart of {primary.word} against ε.", sentence, draw, [])


def _claim(epsilon: float | Decimal, delta: float | Decimal) -> str:
    """An ε beside its δ, neither torn apart at the end of a line."""
    equals = "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"
    return f"ε{equals}{bound(epsilon)}, δ{equals}{bound(delta)}"


def _tradeoff_sentence(result: RunResult, primary: ShownMetric, last: RoundResult) -> str:
    claim = _claim(last.epsilon or 0, result.delta or 0)
    figure = primary.figure(last.metrics[primary.name])
    reached = figure if primary.share else f"{primary.word} {figure}"
    text = (
        f"The run reached {reached} for {claim} per {result.unit} and outlet; "
        "along the line, each round adds to what was spent before."
    )
    if result.unit == "record":
        text += " Record level is weaker than reader level: a reader with many records pays more."
    if result.deterministic:
        text += f" Not private: {Caution.SIMULATION}."
    return text


def traffic_panel(result: RunResult) -> Panel:
    """Bytes over the rounds."""
    moved = [entry for entry in result.rounds if entry.bytes_up or entry.bytes_down]
    if not moved:
        return Panel(sentence="Nothing has moved between outlets and coordinator yet.")
    name, size = byte_unit(max(e.bytes_up + e.bytes_down for e in moved))
    stacks = [
        _bars(style, legend, moved, key, size)
        for style, legend, key in (
            ("up", "up: outlets to coordinator", "bytes_up"),
            ("down", "down: coordinator to outlets", "bytes_down"),
        )
    ]
    highest, last = max(e.bytes_up + e.bytes_down for e in moved) / size, result.final.round

    def draw(width: int) -> Drawing:
        x = charts.round_axis(1, last, count=_steps(width), pad=0.6)
        title = f"{name} per round, all outlets"
        y = charts.nice_axis(0, highest, count=4, label=lambda v: f"{v:,g}", title=title)
        return charts.bar_chart(stacks, x=x, y=y, width=width)

    sentence = (
        f"Outlets sent {byte_text(result.bytes_up)} and received {byte_text(result.bytes_down)} "
        f"in {len(moved)} round{'s' * (len(moved) > 1)}."
    )
    if updates := sum(len(entry.outlets) for entry in moved):
        sentence += f" One admitted update was about {byte_text(result.bytes_up / updates)}."
    legend = [(stack.style, stack.name) for stack in stacks]
    return _panel("Stacked bar chart of bytes per round.", sentence, draw, legend)


def _bars(style: str, name: str, rounds: Sequence[RoundResult], key: str, size: float) -> Series:
    word = key.removeprefix("bytes_")
    return Series(
        style=style,
        name=name,
        points=tuple((e.round, getattr(e, key) / size) for e in rounds),
        texts=tuple(f"round {e.round}: {byte_text(getattr(e, key))} {word}" for e in rounds),
    )


def _round(entry: RoundResult) -> float:
    return entry.round


def _epsilon(entry: RoundResult) -> float:
    return entry.epsilon or 0.0


def _line(
    style: str,
    metric: ShownMetric,
    rounds: Sequence[RoundResult],
    x: Callable[[RoundResult], float],
) -> list[Series]:
    points = [(e, value) for e in rounds if (value := e.metrics[metric.name]) is not None]
    if not points:
        return []
    return [
        Series(
            style=style,
            name=metric.word,
            points=tuple((x(entry), value) for entry, value in points),
            texts=tuple(f"round {e.round}: {metric.word} {metric.figure(v)}" for e, v in points),
            end=metric.cell(points[-1][1]),
        )
    ]


def _steps(width: int) -> int:
    return 10 if width > charts.NARROW else 5


def _value_axis(result: RunResult, lines: Sequence[Series]) -> Axis:
    """One scale for all charts of a run, and never so narrow that noise looks like progress."""
    primary, *others = shown_of(result)
    drawn = [primary, *(other for other in others if other.same_scale(primary))]
    found = [entry.metrics[metric.name] for entry in result.rounds for metric in drawn]
    values = [value for value in found if value is not None]
    middle, half = (min(values) + max(values)) / 2, (max(values) - min(values)) / 2
    half = max(half, 0.1 if primary.share else 0.1 * abs(middle))
    low, high = middle - half, middle + half
    if primary.share:
        low, high = max(0.0, low), min(1.0, high)
    words = " and ".join(line.name for line in lines)
    unit = primary.metric.unit
    title = f"{words}, {unit}" if unit else words
    return charts.nice_axis(low, high, count=4, label=primary.tick, title=title)


def _panel(
    alt: str, sentence: str, draw: Callable[[int], Drawing], legend: Sequence[tuple[str, str]]
) -> Panel:
    wide, narrow = draw(charts.WIDE), draw(charts.NARROW)
    chart = Chart(alt=f"{alt} {sentence}", wide=wide, narrow=narrow, legend=tuple(legend))
    return Panel(sentence=sentence, chart=chart)


def _budget_sentences(result: RunResult) -> list[str]:
    if result.worst_case is None:
        return [
            "At least one outlet trained without noise: no bound holds for its readers, nor for "
            "a reader of several outlets."
        ]
    unit = "all records of one reader" if result.unit == "reader" else "one record"
    texts = [f"Each bar is the ε that this run spends on {unit} at that outlet."]
    if result.unit == "record":
        texts[0] += " That is weaker than reader level: a reader with many records pays more."
    if result.deterministic:
        texts.append(f"Not private: {Caution.SIMULATION}. The figures are what secret noise costs.")
    elif result.trust in _TRUST:
        texts.append(_TRUST[result.trust])
    return [*texts, _several_outlets(result)]


def _several_outlets(result: RunResult) -> str:
    if len(result.outlets) == 1 or result.worst_case is None:
        return "This run had one outlet, so no reader pays at a second one."
    epsilon, delta = result.worst_case
    return (
        "A reader at several outlets composes sequentially, because each round's model already "
        f"carries the other outlets' data. Worst case, one {result.unit} at all "
        f"{len(result.outlets)} outlets: {_claim(epsilon, delta)}."
    )


def _sections(contract: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """The contract's dotted keys by their first part; plain top-level keys come first."""
    sections: dict[str, list[tuple[str, str]]] = {"": []}
    for key, value in dotted_keys(contract).items():
        head, _, rest = key.partition(".")
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        sections.setdefault(head if rest else "", []).append((rest or key, shown))
    return {head: rows for head, rows in sections.items() if rows}


def environment(*packages: str) -> Environment:
    """How every page is printed: its templates, and how its figures are written.

    Args:
        packages: whose templates there are, beside those of this package.
    """
    found = [PackageLoader(package) for package in (*packages, "presspool.common.audit.pages")]
    made = Environment(
        loader=ChoiceLoader(found),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for said in (percent, bound, plain, byte_text, duration):
        made.filters[said.__name__] = said
    return made


_PAGE = environment().get_template("report.html")
