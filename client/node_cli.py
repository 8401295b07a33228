"""`presspool outlet run | doctor`: an outlet's agent, and what could keep it from working."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from presspool.common.console import err, out, print_json, start_logging

if TYPE_CHECKING:
    from presspool.client.doctor import Check

Home = Annotated[Path, typer.Option(help="This outlet's folder.")]


def run(home: Home = Path()) -> None:
    """Work for the pool until Ctrl-C: fetch tasks, train on this outlet's readers, deliver.

    One process, one outgoing connection. Killed at any moment, the next start goes on from there.

    Example: presspool outlet run --home /var/lib/presspool
    """
    from presspool.client.agent import agent

    start_logging(quiet=False)
    with agent(home) as node:
        err.print("working; Ctrl-C stops", soft_wrap=True)
        node.run()


def doctor(
    home: Home = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check everything that this outlet needs, and say what to do about what is wrong.

    Nothing is trained or spent. Exit code 2 where something is wrong.

    Example: presspool outlet doctor --home /var/lib/presspool
    """
    from presspool.client.doctor import examine

    found = examine(home, now=time.time())
    if as_json:
        print_json([check.to_json() for check in found])
    else:
        for check in found:
            _show(check)
    if not all(check.good for check in found):
        raise typer.Exit(2)


def _show(check: Check) -> None:
    mark, style = ("ok", "green") if check.good else ("wrong", "red")
    out.print(f"{mark:<6}", style=style, end="")
    out.print(f"{check.name}: {check.found}", soft_wrap=True, markup=False)
    if not check.good and check.advice:
        out.print(f"      to do: {check.advice}", soft_wrap=True, markup=False)
