"""`presspool plan`: what a run would be under both trust models, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from presspool.common.base.console import out, print_json
from presspool.simulations.cli.researcher_cli import Json


def plan(
    run: Annotated[Path, typer.Argument(help="The run.toml.")],
    colluders: Annotated[
        int | None,
        typer.Option(
            min=0,
            show_default=False,
            help="Outlets that may work together with the coordinator; default the run's own, or a "
            "fifth, at least one.",
        ),
    ] = None,
    dropouts: Annotated[
        int | None,
        typer.Option(
            min=0,
            show_default=False,
            help="Outlets that may be missing from a step; default the run's own, or a tenth.",
        ),
    ] = None,
    out_folder: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for a plot as SVG and PNG; needs the extra `plots`."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare noise that every outlet adds for itself with noise that the pool shares.

    For the run file's outlets, readers and ε: noise, what a reader is told, bytes, and which would
    pay. Pools train with local noise in this version; simulations with both.

    Example: presspool plan run.toml --colluders 4 --dropouts 2
    """
    from presspool.common.runs.run_file import freeze, read_run_file
    from presspool.simulations.planning.trust_comparison import compare_trust
    from presspool.simulations.planning.trust_page import draw, render
    from presspool.simulations.plots import require_plots

    if out_folder is not None:
        require_plots()
    contract = freeze(read_run_file(run).contract, fetch=True)
    found = compare_trust(contract, colluders=colluders, dropouts=dropouts)
    paths = draw(found, out_folder) if out_folder is not None else []
    if as_json:
        print_json({**found.to_json(), "plots": [str(path) for path in paths]})
        return
    render(found, out)
    if paths:
        out.print(f"plot: {' and '.join(map(str, paths))}")
