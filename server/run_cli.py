"""`presspool coordinator start / submit / status / stop`: what its operator types to run runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from presspool.common.console import out, print_json, start_logging

if TYPE_CHECKING:
    from presspool.server.coordinator import Submitted
    from presspool.server.desk import Desk

Home = Annotated[Path, typer.Option(help="The coordinator's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_HOME = Path("coordinator")


def start(
    home: Home = _HOME,
    phase: Annotated[
        float, typer.Option(min=1.0, help="Seconds that outlets have for a round.")
    ] = 3600.0,
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT to listen on, if not all addresses.")
    ] = None,
) -> None:
    """Serve outlets and submitted runs until stopped; go on where the last start ended.

    Example: presspool coordinator start --phase 1800
    """
    from presspool.server.coordinator import serve
    from presspool.server.coordinator_folder import CoordinatorFolder

    start_logging(quiet=False)
    serve(CoordinatorFolder.read(home), phase=phase, listen=listen)


def submit(
    run: Annotated[Path, typer.Argument(help="The run.toml.")],
    home: Home = _HOME,
    as_json: Json = False,
) -> None:
    """Freeze a run.toml and queue it; a run that was stopped goes on.

    Example: presspool coordinator submit run.toml
    """
    from presspool.common.run_file import freeze, read_run_file
    from presspool.common.run_folder import Setup
    from presspool.server.coordinator import submit as queue
    from presspool.server.coordinator_folder import CoordinatorFolder

    folder, file = CoordinatorFolder.read(home), read_run_file(run)
    data = file.evaluation
    setup = Setup() if data is None else Setup(
        evaluation=str(data.data.absolute()), text=data.text, label=data.label
    )  # fmt: skip
    queued = queue(folder.path, freeze(file.contract), setup)
    if as_json:
        print_json({"run": queued.id, "folder": str(queued.folder.path)})
    else:
        out.print(f"queued {queued.id}", soft_wrap=True)


def status(home: Home = _HOME, as_json: Json = False) -> None:
    """Show every run: its rounds, who has answered, and who is late and why.

    Example: presspool coordinator status
    """
    from presspool.server.coordinator import is_served, submitted
    from presspool.server.coordinator_folder import CoordinatorFolder
    from presspool.server.database import Database
    from presspool.server.desk import Desk

    folder = CoordinatorFolder.read(home)
    database = Database.open(folder.database)
    try:
        desk = Desk(database)
        runs = [_row(run, desk) for run in submitted(folder.path)]
    finally:
        database.close()
    served = is_served(folder.path)
    if as_json:
        print_json({"pool": folder.name, "serving": served, "runs": runs})
        return
    out.print(f"{folder.name} is {'serving' if served else 'not serving'}")
    for row in runs:
        out.print(f"{row['run']}: {row['state']}, round {row['round']} of {row['rounds']}",
                  soft_wrap=True)  # fmt: skip
        if row["why"]:
            out.print(f"  {row['why']}", markup=False, soft_wrap=True)
        if row["state"] == "running":
            out.print(f"  in: {', '.join(row['answered']) or 'nobody yet'}", soft_wrap=True)
            for name, why in row["waiting"].items():
                out.print(f"  late: {name}: {why}", soft_wrap=True)


def stop(home: Home = _HOME) -> None:
    """End the process that serves this coordinator; nothing is lost.

    Example: presspool coordinator stop
    """
    from presspool.server.coordinator import stop as end

    out.print("stopped" if end(home) else "nothing was serving")


def _row(run: Submitted, desk: Desk) -> dict[str, Any]:
    standing = desk.standing(run.id)
    begun = run.state == "queued" and standing.round > 0  # the first result is still to come
    return {
        "run": run.id, "state": "running" if begun else run.state, "why": run.why,
        "round": standing.round, "rounds": run.folder.read_contract().federation.rounds,
        "answered": list(standing.answered), "waiting": dict(standing.waiting),
    }  # fmt: skip
