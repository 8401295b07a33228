"""`presspool methods`: what a run would be with each method, and which are refused, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from presspool.common.base.console import out, print_json
from presspool.simulations.cli.researcher_cli import Json


def methods(
    run: Annotated[Path, typer.Argument(help="The run.toml.")],
    page: Annotated[
        Path | None, typer.Option(help="Markdown page whose section gets the tables.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare what can train: numbers, bytes a round, and how loud the run's noise would be.

    For the run file's base model, task, targets and ε; every method that is not offered says why.

    Example: presspool methods run.toml
    """
    from presspool.common.runs.run_file import freeze, read_run_file
    from presspool.simulations.doc_sections import write_section
    from presspool.simulations.planning.method_costs import compare_methods, noise_of
    from presspool.simulations.planning.methods_page import SECTION, markdown, render

    contract = freeze(read_run_file(run).contract, fetch=True)
    found, noise = compare_methods(contract), noise_of(contract)
    if page is not None:
        write_section(page, SECTION, markdown(found, noise))
    if as_json:
        costs = [cost.to_json() for cost in found]
        print_json({"name": contract.name, "noise": noise, "methods": costs})
        return
    render(found, noise, out)
