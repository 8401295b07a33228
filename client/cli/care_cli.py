"""`presspool outlet preview-redaction` and `outlet split`: an outlet's data, tended before a run.

Example: `presspool outlet split readers.csv --kept own.csv --held-out public.csv --share 0.1`.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from presspool.common.base.console import out, print_json, start_logging

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def preview_redaction(
    home: Annotated[Path, typer.Option(help="The outlet's folder, with outlet.toml.")] = Path(),
    task: Annotated[str, typer.Option(help="What the data is for.")] = "classification",
    rows: Annotated[int, typer.Option(min=0, max=100, help="Changed texts to show.")] = 5,
    as_json: Json = False,
) -> None:
    """Show what the [care] table's redaction would do to the first texts. Nothing is written.

    What is shown are your readers' own texts, before and after: nothing leaves this screen.

    Example: presspool outlet preview-redaction --rows 3
    """
    from dataclasses import asdict

    from presspool.client.agent import home as homes
    from presspool.client.data.care.redaction_preview import preview
    from presspool.client.data.check_data import task_named
    from presspool.client.data.query_sources import opened
    from presspool.common.base.foreign_text import visible

    settings, kind = homes.settings_in(home), task_named(task)
    with opened(settings.data, settings.home) as source:
        found = preview(
            source,
            columns=settings.columns,
            names=kind.columns_in(settings.columns.found(source, kind.columns)),
            care=settings.care,
            rows=rows,
        )
    if as_json:
        print_json(asdict(found))
        return
    for before, after in found.shown:
        out.print(f"- {visible(before)}")
        out.print(f"+ {visible(after)}")
    out.print(f"{found.changed:,} of the first {found.looked_at:,} texts would change")
    for name, count in found.kinds.items():
        out.print(f"  {name}: {count:,}")
    if found.failed:
        out.print(f"{found.failed:,} texts could not be read by it; an import leaves them out")


def split(
    file: Annotated[Path, typer.Argument(help="CSV, JSONL or Parquet, also gzipped.")],
    kept: Annotated[Path, typer.Option(help="New .csv or .jsonl: what stays readers' data.")],
    held_out: Annotated[Path, typer.Option(help="New .csv or .jsonl: to publish, no readers.")],
    share: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="By reader: share that is held out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="By reader: draws another share.")] = 0,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="By time: the first day that is held out."),
    ] = None,
    day: Annotated[str, typer.Option(help="By time: column of days or times.")] = "day",
    reader: Annotated[str, typer.Option(help="Column of reader ids.")] = "reader",
    as_json: Json = False,
) -> None:
    """Part data by reader or by time, to hold out a file that your newsroom may publish.

    All of a reader lie on one side, or all that happened since a day. The held-out file keeps every
    column but the reader's: look at it before you publish it, for texts may name people.

    Example: presspool outlet split readers.csv --kept own.csv --held-out public.csv --share 0.1

    Example: presspool outlet split a.csv --kept b.csv --held-out c.csv --since 2026-06-01
    """
    from dataclasses import asdict

    from presspool.client.data.care import splits
    from presspool.common.audit.evidence.audit_console import percents
    from presspool.common.base.errors import InputError

    start_logging(quiet=as_json)
    if (share is None) == (since is None):
        raise InputError("by reader or by time", expected="one of --share and --since")
    part = splits.by_day(since.date()) if since else splits.by_reader(share or 0.0, seed=seed)
    with percents("parting") as moved:
        made = splits.split(
            file,
            kept=kept,
            held_out=held_out,
            reader=reader,
            day=day if since else None,
            part=part,
            watch=moved,
        )
    if as_json:
        print_json(asdict(made))
        return
    out.print(f"{made.kept:,} records in {kept}")
    out.print(f"{made.held_out:,} in {held_out}, without readers")
    if made.dropped:
        out.print(f"left out: {made.dropped:,} that cannot be read or are nobody's")
