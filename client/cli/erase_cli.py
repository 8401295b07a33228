"""`presspool outlet erase`: a reader's right, as the operator carries it out.

Example: `presspool outlet erase reader-4711 --dry-run`, then the same without `--dry-run`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from presspool.common.base.console import out, print_json, start_logging


def erase(
    reader: Annotated[str, typer.Argument(help="The reader's id; - reads it from standard input.")],
    home: Annotated[Path, typer.Option(help="The outlet's folder, with outlet.toml.")] = Path(),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; it names no reader.")
    ] = False,
) -> None:
    """Remove a reader's records, leave the reader out of all later runs, list the runs concerned.

    READER is the id as it stands in the data; - takes it from standard input, so that it stands in
    no shell's history. Differential privacy bounds a reader's influence and does not remove it; no
    budget comes back. Exit code 1 if the records could not be removed; the reader is left out all
    the same.

    Example: presspool outlet erase reader-4711 --dry-run
    """
    from presspool.client.agent import erasure
    from presspool.common.audit.evidence.audit_console import percents

    start_logging(quiet=as_json)
    identity = sys.stdin.readline().rstrip("\r\n") if reader == "-" else reader
    with percents("removing") as moved:
        found = erasure.erase(home, identity, dry_run=dry_run, watch=moved)
    if as_json:
        print_json(found)
    else:
        _show(found)
    if any(row["obstacle"] is not None for row in found["files"]):
        raise typer.Exit(1)


def _show(found: dict[str, Any]) -> None:
    """The document in words."""
    for line in _lines(found):
        out.print(line)


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [_excluded(found)]
    for row in found["files"]:
        lines += _records(row, dry_run=found["dry_run"])
    if not found["runs"]:
        lines.append("no run is known in which the reader could have been drawn")
    for row in found["runs"]:
        lines.append(f"could have been drawn in {_run(row)}")
        lines += [
            f"  adapter {a['digest']} (round {a['round']} began with it)" for a in row["adapters"]
        ]
        if row["rounds_released"]:
            lines.append("  and the run's final adapter, which its coordinator names")
    lines += [f"nobody noted who was eligible in {_run(row)}" for row in found["runs_nobody_noted"]]
    return [*lines, found["statement"]]


def _excluded(found: dict[str, Any]) -> str:
    if found["dry_run"]:
        return "the reader would be left out of every round begun from then on"
    before = " (and was before)" if found["excluded_before"] else ""
    return f"the reader is left out of every round begun from now on{before}"


def _records(row: dict[str, Any], *, dry_run: bool) -> list[str]:
    """What was done to a file, and what stays in it."""
    if row["records"] is None:
        return [f"NOT REMOVED: {row['file']}: {row['obstacle']}. Only the exclusion holds"]
    lines = [_removed(row, dry_run=dry_run)]
    if count := row["unreadable_records"]:
        verbs = (
            "record cannot be read and stays" if count == 1 else "records cannot be read and stay"
        )
        lines.append(f"{count} {verbs}: look whether one is the reader's")
    return lines


def _removed(row: dict[str, Any], *, dry_run: bool) -> str:
    count = "1 record" if row["records"] == 1 else f"{row['records']} records"
    if not row["records"]:
        return (
            f"{row['file']} holds no record of this id; should it come back in a later "
            "export, it is left out"
        )
    if row["obstacle"]:
        return (
            f"NOT REMOVED: {row['file']} still holds {count}: "
            f"{row['obstacle']}. Remove them where the file comes from"
        )
    verb = "would be removed" if dry_run else "removed"
    return f"{count} {verb} in {row['file']}; all others are as they were"


def _run(row: dict[str, Any]) -> str:
    rounds = ", ".join(map(str, row["rounds_released"])) or "none"
    return f"{row['run']} ({row['day'] or 'not in the ledger'}), rounds released: {rounds}"
