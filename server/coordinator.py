"""The coordinator's process: one port for all outlets, and the submitted runs, one after another.

A run is submitted by putting its frozen contract into a folder under `runs/`; the process looks
there, so that nothing but folders and the database is needed to go on after a kill.

Invariants:
    * Runs are served in the order in which they were submitted; a run that was interrupted goes on
      from its last whole round.
    * A run that fails says why in `stopped.json` and is left alone until it is submitted again.
    * One process serves a home.

Example: `serve(CoordinatorFolder.read(Path("coordinator")), phase=600.0, listen=None)`.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from presspool.common.contract import Contract
from presspool.common.errors import FolderError, InputError, PressPoolError
from presspool.common.files import replace_file
from presspool.common.results import read_result
from presspool.common.run_folder import RunFolder, Setup
from presspool.common.stopping import until_signalled
from presspool.common.tls import caller, server_credentials, split_address
from presspool.server import enrolment
from presspool.server.coordinator_folder import CoordinatorFolder
from presspool.server.database import Database
from presspool.server.desk import Desk
from presspool.server.grid import GrpcGrid
from presspool.server.members import Members
from presspool.server.pool_service import PoolService
from presspool.server.port import open_port

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two looks for submitted runs
_STOPPED, _LOCK = "stopped.json", "coordinator.pid"
_TRIES = 10

State = Literal["queued", "running", "stopped", "complete"]


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A run in a coordinator's home.

    Attributes:
        id: name and beginning of the contract's digest.
        folder: where it is.
        state: "queued" before its first result, "stopped" where it failed.
        why: the error that stopped it.
    """

    id: str
    folder: RunFolder
    state: State
    why: str = ""


def run_id(contract: Contract) -> str:
    """The id of a contract's run: equal contracts are one run."""
    return f"{contract.name[:40]}-{contract.digest.removeprefix('sha256:')[:12]}"


def submit(home: Path, contract: Contract, setup: Setup) -> Submitted:
    """Queue a run; one that failed goes on from where it stopped.

    Raises:
        InputError: the run is there already and has not failed, or with another setup.
        StorageError: the disk refuses.
    """
    name = run_id(contract)
    folder = RunFolder(home / "runs" / name)
    stopped = folder.path / _STOPPED
    if folder.contract_file.exists() and not stopped.exists():
        raise InputError("this run was submitted before", where=str(folder.path),
                         expected="a new contract, or a run that was stopped",
                         advice="change its name or seed for a run of its own")  # fmt: skip
    with folder.claim(contract, setup, resume=stopped.exists()):
        pass
    stopped.unlink(missing_ok=True)
    return Submitted(id=name, folder=folder, state="queued")


def submitted(home: Path) -> list[Submitted]:
    """All runs of a home, in the order of their submission."""
    files = (home / "runs").glob("*/contract.json")
    return [_read(file.parent) for file in sorted(files, key=lambda f: f.stat().st_mtime_ns)]


def serve(home: CoordinatorFolder, *, phase: float, listen: str | None) -> None:
    """Serve outlets and runs until SIGTERM or SIGINT.

    Args:
        home: the coordinator.
        phase: seconds that outlets have for a round.
        listen: host and port to listen on; None for all of this machine's addresses, at the port
            that outlets dial.

    Raises:
        FolderError: another process serves this home.
        InputError: the address cannot be listened on, or the database cannot be opened.
    """
    address = listen or f"[::]:{split_address(home.address, where='address')[1]}"
    with until_signalled(), _alone(home.path), _serving(home, address) as (desk, members):
        while True:
            waiting = (r for r in submitted(home.path) if r.state in ("queued", "running"))
            if (run := next(waiting, None)) is not None:
                _run(home, run, desk, members, phase)
            else:
                time.sleep(LOOK_SECONDS)


def stop(home: Path, *, seconds: float = 60.0) -> bool:
    """End the process that serves a home; whether there was one.

    Raises:
        PressPoolError: it does not end.
    """
    if not is_served(home):
        return False
    os.kill(int((home / _LOCK).read_text()), signal.SIGTERM)
    until = time.monotonic() + seconds
    while is_served(home):
        if time.monotonic() > until:
            raise PressPoolError("the coordinator does not end", where=str(home),
                                 advice="look at its log; killing it loses nothing")  # fmt: skip
        time.sleep(0.1)
    return True


def is_served(home: Path) -> bool:
    """Whether a process serves this home."""
    with (home / _LOCK).open("a+") as lock:
        return not _locked(lock, fcntl.LOCK_SH)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the home's lock, with this process's number in it."""
    with (home / _LOCK).open("a+") as lock:
        for _ in range(_TRIES):  # somebody may just be looking
            if _locked(lock, fcntl.LOCK_EX):
                break
            time.sleep(0.1)
        else:
            raise FolderError("another process serves this coordinator", where=str(home),
                              advice="presspool coordinator stop ends it")  # fmt: skip
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _locked(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def _serving(home: CoordinatorFolder, address: str) -> Iterator[tuple[Desk, Members]]:
    database = Database.open(home.database)
    members, desk = Members(database), Desk(database)
    desk.sweep()
    pool = PoolService(desk, member=lambda context: members.member(caller(context)))
    server, port = open_port(
        address, server_credentials(home.server, root=home.root.certificate),
        [pool.register, lambda server: enrolment.serve(server, members, home.root)],
    )  # fmt: skip
    log.info("%s serves its outlets on port %d", home.name, port)
    try:
        yield desk, members
    finally:
        pool.close()
        server.stop(2.0).wait()
        database.close()
        log.info("stopped; runs go on from where they are at the next start")


def _run(
    home: CoordinatorFolder, run: Submitted, desk: Desk, members: Members, phase: float
) -> None:
    """Run, or continue, one run; an error stops it and not the coordinator."""
    from presspool.server.rounds import run as run_rounds  # torch takes seconds; outlets may dial

    log.info("run %s", run.id)
    try:
        contract = run.folder.read_contract()
        grid = GrpcGrid(
            desk, run=run.id, key=home.contract, outlets=contract.outlets, members=members.names,
            phase=phase,
        )  # fmt: skip
        run_rounds(grid, run.folder)
    except PressPoolError as error:
        log.error("run %s is stopped: %s", run.id, error)
        replace_file(run.folder.path / _STOPPED, json.dumps({"why": str(error)}).encode())
    else:
        desk.finish(run.id)
        log.info("run %s is complete", run.id)


def _read(path: Path) -> Submitted:
    state: State = "queued"
    if (path / _STOPPED).exists():
        why = str(json.loads((path / _STOPPED).read_bytes())["why"])
        return Submitted(id=path.name, folder=RunFolder(path), state="stopped", why=why)
    if (path / "result.json").exists():
        state = "complete" if read_result(path).status == "complete" else "running"
    return Submitted(id=path.name, folder=RunFolder(path), state=state)
