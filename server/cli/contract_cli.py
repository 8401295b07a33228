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

    Example: presspool contract check run.toml
    """
    from presspool.common.runs.run_file import freeze, read_run_file
    from presspool.server.cli.contract_summary import render, summarise

    file = read_run_file(run)
    summary = summarise(freeze(file.contract, fetch=True), defaults=file.defaults)
    print_json(summary) if as_json else render(summary, out)
