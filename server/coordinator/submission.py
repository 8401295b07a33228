"""What an operator's commands do to runs: submit one, drop an outlet from one.

From a `run.toml` to a queued run: everything is checked first, then the folder, then the queue.

A contract is one run, for ever: outlets reserve budget for a contract once and refuse it when it is
over. So a run is named by its contract; submitting it again continues it if it failed.

Example: `submit(folder, Path("run.toml"), phase=3600.0).id`.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from presspool.common.base.errors import InputError
from presspool.common.contract.buffers import refuse_waiting
from presspool.common.contract.contract import Contract
from presspool.common.models.models import build
from presspool.common.runs.run_file import freeze, read_run_file
from presspool.common.runs.run_folder import RunFolder, Setup
from presspool.common.secagg.secagg_plan import require_sums
from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
from presspool.server.coordinator.run_queue import LONGEST_NAME, Runs
from presspool.server.database import Database
from presspool.server.membership.members import Members
from presspool.server.rounds import round_checkpoint as checkpoints
from presspool.server.transport.mailbox import Mailbox

_LONGEST_REASON = 500


@dataclass(frozen=True, kw_only=True)
class Queued:
    """A run that was queued.

    Attributes:
        id: its name at this coordinator.
        contract: digest of its frozen contract.
        folder: where its results will be.
        missing: outlets of the contract that are not members.
    """

    id: str
    contract: str
    folder: Path
    missing: list[str]


def submit(home: CoordinatorFolder, file: Path, *, phase: float) -> Queued:
    """Freeze the contract of a run file and queue the run.

    Args:
        home: the coordinator's.
        file: the run.toml; its [simulation] table is not used.
        phase: seconds that outlets have for a round.

    Raises:
        InputError: anything wrong with run file, model or held-out data, or the run is there
            and has not failed; nothing was queued.
        StorageError: the disk refuses.
    """
    run = read_run_file(file)
    contract, evaluation = freeze(run.contract, fetch=True), run.evaluation
    refuse_waiting(contract, "no buffer over a network")
    if contract.trust.masked is not None:
        require_sums(contract)
    build(contract)  # what the run would only meet later, and before the data that it judges
    if evaluation:
        evaluation.records(contract)
    setup = evaluation.setup() if evaluation else Setup()
    with closing(Database.open(home.database)) as database:
        runs, name = Runs(database), _run_id(contract)
        _require_new(runs, name)
        folder = RunFolder(home.path / "runs" / name)
        with folder.claim(contract, setup, resume=folder.contract_file.exists()):
            pass
        runs.submit(name, contract=contract.digest, phase=phase)
        missing = sorted(set(contract.outlets) - Members(database).names())
    return Queued(id=name, contract=contract.digest, folder=folder.path, missing=missing)


def drop(home: CoordinatorFolder, run: str, outlet: str, reason: str) -> tuple[str, list[int]]:
    """Leave an outlet's answers out of a run's open round and all later ones.

    Returns:
        The run's id, and the rounds that were averaged with an update of the outlet, which stay as
        they are.

    Raises:
        InputError: no such run, it is complete, or the outlet is not in it (any more).
    """
    require_reason(reason)
    with closing(Database.open(home.database)) as database:
        runs = Runs(database)
        run = runs.get(run).id
        folder = RunFolder(home.path / "runs" / run)
        contract = folder.read_contract()
        if outlet not in contract.outlets:
            raise InputError(
                "no such outlet in the run",
                where=run,
                expected=", ".join(contract.outlets),
                got=ascii(outlet),
            )
        runs.drop(run, outlet, reason)
        Mailbox(database).leave_out(run, outlet)
    point = checkpoints.load(folder.checkpoint, digest=contract.digest)
    return run, [done.round for done in point.rounds if outlet in done.outlets] if point else []


def require_reason(reason: str) -> None:
    """Raise `InputError` unless this is a line that can be shown as the reason of an act."""
    if not reason.strip() or len(reason) > _LONGEST_REASON or not reason.isprintable():
        raise InputError(
            "reason",
            where="--reason",
            got=f"{len(reason)} characters",
            expected=f"a line of 1 to {_LONGEST_REASON} characters",
        )


def _run_id(contract: Contract) -> str:
    return f"{contract.name[:LONGEST_NAME]}-{contract.digest.removeprefix('sha256:')[:12]}"


def _require_new(runs: Runs, name: str) -> None:
    states = {run.id: run.state for run in runs.all()}
    if states.get(name, "failed") not in ("failed", "stopped"):
        raise InputError(
            "this run was submitted before",
            where=name,
            got=states[name],
            expected="a new contract, or a run that failed or was stopped",
            advice="change its name or seed for a run of its own",
        )
