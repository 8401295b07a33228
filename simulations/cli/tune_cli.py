"""`presspool tune`: a recipe proposed from public data alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from presspool.common.base.console import out, print_json, progress, start_logging
from presspool.simulations.cli.researcher_cli import Json


def tune(
    run: Annotated[Path, typer.Argument(help="The run.toml to start from.")],
    public: Annotated[
        Path | None,
        typer.Option(help="Public labelled texts; default the run.toml's [evaluation] file."),
    ] = None,
    text: Annotated[str, typer.Option(help="The public file's text column.")] = "text",
    label: Annotated[str, typer.Option(help="Its label column.")] = "label",
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Folder of the trials; the same one continues.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Propose clip norms, rates, steps and batch for a budget, from public data alone.

    Example: presspool tune run.toml --public archive.parquet
    """
    from presspool.common.data.tables import Mapped
    from presspool.common.runs.run_file import EvaluationData, freeze, read_run_file
    from presspool.simulations.tune import as_json as to_json
    from presspool.simulations.tune import proposal, trials_of
    from presspool.simulations.tune import tune as search

    start_logging(quiet=as_json)
    file = read_run_file(run)
    columns = Mapped(text=text, label=label)
    used = EvaluationData(data=public, columns=columns) if public else file.evaluation
    if used is None:
        raise _no_public(run)
    contract = freeze(file.contract, fetch=True)
    rows = used.records(contract)
    folder = out_folder or Path("runs") / f"tune-{contract.name}"
    with progress("trials", total=trials_of(contract)) as advance:
        trials = search(contract, rows, folder, on_trial=advance)
    if as_json:
        print_json(to_json(trials, used.data))
    else:
        out.print(proposal(contract, trials, used.data, len(rows)))


def _no_public(run: Path) -> Exception:
    from presspool.common.base.errors import InputError

    return InputError(
        "nothing public to tune on",
        where=str(run),
        expected="an [evaluation] table, or --public",
        advice="name a file of public labelled texts; readers' data would cost their budget",
    )
