"""`presspool coordinator start | submit | status | stop | drop`: what keeps a pool's runs going."""

from __future__ import annotations

import os
import signal
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from presspool.common.base.console import err, out, print_json, start_logging
from presspool.server.cli.coordinator_cli import HOME, Home, Json, opened

if TYPE_CHECKING:
    from presspool.server.coordinator.coordinator_folder import CoordinatorFolder

_RUN = "its name, or the first letters of its id."
_SHORTEST_PHASE, _LONGEST_PHASE = 1.0, 30 * 86_400.0
_STOP_SECONDS = 60.0
_WARNING_DAYS = 180


def start(
    home: Home = HOME,
    listen: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT of this machine; the pool's address if not given. 0.0.0.0:PORT is "
            "every address that this machine has."
        ),
    ] = None,
    dashboard: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT of this machine for the dashboard; none if not given. Who may look: "
            "presspool coordinator viewer."
        ),
    ] = None,
) -> None:
    """Serve the outlets and work on the submitted runs, until Ctrl-C or `coordinator stop`.

    Killed at any moment, the next start goes on from there.

    Example: presspool coordinator start --home /var/lib/presspool
    """
    from presspool.common.base.stopping import until_signalled
    from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
    from presspool.server.coordinator.process import alone

    start_logging(quiet=False)
    folder = CoordinatorFolder.read(home)
    _warn_of_end(folder)
    at = listen or folder.address
    where = _said(at)
    from presspool.server.coordinator.coordinator import Coordinator  # torch, some seconds

    with until_signalled() as signalled, alone(home), _pages(folder, dashboard):
        coordinator = Coordinator(folder, listen=at)
        signalled.then(coordinator.stop)
        err.print(f"{folder.name} at {folder.address}: serving; Ctrl-C stops")
        err.print(where)
        coordinator.serve()


def _said(listen: str) -> str:
    """Where the port is, in words that nobody takes for less than it is."""
    import ipaddress
    from contextlib import suppress

    from presspool.common.pki.tls import split_address

    host, port = split_address(listen, where="--listen")
    with suppress(ValueError):  # a name
        if ipaddress.ip_address(host).is_unspecified:
            return f"listening at every address of this machine, port {port}: {listen}"
    return f"listening at {listen} alone"


def _warn_of_end(folder: CoordinatorFolder) -> None:
    """Say in time that nobody will be able to connect any more."""
    from presspool.common.pki.certificates import read_certificate

    for what, pem in (("port", folder.server.certificate), ("root", folder.root.certificate)):
        days = (read_certificate(pem).ends - time.time()) / 86_400
        if days < _WARNING_DAYS:
            err.print(
                f"the certificate of the {what} ends in {days:.0f} days; for the port's: presspool "
                "coordinator reissue; when the root ends, the pool has to be made anew",
                style="yellow",
            )


def _pages(folder: CoordinatorFolder, listen: str | None) -> AbstractContextManager[object]:
    """The dashboard beside the coordinator, if it is wanted."""
    if listen is None:
        return nullcontext()
    from presspool.common.audit.cli.ui_cli import require_extra

    require_extra()
    from presspool.server.coordinator.coordinator_dashboard import dashboard

    return dashboard(folder, listen=listen)


def submit(
    run: Annotated[Path, typer.Argument(help="The run.toml.")],
    phase: Annotated[
        float, typer.Option(help="Seconds that outlets have for a round before it is judged.")
    ] = 3600.0,
    home: Home = HOME,
    as_json: Json = False,
) -> None:
    """Freeze a run.toml's contract and queue the run; outlets that miss a round join the next.

    Example: presspool coordinator submit run.toml --phase 1800
    """
    from presspool.common.base.errors import InputError
    from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
    from presspool.server.coordinator.submission import submit as queue

    if not _SHORTEST_PHASE <= phase <= _LONGEST_PHASE:
        raise InputError(
            "length of a phase",
            where="--phase",
            got=phase,
            expected=f"{_SHORTEST_PHASE:g} to {_LONGEST_PHASE:,.0f} seconds",
        )
    queued = queue(CoordinatorFolder.read(home), run, phase=phase)
    if as_json:
        print_json(
            {
                "run": queued.id,
                "contract": queued.contract,
                "not_members": queued.missing,
                "folder": str(queued.folder),
            }
        )
        return
    out.print(f"{queued.id}: queued; contract {queued.contract}")
    if queued.missing:
        err.print("not members yet: " + ", ".join(queued.missing))


def status(
    run: Annotated[str | None, typer.Argument(help=f"Only this run: {_RUN}")] = None,
    home: Home = HOME,
    as_json: Json = False,
) -> None:
    """Show the runs: rounds, who has answered, who is late and why.

    Example: presspool coordinator status --json
    """
    from presspool.server.coordinator.status import render, report

    with opened(home) as (folder, database):
        found = report(folder, database, run=run)
    print_json(found) if as_json else render(found, out)


def stop(
    run: Annotated[
        str | None,
        typer.Argument(help=f"A run to give up: {_RUN} The coordinator itself if not given."),
    ] = None,
    home: Home = HOME,
) -> None:
    """Give up a run, or end the coordinator (its runs go on at the next start).

    Example: presspool coordinator stop spring
    """
    from presspool.server.coordinator.coordinator_folder import CoordinatorFolder

    if run is None:
        folder = CoordinatorFolder.read(home)
        _end(home)
        out.print(f"{folder.name}: the coordinator has ended")
    else:
        given_up = _give_up(home, run)
        out.print(
            f"{given_up}: stopped; what outlets have reserved for it stays spent until each types "
            "presspool outlet end"
        )


def drop(
    run: Annotated[str, typer.Argument(help=_RUN)],
    outlet: Annotated[str, typer.Argument(help="The outlet, as the contract calls it.")],
    reason: Annotated[str, typer.Option(help="Why, for the pool's records.")],
    home: Home = HOME,
    as_json: Json = False,
) -> None:
    """Leave an outlet out of a run's open round and all later ones, answers that are in included.

    For good; the outlet stays a member. What earlier rounds averaged of it stays in the adapter.

    Example: presspool coordinator drop spring-0a1b2c3d4e5f daily-bugle --reason "wrong readers"
    """
    from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
    from presspool.server.coordinator.submission import drop as leave_out

    left, within = leave_out(CoordinatorFolder.read(home), run, outlet, reason)
    if as_json:
        print_json({"run": left, "dropped": outlet, "rounds_with_it": within})
        return
    out.print(f"{left}: {outlet} is out of the open round and all later ones")
    if within:
        rounds = ", ".join(map(str, within))
        err.print(
            f"its updates are in the adapter of round {rounds} and stay there: to be rid of them, "
            "stop the run and submit a new contract without the outlet"
        )


def _end(home: Path) -> None:
    from presspool.common.base.errors import InputError, PressPoolError
    from presspool.server.coordinator.process import pid_of

    pid = pid_of(home)
    if pid is None:
        raise InputError("no coordinator is running", where=str(home))
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while pid_of(home) == pid:
        if time.monotonic() > deadline:
            raise PressPoolError(
                "the coordinator does not end",
                where=f"process {pid}",
                advice="kill it: nothing is lost, its runs go on at the next start",
            )
        time.sleep(0.1)


def _give_up(home: Path, name: str) -> str:
    from presspool.common.base.errors import InputError
    from presspool.server.coordinator.run_queue import Runs
    from presspool.server.transport.mailbox import Mailbox

    with opened(home) as (_, database):
        runs = Runs(database)
        run = runs.get(name).id
        if not runs.mark(run, "stopped", "by the operator"):
            raise InputError("the run has ended already", where=run, got=runs.get(run).state)
        Mailbox(database).suspend(run)  # also where no coordinator runs that would do it
        return run
