"""The `presspool` command: puts the parts together, importing each only when it is asked for."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from presspool import __version__
from presspool.client.cli.agent_cli import run
from presspool.client.cli.doctor_cli import doctor
from presspool.client.cli.join_cli import join
from presspool.client.cli.outlet_cli import outlet
from presspool.common.audit.cli.audit_cli import audit
from presspool.common.base.console import guarded
from presspool.server.cli.contract_cli import contract
from presspool.server.cli.coordinator_cli import coordinator
from presspool.server.cli.run_cli import start, status, stop, submit
from presspool.simulations.attack.attack_cli import attack
from presspool.simulations.experiments.experiment_cli import app as experiment
from presspool.simulations.researcher_cli import bench, compare, demo, simulate, tune

app = typer.Typer(
    name="presspool",
    help="Media outlets fine-tune one language model together; readers' data never leaves them.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(outlet, name="outlet")
outlet.command()(join)
outlet.command()(run)
outlet.command()(doctor)
app.add_typer(coordinator, name="coordinator")
for action in (start, submit, status, stop):
    coordinator.command()(action)
app.add_typer(contract, name="contract")
app.add_typer(audit, name="audit")
audit.command()(attack)
app.add_typer(bench, name="bench")
app.add_typer(experiment, name="experiment")
for command in (demo, simulate, compare, tune):
    app.command()(command)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"presspool {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Media outlets fine-tune one language model together; readers' data never leaves them."""


def main() -> None:
    """Entry point: exit code 0 fine, 1 the work failed, 2 wrong usage or bad input."""
    sys.exit(guarded(app))


if __name__ == "__main__":
    main()
