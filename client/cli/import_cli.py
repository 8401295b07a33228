"""`presspool outlet import`: the outlet's data frozen, before it joins a run.

Example: `presspool outlet import --home /var/lib/presspool`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from presspool.common.base.console import out, print_json, start_logging

if TYPE_CHECKING:
    from presspool.client.data.snapshots import Manifest
    from presspool.client.identity.data_table import DataTable


def import_data(
    home: Annotated[Path, typer.Option(help="The outlet's folder, with outlet.toml.")] = Path(),
    task: Annotated[
        str, typer.Option(help="What the data is for: its columns are taken over.")
    ] = "classification",
    drop_damaged: Annotated[
        bool,
        typer.Option(
            "--drop-damaged",
            help="Leave out records that cannot be read or used or have no reader; say which.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Freeze the data that outlet.toml names; rounds are trained on this snapshot alone.

    Every record is judged by itself. A damaged one is refused with its line, or left out with
    --drop-damaged; a CSV file whose quotes do not close is always refused, because no one can say
    where its records end. Erased readers are left out. Import again whenever the data has changed,
    and not because of what a run did. Nothing leaves this screen.

    With a [data] table in outlet.toml the records are read from a database or from Parquet files,
    within its window, consent and cap; the ledger gets an entry that says so, and nothing of the
    data.

    A [care] table in outlet.toml leaves out what a reader has told already, replaces personal data
    (presspool outlet preview-redaction shows it first) and keeps a column of days. [care.augment]
    adds copies for readers who have few records.

    With --task generation the file's columns say the format: text; prompt and answer; article
    and summary; or messages.

    Example: presspool outlet import --home /var/lib/presspool

    Example: presspool outlet import --task generation --drop-damaged
    """
    from presspool.client.agent import home as homes
    from presspool.client.agent.outlet_making import import_into
    from presspool.common.audit.evidence.audit_console import percents

    start_logging(quiet=as_json)
    settings, snapshot = homes.settings_in(home), homes.snapshot_in(home)
    with percents("importing") as moved:
        made = import_into(home, settings, task=task, drop_damaged=drop_damaged, moved=moved)
    if as_json:
        print_json(
            {
                "snapshot": str(snapshot),
                **made.model_dump(mode="json", exclude={"opening": {"nonce"}}),
            }
        )
    else:
        _show(snapshot, settings.data, made)


def _show(snapshot: Path, source: Path | str | DataTable, made: Manifest) -> None:
    lines = [f"{made.records:,} records of {source} are frozen in {snapshot}"]
    for reason, count in made.dropped.items():
        first = ", ".join(map(str, made.lines.get(reason, ())))
        lines.append(
            f"left out: {count:,} {reason}" + (f", first in line {first}" if first else "")
        )
    lines += [f"replaced: {count:,} {kind}" for kind, count in made.redacted.items()]
    lines += [f"copies among them: {count:,} by {how}" for how, count in made.copied.items()]
    lines.append(f"presspool outlet check-data {snapshot} shows what a run would make of them")
    for line in lines:
        out.print(line)
