"""A run's charts, each with the sentence that says what it shows.

Invariants:
    * A running, unmeasured or unprotected run has its own words, never an empty drawing.
    * The primary metric is drawn, and beside it what has its scale; tables hold the others.

Example: `measured_panel(result).sentence`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from presspool.common.audit.pages import charts
from presspool.common.audit.pages.charts import Axis, Drawing, Series
from presspool.common.base.numbers import bound, byte_text, byte_unit
from presspool.common.runs.results import Caution, RoundResult, RunResult
from presspool.common.runs.shown_metrics import ShownMetric, shown_of


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawing for a wide column and for a phone; `legend` pairs a style with its words."""

    alt: str
    wide: Drawing
    narrow: Drawing
    legend: tuple[tuple[str, str], ...]


MOST_BESIDE = 2  # more lines in one chart cannot be told apart


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A section's sentence with its chart; without a chart the sentence says why."""

    sentence: str
    chart: Chart | None = None


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
    for other in _beside(metrics):
        lines += _line("second", other, measured, _round)
    start = measured[0].metrics[primary.name] if measured[0].round == 0 else None
    last, sentence = result.final.round, _measured_sentence(primary, measured)

    def draw(width: int) -> Drawing:
        x, y = charts.round_axis(0, last, count=_steps(width)), _value_axis(result, lines)
        return charts.line_chart(lines, x=x, y=y, width=width, level=start)

    legend = [(line.style, line.name) for line in lines]
    if start is not None:
        legend.append(("level", f"{primary.word} before training"))
    return _panel(f"Line chart of {primary.word} per round.", sentence, draw, legend)


def _beside(metrics: Sequence[ShownMetric]) -> list[ShownMetric]:
    """What is drawn beside the primary metric: the next ones on its scale."""
    primary, *others = metrics
    return [other for other in others if other.same_scale(primary)][:MOST_BESIDE]


def _measured_sentence(primary: ShownMetric, measured: Sequence[RoundResult]) -> str:
    first, last = measured[0], measured[-1]
    whole = first.whole and last.whole  # of both or of neither, or a rise may look like a fall
    was, now = ((e.figures if whole else e.metrics)[primary.name] or 0.0 for e in (first, last))
    # An accuracy is a share of the records; of other metrics they are only where it was measured.
    accuracy = primary.name == "accuracy"
    where = f"{'of' if accuracy else 'on'} {'all' if whole else 'the'} public held-out records"
    line = _of_sample(measured)
    if first is last:
        said = "the model is right on" if accuracy else f"{primary.word} is"
        return f"After round {last.round} {said} {primary.figure(now)} {where}.{line}"
    before = "before training" if first.round == 0 else f"after round {first.round}"
    verb = "rose" if now > was else "fell" if now < was else "stayed"
    return (
        f"{primary.title} {verb} from {primary.figure(was)} {before} to {primary.figure(now)} "
        f"{where} after round {last.round}"
        + ("." if primary.higher_is_better else "; lower is better.")
        + line
    )


def _of_sample(rounds: Sequence[RoundResult]) -> str:
    """What the line is of, where it is not of every record."""
    whole = next((entry.whole for entry in rounds if entry.whole), None)
    if whole is None:
        return ""
    return f" The line is of the same {whole.sample:,} of the {whole.records:,} in every round."


def tradeoff_panel(result: RunResult) -> Panel:
    """The primary metric against what was spent for it."""
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


def claim(epsilon: float | Decimal, delta: float | Decimal) -> str:
    """An ε beside its δ, neither torn apart at the end of a line."""
    equals = "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"
    return f"ε{equals}{bound(epsilon)}, δ{equals}{bound(delta)}"


def _tradeoff_sentence(result: RunResult, primary: ShownMetric, last: RoundResult) -> str:
    price = claim(last.epsilon or 0, result.delta or 0)
    figure = primary.figure(last.figures[primary.name])
    reached = figure if primary.share else f"{primary.word} {figure}"
    text = (
        f"The run reached {reached} for {price} per {result.unit} and outlet; "
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
            end=metric.short(points[-1][1]),
        )
    ]


def _steps(width: int) -> int:
    return 10 if width > charts.NARROW else 5


def _value_axis(result: RunResult, lines: Sequence[Series]) -> Axis:
    """One scale for all charts of a run, and never so narrow that noise looks like progress."""
    primary, *_ = metrics = shown_of(result)
    drawn = [primary, *_beside(metrics)]
    found = [entry.metrics[metric.name] for entry in result.rounds for metric in drawn]
    values = [value for value in found if value is not None]
    middle, half = (min(values) + max(values)) / 2, (max(values) - min(values)) / 2
    half = max(half, 0.1 if primary.share else 0.1 * abs(middle))
    low, high = middle - half, middle + half
    if primary.share:
        low, high = max(0.0, low), min(1.0, high)
    words = " and ".join(line.name for line in lines)
    unit = primary.unit
    title = f"{words}, {unit}" if unit else words
    return charts.nice_axis(low, high, count=4, label=primary.tick, title=title)


def _panel(
    alt: str, sentence: str, draw: Callable[[int], Drawing], legend: Sequence[tuple[str, str]]
) -> Panel:
    wide, narrow = draw(charts.WIDE), draw(charts.NARROW)
    chart = Chart(alt=f"{alt} {sentence}", wide=wide, narrow=narrow, legend=tuple(legend))
    return Panel(sentence=sentence, chart=chart)
