"""How what `check-data` found is shown on the operator's console.

Invariant: every report ends with the word that it is for the operator's screen alone.

Example: `render(check(...), Console())`.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SQUARE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from presspool.client.data.check_data import DataReport
from presspool.common.data.table_refusals import LISTED

FOOTER = (
    "For your screen only: these are exact counts of your readers. "
    "No part of them is sent to anybody; do not pass them on."
)

ACROSS = (
    "Texts that several readers have are counted, and kept: leaving one out would let one reader's "
    "record decide about another's, and nobody's protection would hold."
)
SHOWN = 60  # characters of an unknown value
LABEL_ROWS = 40  # labels shown; the JSON has all


def render(report: DataReport, console: Console) -> None:
    """Draws the report on the operator's console."""
    labels = [_table("Labels", _label_rows(report), "records", "share")] if report.labels else []
    for table in (
        _table("Readers' data", _facts(report)),
        _table("Lengths", _lengths(report), "min", "median", "95 %", "max"),
        _table("Texts", _texts(report), "texts", "share"),
        *labels,
        _table("What a run would leave out", _losses(report), "records", "share"),
    ):
        console.print(table, "")
    for warning in _warnings(report):
        console.print(Text(warning), "", soft_wrap=False)
    console.print(Text(FOOTER, style="bold yellow"))


def _texts(report: DataReport) -> Sequence[tuple[str, ...]]:
    """Scripts, and what looks broken."""
    found = report.texts
    rows = {f"with {script} letters": count for script, count in found.scripts.items()}
    rows |= {
        "with letters of another script only": found.other,
        "that look garbled (their encoding was mistaken)": found.garbled,
        "with a replacement character (something was lost)": found.replaced,
        "with NUL, the character 0 (a broken export?)": found.nul,
    }
    return [(name, *_share(n, report.records)) for name, n in rows.items() if n]


def _warnings(report: DataReport) -> Sequence[str]:
    """What the operator should think about, in sentences."""
    said, share = [_unknown(report, name) for name in report.unknown], report.texts.unknown_share
    if report.duplicates_across:
        said.append(ACROSS)
    if share is not None:
        said.append(f"The run's base model does not know {share:.1%} of the texts' tokens.")
    if report.texts.strange:
        said.append(
            "Most of what it reads is [UNK]: this base is for other languages or scripts than "
            "these texts. Ask for a run with a base model that knows them."
        )
    return said


def _unknown(report: DataReport, name: str) -> str:
    """Which values of a column the run does not know, the most frequent first."""
    found = report.unknown[name]
    shown = ", ".join(f"{_short(value)} ({n:,})" for value, n in list(found.items())[:LISTED])
    rest = f" and {len(found) - LISTED:,} more" if len(found) > LISTED else ""
    guess = f" Did you mean {report.guesses[name]!r}?" if report.guesses[name] else ""
    return (
        f"Values of column {name!r} that the run does not know, and how many records have them: "
        f"{shown}{rest}.{guess}"
    )


def _short(value: str) -> str:
    """A value in quotes, of a long one its beginning: a text's tags, say."""
    return repr(value if len(value) <= SHOWN else value[:SHOWN] + "…")


def _facts(report: DataReport) -> Sequence[tuple[str, ...]]:
    similar = (
        []
        if report.similar_within is None
        else [("the same, or nearly so", f"{report.similar_within:,}")]
    )
    return [
        ("readers", f"{report.readers:,}"),
        ("records", f"{report.records:,}"),
        ("texts a reader has twice or more", f"{report.duplicates_within:,}"),
        *similar,
        ("texts that another reader has too", f"{report.duplicates_across:,}"),
        *((f"copies by {how}, among them", f"{n:,}") for how, n in report.copied.items()),
        (
            f"readers with more than {report.records_per_reader:,} {_noun(report)}",
            f"{report.readers_capped:,}",
        ),
    ]


def _lengths(report: DataReport) -> Sequence[tuple[str, ...]]:
    spreads = {
        "records a reader": report.records_a_reader,
        "characters a text": report.characters,
        "words a text": report.words,
        "tokens a text": report.tokens,
    }
    return [
        (name, *(f"{n:,.10g}" for n in (s.minimum, s.median, s.p95, s.maximum)))
        for name, s in spreads.items()
        if s is not None
    ]


def _label_rows(report: DataReport) -> Sequence[tuple[str, ...]]:
    ranked = sorted(report.labels.items(), key=lambda item: -item[1])
    rows = [(_printable(name), *_share(n, report.records)) for name, n in ranked[:LABEL_ROWS]]
    rest = [n for _, n in ranked[LABEL_ROWS:]]
    return rows + ([(f"{len(rest)} more", *_share(sum(rest), report.records))] if rest else [])


def _losses(report: DataReport) -> Sequence[tuple[str, ...]]:
    met = report.records + sum(report.dropped.values())
    rows = [
        (f"dropped: {why}{_place(report, why)}", *_share(n, met))
        for why, n in report.dropped.items()
    ]
    cap = f"beyond {report.records_per_reader:,} {_noun(report)} a reader, in one step"
    rows.append((cap, *_share(report.records_cut, report.records)))
    if report.records_truncated is not None:
        name = f"longer: {report.cut}"
        rows.append((name, *_share(report.records_truncated, report.records)))
    return rows


def _place(report: DataReport, reason: str) -> str:
    """Where the first records are that were left out for a reason."""
    if lines := report.lines.get(reason):
        return f", first in line {', '.join(map(str, lines))}"
    return f", first in record {report.first[reason]}" if reason in report.first else ""


def _noun(report: DataReport) -> str:
    return "record" if report.records_per_reader == 1 else "records"


def _share(count: int, total: int) -> tuple[str, str]:
    # Of what a record may have several, as candidates, there is no share of the records.
    return f"{count:,}", f"{count / total:.1%}" if count <= total else ""


def _printable(name: str) -> str:
    """The name, with escapes where a terminal would obey it instead of showing it."""
    return name if name.isprintable() else repr(name)


def _table(title: str, rows: Sequence[tuple[str, ...]], *heads: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SQUARE, show_header=bool(heads)
    )
    table.add_column(overflow="fold")  # a long label goes on below, whole
    for head in heads or [""]:
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))  # Text: a label may look like console markup
    return table
