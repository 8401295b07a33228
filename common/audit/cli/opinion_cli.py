"""`presspool opinion`: public opinion over time, from noised counts or released predictions.

Invariant: a page is written whole or not at all, and never over a file that is there.

Example: `presspool opinion labels.csv --days headlines.csv --day published --out opinion.html`.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from presspool.common.base.console import out, print_json

if TYPE_CHECKING:
    from presspool.common.audit.pages.opinion_page import OpinionView
    from presspool.common.released.opinion_series import Periods


def opinion(
    file: Annotated[
        Path,
        typer.Argument(help="What `outlet count` wrote (.json), or predictions (.csv, .jsonl)."),
    ],
    output: Annotated[Path | None, typer.Option("--out", help="New .html page to write.")] = None,
    days: Annotated[
        Path | None,
        typer.Option(help="Predictions: the file that was asked about, where the days stand."),
    ] = None,
    day: Annotated[str, typer.Option(help="Predictions: column of days or times.")] = "day",
    label: Annotated[str, typer.Option(help="Predictions: column of labels.")] = "label",
    by: Annotated[
        Literal["day", "week", "month"], typer.Option(help="Predictions: length of a period.")
    ] = "month",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how shares of labels went over time, each with its interval; write a page of it.

    Predictions of a released adapter cost readers nothing more, but the texts are counted exactly:
    give texts that your newsroom may publish, never readers' own.

    Example: presspool opinion counts/mood-spring.json --out mood.html

    Example: presspool opinion labels.csv --days headlines.csv --day published --by week
    """
    from dataclasses import asdict

    from presspool.common.audit.evidence.audit_console import require_new
    from presspool.common.audit.pages.opinion_page import render_opinion
    from presspool.common.base.files import replace_file

    if output is not None:
        require_new(output, "--out")
    if file.suffix == ".json":
        view = _counted(file)
    else:
        view = _predicted(file, days or file, joined=days is not None, day=day, label=label, by=by)
    if output is not None:
        replace_file(output, render_opinion(view).encode())
    if as_json:
        document = asdict(view)
        document["series"] = [asdict(p) | {"start": p.start.isoformat()} for p in view.series]
        print_json(document)
        return
    out.print(view.statement)
    for period in view.series:
        said = (
            f"{name} {share.text if share else 'too little is known'}"
            for name, share in zip(view.labels, period.shares, strict=True)
        )
        moved = f"  moved {period.moved.text}" if period.moved else ""
        out.print(f"{period.start}  {'; '.join(said)}{moved}")
    if output is not None:
        out.print(f"wrote {output}")


def _counted(file: Path) -> OpinionView:
    from presspool.common.audit.pages.opinion_page import OpinionView
    from presspool.common.released.counts_document import CountsDocument

    found = CountsDocument.read(file)
    return OpinionView(
        title=found.name,
        labels=found.labels,
        series=found.series,
        what="readers",
        statement=found.statement,
        interval="of the noise: how far the readers' own share may lie from the one shown",
    )


def _predicted(
    file: Path, dated: Path, *, joined: bool, day: str, label: str, by: str
) -> OpinionView:
    from presspool.common.audit.pages.opinion_page import OpinionView
    from presspool.common.base.errors import DataError
    from presspool.common.data.table_refusals import require_columns
    from presspool.common.data.tables import read_table
    from presspool.common.released.opinion_series import of_predictions

    require_columns(file, [label], advice="say where the labels stand: --label COLUMN")
    require_columns(dated, [day], advice="say where the days stand: --days FILE --day COLUMN")
    said = read_table(file, {"label": label} | ({"row": "row"} if joined else {}))
    labels = said["label"].to_pylist()
    texts = read_table(dated, {"day": day})["day"].to_pylist()
    if joined:
        rows = [str(number) for number in range(1, len(texts) + 1)]
        if said["row"].to_pylist() != rows:
            raise DataError(
                "these predictions are not of that file",
                where="--days",
                expected=f"rows 1 to {len(texts)}, each once, as `presspool predict` numbers them",
                got=f"{len(labels)} rows",
            )
    dates = [_day(text, dated, number) for number, text in enumerate(texts, 1)]
    periods = _periods(min(dates), max(dates), by)
    names = sorted(set(labels))
    return OpinionView(
        title=file.stem,
        labels=names,
        series=of_predictions(zip(dates, labels, strict=True), labels=names, periods=periods),
        what="texts",
        statement=f"{len(labels):,} predictions by day, from {file.name}. The adapter's own "
        "statement says what training cost its readers; asking it costs them nothing more. The "
        "texts themselves are counted exactly.",
        interval="of the sample (Wilson): how far the share among all such texts may lie from "
        "the one shown. That the model errs is not in them",
    )


def _day(text: str, file: Path, number: int) -> date:
    from presspool.common.base.errors import DataError

    try:
        return date.fromisoformat(text.strip()[:10])
    except ValueError:
        raise DataError(
            "a row without a day",
            where=f"{file}, row {number}",
            expected="a day or time that begins as 2026-01-31",
            got=text[:40],
            advice="say which column holds the days: --day COLUMN",
        ) from None


def _periods(first: date, last: date, by: str) -> Periods:
    """The calendar's periods from the first day's to the last day's."""
    from datetime import timedelta

    from presspool.common.base.errors import DataError
    from presspool.common.released.opinion_series import Periods

    kinds: dict[str, Any] = {"day": first, "month": first.replace(day=1)}
    start = kinds.get(by, first - timedelta(days=first.weekday()))
    if by == "month":
        count = (last.year - start.year) * 12 + last.month - start.month + 1
    else:
        count = (last - start).days // (7 if by == "week" else 1) + 1
    if count > 1000:
        raise DataError("too many periods", where="--by", expected="at most 1000", got=count)
    return Periods(first=start, count=count, by=by)  # type: ignore[arg-type]
