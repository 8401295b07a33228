"""`presspool compare DIR DIR…`: what several runs reached, what it cost, and where they differ.

Invariants:
    * Every row carries its ε with its δ and unit, and everything that keeps it from being private.
    * Rows keep the order in which the folders were given; nothing is ranked, because choosing the
      best of several private runs is itself paid for with all of their budgets.
    * What is printed cannot drive the terminal: foreign texts are shown with control characters
      escaped and never read as markup.

Example:
    >>> contract = {"privacy": {"epsilon": 3}, "outlets": [{"name": "Le Monde", "population": 9}]}
    >>> for key, value in dotted_keys(contract).items():
    ...     print(key, "=", value)
    privacy.epsilon = 3
    outlets."Le Monde".population = 9
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from presspool.common.base.errors import InputError
from presspool.common.base.numbers import bound, byte_text, duration
from presspool.common.contract.doors import TRUST_MODELS
from presspool.common.runs.result_fields import shows_safely
from presspool.common.runs.result_file import read_result
from presspool.common.runs.results import Caution, RunResult
from presspool.common.runs.shown_metrics import ShownMetric, listed, shown
from presspool.common.tasks.metric import Metric

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")  # TOML 1.0, "Keys"


def dotted_keys(contract: Mapping[str, Any]) -> dict[str, Any]:
    """A contract as dotted TOML keys; a table inside a list goes by its `name`."""
    return dict(_dotted("", contract))


def _dotted(key: str, value: object) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list) and value and all(_has_name(entry) for entry in value):
        named = {entry["name"]: entry for entry in value}
        if len(named) == len(value):
            value = {name: _without_name(entry) for name, entry in named.items()}
    if not isinstance(value, Mapping) or (key and not value):
        yield key, value
        return
    for part, entry in value.items():
        bare = part if _BARE_KEY.fullmatch(part) else json.dumps(part, ensure_ascii=False)
        yield from _dotted(f"{key}.{bare}" if key else bare, entry)


def _has_name(entry: object) -> bool:
    return isinstance(entry, Mapping) and isinstance(entry.get("name"), str)


def _without_name(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "name"}


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """One run's last figures.

    Attributes:
        folder: the run folder's name, or its path where two have the same name.
        status: "running" or "complete".
        rounds: rounds of training so far.
        metrics: name to value after the last round, on the run's public held-out set; empty before
            the first.
        epsilon: the largest ε of one outlet; None: unprotected.
        delta: the δ beside it.
        unit: what one ε covers.
        bytes_total: up and down, all rounds.
        seconds: wall-clock time.
        deterministic: whether the noise could be reproduced.
        cautions: why this run is not private; empty if it is.
    """

    folder: str
    status: Literal["running", "complete"]
    rounds: int
    metrics: Mapping[str, float | None]
    epsilon: float | None
    delta: float | None
    unit: Literal["reader", "record"]
    bytes_total: int
    seconds: float
    deterministic: bool
    cautions: tuple[Caution, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs side by side.

    Attributes:
        measures: what the rows' metrics are; of runs of several tasks, all of them.
        rows: one a run, in the order given.
        differs: dotted contract key to the value in each run's folder; a run whose contract lacks
            the key is left out of the inner mapping.
        notes: what must be known to read the figures rightly.
    """

    measures: tuple[Metric, ...]
    rows: tuple[ComparisonRow, ...]
    differs: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """The same for machines; null ε means unprotected."""
        body = {"schema": 2, **asdict(self)}
        body["runs"] = body.pop("rows")
        return json.dumps(body, ensure_ascii=False, allow_nan=False, indent=2)

    def render(self, console: Console) -> None:
        """Print the runs, the contract's differences and the notes."""
        console.print(_whole(self._runs(), console), crop=False)
        if self.differs:
            console.print(self._differences())
        else:
            console.print(Text("The contracts of these runs are the same.\n"))
        for note in self.notes:
            console.print(_plain(f"• {note}"))

    def _runs(self) -> Table:
        table = _table("Runs", "run")
        metrics = _shown(self.measures, self.rows)
        for metric in metrics:
            table.add_column(_plain(metric.word), justify="right", no_wrap=True)
        table.add_column("privacy", no_wrap=True)
        for heading in ("bytes", "time"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(*_cells(row, metrics))
        return table

    def _differences(self) -> Table:
        table = _table("Contracts differ in", "key")
        for row in self.rows:
            table.add_column(_plain(row.folder), overflow="fold")
        for key, values in self.differs.items():
            shown = (values.get(row.folder, _ABSENT) for row in self.rows)
            table.add_row(_plain(key), *map(_value, shown))
        return table


_ABSENT = object()
_WIDEST, _FOLDED = 1000, 4


def _table(title: str, first: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    return table


def _whole(table: Table, console: Console) -> Table:
    """The table, wider than the console if need be: its first column folds, nothing is cut."""
    wide = console.options.update(max_width=_WIDEST)
    for column in table.columns:
        widest = max(console.measure(cell, options=wide).maximum for cell in column.cells)
        column.min_width = widest if column.no_wrap else min(widest, _FOLDED)
    least = console.measure(table, options=wide).minimum
    table.width = least if least > console.width else None
    return table


def _value(value: object) -> Text:
    if value is _ABSENT:
        return Text("–", style="dim")
    return _plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _plain(text: str) -> Text:
    """Foreign text for a terminal: no markup, and what would drive it is escaped."""
    return Text("".join(c if shows_safely(c) else f"\\u{ord(c):04x}" for c in text))


def _shown(measures: Sequence[Metric], rows: Sequence[ComparisonRow]) -> tuple[ShownMetric, ...]:
    return shown(measures, [row.metrics for row in rows])


def _cells(row: ComparisonRow, metrics: Sequence[ShownMetric]) -> list[Text]:
    name = _plain(row.folder)
    if row.status == "running":
        name.append(f"\nround {row.rounds}, running", style="dim")
    figures = [metric.cell(row.metrics.get(metric.name)) for metric in metrics]
    spent = [byte_text(row.bytes_total), duration(row.seconds)]
    return [name, *map(Text, figures), _claim(row), *map(Text, spent)]


def _claim(row: ComparisonRow) -> Text:
    if row.epsilon is None:
        claim = Text("unprotected", style="bold red")
    else:
        claim = Text(f"ε {bound(row.epsilon)}, δ {bound(row.delta or 0)}\n")
        weaker = row.unit == "record"
        claim.append("record (weaker)" if weaker else "reader", "yellow" if weaker else None)
    if row.deterministic:
        claim.append("\nnot private", style="yellow")
    return claim


def compare(folders: Sequence[Path]) -> Comparison:
    """Compare the runs in these folders.

    Raises:
        InputError: fewer than two different folders, or a result that is not valid.
        FolderError: a folder without a run.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise InputError(
            "nothing to compare",
            where="presspool compare",
            expected="two or more run folders, each once",
            got=" ".join(map(str, folders)) or "none",
            advice="name the folders of the runs",
        )
    runs = dict(zip(_labels(folders), map(read_result, folders), strict=True))
    rows = tuple(_row(label, result) for label, result in runs.items())
    every = {metric.name: metric for run in runs.values() for metric in run.measures}
    measures = tuple(every.values())
    return Comparison(
        measures=measures,
        rows=rows,
        differs=_differs(runs),
        notes=(*_notes(rows, _shown(measures, rows)), *_assumed(runs)),
    )


def _labels(folders: Sequence[Path]) -> list[str]:
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) == len(names):
        return names
    return [str(folder.resolve()) for folder in folders]


def _row(label: str, result: RunResult) -> ComparisonRow:
    last = result.rounds[-1] if result.rounds else None
    return ComparisonRow(
        folder=label,
        status=result.status,
        rounds=last.round if last else 0,
        metrics=last.figures if last else {},
        epsilon=result.epsilon,
        delta=result.delta,
        unit=result.unit,
        bytes_total=result.bytes_up + result.bytes_down,
        seconds=result.seconds,
        deterministic=result.deterministic,
        cautions=result.cautions,
    )


def _differs(runs: Mapping[str, RunResult]) -> dict[str, dict[str, Any]]:
    contracts = {label: dotted_keys(result.contract) for label, result in runs.items()}
    keys = dict.fromkeys(key for contract in contracts.values() for key in contract)
    found = {}
    for key in keys:
        values = {label: kept[key] for label, kept in contracts.items() if key in kept}
        spellings = {json.dumps(value, sort_keys=True) for value in values.values()}
        if len(spellings) > 1 or len(values) < len(runs):
            found[key] = values
    return found


def _notes(rows: Sequence[ComparisonRow], metrics: Sequence[ShownMetric]) -> tuple[str, ...]:
    protected = [row for row in rows if row.epsilon is not None]
    notes = [
        f"{listed(metrics)}: last round, each on its own run's public held-out set; of a large set "
        "the whole of it once the run is complete, and 1,000 of its records until then."
    ]
    if lower := [metric for metric in metrics if not metric.higher_is_better]:
        notes.append(f"{listed(lower)}: lower is better.")
    if len(protected) < len(rows):
        notes.append("unprotected: no noise was added; no bound holds for any reader.")
    if any(row.unit == "record" for row in protected):
        notes.append("record: covers one record, not all records of a reader; a weaker claim.")
    if any(row.deterministic for row in rows):
        notes.append(f"not private: {Caution.SIMULATION}.")
    if len({row.delta for row in protected}) > 1:
        notes.append("δ differs between runs: their ε cannot be compared directly.")
    if len(protected) > 1:
        notes.append(
            "ε is per run and outlet: a reader who is in several of these runs, or at several "
            "outlets, pays the sum, also for the runs that are not chosen."
        )
    return tuple(notes)


def _assumed(runs: Mapping[str, RunResult]) -> Iterator[str]:
    """What an ε leans on that holds only if not too many outlets work together."""
    claim = TRUST_MODELS["pooled"].words_of({}).claim  # the numbers are among what differs
    for label, pooled in ((label, run.pooled) for label, run in runs.items()):
        if pooled is not None:
            yield f"{label}: {claim} If everybody else does, ε {bound(pooled.alone)}."
