"""`presspool outlet run`: an outlet's agent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from presspool.common.base.console import err, start_logging

Home = Annotated[Path, typer.Option(help="This outlet's folder.")]


def run(home: Home = Path()) -> None:
    """Work for the pool until Ctrl-C: fetch tasks, train on this outlet's readers, deliver.

    One process, one outgoing connection. Killed at any moment, the next start goes on from there.

    Example: presspool outlet run --home /var/lib/presspool
    """
    from presspool.client.agent.assembly import agent
    from presspool.client.agent.fault_watch import FaultWatch

    start_logging(quiet=False)
    with agent(home) as working, FaultWatch(home, _loudly):
        err.print("working; Ctrl-C stops")
        working.run()


def _loudly(line: str) -> None:
    err.print(line, style="bold red")
