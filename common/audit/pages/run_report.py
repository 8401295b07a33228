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
    >>> north = OutletResult(name="north", population=9, weight=1.0, epsilon=None, delta=None,
    ...                      unit="reader", steps=0)
    >>> page = render_report(RunResult(
    ...     name="<em>", contract_digest="sha256:" + "0" * 64, status="running",
    ...     deterministic=False, rounds=(), outlets=(north,), adapter_sha256=None,
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
    decimal_text,
    duration,
    percent,
    percent_tick,
    plain,
)
from presspool.common.contract.doors import TRUST_MODELS
from presspool.common.runs.results import Caution, RoundResult, RunResult

REPORT_FILE = "report.html"


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
    return _PAGE.render(
        result=result,
        Caution=Caution,
        accuracy=accuracy_panel(result),
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


def accuracy_panel(result: RunResult) -> Panel:
    """Accuracy and macro-F1 over the rounds."""
    measured = [entry for entry in result.rounds if entry.accuracy is not None]
    if not result.rounds:
        return Panel(sentence="No round has finished yet, so there is nothing to show.")
    if not measured:
        return Panel(
            sentence="This run had no public held-out set, so accuracy was not measured. An "
            "[evaluation] table in run.toml names one."
        )
    lines = _line("main", "accuracy", measured, _round, _share_of("accuracy"))
    lines += _line("second", "macro-F1", measured, _round, _share_of("macro_f1"))
    start = measured[0].accuracy if measured[0].round == 0 else None
    last, sentence = result.final.round, _accuracy_sentence(measured)

    def draw(width: int) -> Drawing:
        x = charts.round_axis(0, last, count=_steps(width))
        return charts.line_chart(lines, x=x, y=_share_axis(result, lines), width=width, level=start)

    legend = [(line.style, line.name) for line in lines]
    if start is not None:
        legend.append(("level", "accuracy before training"))
    return _panel("Line chart of accuracy per round.", sentence, draw, legend)


def _accuracy_sentence(measured: Sequence[RoundResult]) -> str:
    first, last = measured[0], measured[-1]
    now, where = percent(last.accuracy), "of the public held-out records"
    if first is last:
        return f"After round {last.round} the model is right on {now} {where}."
    before = "before training" if first.round == 0 else f"after round {first.round}"
    change = (last.accuracy or 0.0) - (first.accuracy or 0.0)
    verb = "rose" if change > 0 else "fell" if change < 0 else "stayed"
    return (
        f"Accuracy {verb} from {percent(first.accuracy)} {before} to {now} {where} "
        f"after round {last.round}."
    )


def _tradeoff(result: RunResult) -> Panel:
    if result.epsilon is None:
        return Panel(
            sentence="This run is unprotected: ε is infinite, so there is no accuracy to set "
            "against a budget."
        )
    priced = [e for e in result.rounds if e.accuracy is not None and e.epsilon is not None]
    if len(priced) < 2:
        return Panel(sentence="Accuracy was measured fewer than two times: there is no curve.")
    lines = _line("main", "accuracy", priced, _epsilon, _share_of("accuracy"))
    label = "ε spent at one outlet" + (" (record level: weaker)" if result.unit == "record" else "")

    def draw(width: int) -> Drawing:
        top, steps = result.epsilon or 1.0, min(_steps(width), 6)
        x = charts.nice_axis(0, top, count=steps, label=lambda v: f"{v:g}", title=label)
        return charts.line_chart(lines, x=x, y=_share_axis(result, lines), width=width)

    sentence = _tradeoff_sentence(result, priced[-1])
    return _panel("Line chart of accuracy against ε.", sentence, draw, [])


def _claim(epsilon: float | Decimal, delta: float | Decimal) -> str:
    """An ε beside its δ, neither torn apart at the end of a line."""
    equals = "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"
    return f"ε{equals}{bound(epsilon)}, δ{equals}{bound(delta)}"


def _tradeoff_sentence(result: RunResult, last: RoundResult) -> str:
    claim = _claim(last.epsilon or 0, result.delta or 0)
    text = (
        f"The run reached {percent(last.accuracy)} for {claim} per {result.unit} and outlet; "
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


def _share_of(key: str) -> Callable[[RoundResult], float | None]:
    return lambda entry: getattr(entry, key)


def _line(
    style: str,
    name: str,
    rounds: Sequence[RoundResult],
    x: Callable[[RoundResult], float],
    y: Callable[[RoundResult], float | None],
) -> list[Series]:
    points = [(entry, share) for entry in rounds if (share := y(entry)) is not None]
    if not points:
        return []
    return [
        Series(
            style=style,
            name=name,
            points=tuple((x(entry), share) for entry, share in points),
            texts=tuple(f"round {e.round}: {name} {percent(share)}" for e, share in points),
            end=percent(points[-1][1]),
        )
    ]


def _steps(width: int) -> int:
    return 10 if width > charts.NARROW else 5


def _share_axis(result: RunResult, lines: Sequence[Series]) -> Axis:
    """One scale for all charts of a run, and never so narrow that noise looks like progress."""
    measured = [share for e in result.rounds for share in (e.accuracy, e.macro_f1)]
    shares = [share for share in measured if share is not None]
    middle, half = (min(shares) + max(shares)) / 2, (max(shares) - min(shares)) / 2
    low, high = max(0.0, middle - max(0.1, half)), min(1.0, middle + max(0.1, half))
    title = " and ".join(line.name for line in lines)
    return charts.nice_axis(low, high, count=4, label=percent_tick, title=title)


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
    elif result.trust in TRUST_MODELS.names:
        texts.append(TRUST_MODELS[result.trust].words.claim)
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
    for said in (percent, bound, plain, byte_text, decimal_text, duration):
        made.filters[said.__name__] = said
    return made


_PAGE = environment().get_template("report.html")
