"""How the coordinator's runs stand: rounds, who is in, who is late and why.

Everything is read from the database and the run's folder, so it can be asked whether or not the
coordinator is running.

Example: `report(folder, database)` is what `presspool coordinator status --json` prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import NoResultFound

from presspool.common.base.errors import FolderError, InputError
from presspool.common.base.numbers import moment
from presspool.common.contract.cohorts import cohort_of
from presspool.common.contract.contract import Contract
from presspool.common.runs.result_file import read_result
from presspool.common.runs.results import RunResult
from presspool.common.runs.run_folder import RunFolder
from presspool.common.runs.shown_metrics import shown
from presspool.common.tasks.metric import Metric
from presspool.common.wire.envelope import task_id
from presspool.common.wire.update import FAILURES
from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
from presspool.server.coordinator.process import pid_of
from presspool.server.coordinator.run_queue import OPEN, Runs, Submitted
from presspool.server.database import Database
from presspool.server.membership.members import Members
from presspool.server.transport.mailbox import Mailbox


def report(folder: CoordinatorFolder, database: Database, *, run: str | None) -> dict[str, Any]:
    """The state of the coordinator and of one run, or of all.

    Raises:
        InputError: no such run.
    """
    runs = Runs(database)
    chosen = runs.all() if run is None else [runs.get(run)]
    return {
        "pool": folder.name,
        "address": folder.address,
        "running": pid_of(folder.path) is not None,
        "runs": [_run(folder.path, database, one) for one in chosen],
    }


def _run(home: Path, database: Database, run: Submitted) -> dict[str, Any]:
    folder = RunFolder(home / "runs" / run.id)
    contract = folder.read_contract()
    result = _result(folder)
    done = rounds_done(folder)
    last = result.final if result and result.rounds else None
    said: dict[str, Any] = {
        "run": run.id,
        "contract": run.contract,
        "state": run.state,
        "note": run.note,
        "submitted": moment(run.submitted),
        "ended": run.ended and moment(run.ended),
        "rounds_done": done,
        "rounds": contract.federation.rounds,
        "measures": [asdict(metric) for metric in result.measures] if result and last else [],
        "metrics": dict(last.figures) if last else {},
        "epsilon": result.epsilon if result else None,
        "folder": str(folder.path),
    }
    said["phase"] = phase_of(database, run, contract, done + 1)
    asked = cohort_of(contract, min(done + 1, contract.federation.rounds))
    said["outlets"] = open_round(database, run, asked, done + 1)
    return said


def phase_of(database: Database, run: Submitted, contract: Contract, number: int) -> str | None:
    """Where the open round stands, if it has more than one phase."""
    phases = contract.trust.phases_where(simulated=False)
    if len(phases) == 1 or run.state not in OPEN:
        return None
    at = Mailbox(database).phase(run.id, number)
    return f"{phases[at - 1]}, phase {at} of {len(phases)}"


def open_round(
    database: Database, run: Submitted, names: Sequence[str], number: int
) -> list[dict[str, Any]]:
    """Each outlet in the open round: answered, late, or not there, and what was refused of it."""
    if run.state not in OPEN:
        return []
    mailbox, present = Mailbox(database), Members(database).names()
    dropped = Runs(database).dropped(run.id)
    phase = mailbox.phase(run.id, number)
    tasks = {name: task_id(run.id, number, phase, name) for name in names}
    answered = mailbox.answered(tasks.values())
    asked = mailbox.asked(run.id, number, phase) or set(names)
    refused = {r.outlet: r.code for r in mailbox.refusals(run=run.id) if r.round == number}
    return [
        {
            "outlet": name,
            "refused": refused.get(name),
            "state": "dropped"
            if name in dropped
            else _answer(mailbox, tasks[name])
            if tasks[name] in answered
            else "missed an earlier phase"
            if name in present and name not in asked
            else "no answer yet"
            if name in present
            else "not a member",
        }
        for name in names
    ]


def _answer(mailbox: Mailbox, task: str) -> str:
    try:
        header, _ = mailbox.update(task)
    except NoResultFound:  # thrown away since it was counted: its round is over
        return "answered"
    return "answered" if header.failure is None else FAILURES[header.failure]


def rounds_done(folder: RunFolder) -> int:
    """How many rounds of a run are whole."""
    result = _result(folder)
    return len(result.rounds) - 1 if result else 0


def _result(folder: RunFolder) -> RunResult | None:
    try:
        return read_result(folder.path)
    except (FolderError, InputError):
        return None


def render(found: dict[str, Any], out: Console) -> None:
    """The report for people."""
    state = "running" if found["running"] else "not running: presspool coordinator start"
    out.print(f"{found['pool']} at {found['address']}: {state}")
    if not found["runs"]:
        out.print("no runs yet: presspool coordinator submit run.toml")
    for run in found["runs"]:
        out.print(
            f"\n{run['run']}: {run['state']}, {run['rounds_done']} of {run['rounds']} rounds"
            + _figures(run)
            + (f"; {run['note']}" if run["note"] else "")
        )
        if run["outlets"]:
            where = f"round {run['rounds_done'] + 1}"
            where += f": {run['phase']}" if run["phase"] else ""
            table = Table("outlet", where, "refused", box=box.SIMPLE)
            for line in run["outlets"]:
                table.add_row(line["outlet"], line["state"], line["refused"] or "")
            out.print(table)


def _figures(run: dict[str, Any]) -> str:
    values, epsilon = run["metrics"], run["epsilon"]
    metrics = shown([Metric(**one) for one in run["measures"]], [values])
    measured = bool(metrics) and values[metrics[0].name] is not None
    return (f", {metrics[0].said(values[metrics[0].name])}" if measured else "") + (
        f", ε {epsilon:.2f}" if epsilon is not None else ""
    )
