"""`presspool contract …`: what a coordinator's operator types before a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from presspool.common.base.console import out, print_json


def check(
    run: Annotated[Path, typer.Argument(help="The run.toml.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a run.toml, freeze it, and say what it will cost a reader, and what was filled in.

    What a simulation would miss of the files that [simulation] and [evaluation] name is said at the
    end. They are no part of the contract, so this is no fault of it: exit code 0 all the same.

    Example: presspool contract check run.toml
    """
    from presspool.common.runs.named_files import missing
    from presspool.common.runs.run_file import freeze, read_run_file
    from presspool.server.cli.contract_summary import render, summarise

    file = read_run_file(run)
    summary = summarise(freeze(file.contract, fetch=True), defaults=file.defaults)
    faults = missing(file)
    if as_json:
        print_json(summary | {"missing": {table: str(fault) for table, fault in faults.items()}})
        return
    render(summary, out)
    for table, fault in faults.items():
        said = f"\n{table} is no part of the contract, but a simulation would stop here:\n{fault}"
        out.print(said, style="bold yellow")
