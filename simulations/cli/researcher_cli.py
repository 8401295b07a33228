"""`presspool demo`, `simulate` and `compare`: what a researcher types."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from presspool.common.base.console import out, print_json, progress, start_logging
from presspool.common.base.foreign_text import visible
from presspool.simulations.planning.what_if_options import (
    PriceCpuHour,
    PriceGb,
    WhatIfOption,
    require_one_kind,
)

if TYPE_CHECKING:
    from presspool.common.runs.results import RunResult
    from presspool.common.runs.run_file import RunFile
    from presspool.simulations.simulate import SimulateOptions

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes.")]
Deterministic = Annotated[
    int | None,
    typer.Option(metavar="SEED", help="Reproducible noise from this seed: NOT private."),
]
Track = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Keep the public numbers of complete runs in mlflow, wandb or tensorboard; may be "
        "given again. MLflow and W&B write into the folder, unless MLFLOW_TRACKING_URI or "
        "WANDB_MODE say otherwise.",
    ),
]


def demo(
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Folder to write; default runs/demo-<time>.")
    ] = None,
    outlets: Annotated[int, typer.Option(min=1, help="How many outlets.")] = 4,
    epsilon: Annotated[str, typer.Option(help='The run\'s ε for each reader, or "inf".')] = "3",
    workers: Workers = 2,
    deterministic: Deterministic = None,
    ledgers: Annotated[
        bool,
        typer.Option(
            "--ledgers",
            help="Give each outlet a policy and a budget ledger, and export "
            "them: something to try `presspool audit` on.",
        ),
    ] = False,
    llm: Annotated[
        bool,
        typer.Option(
            "--llm",
            help="Train a small language model on made headlines instead, and let it write; "
            "needs `presspool models fetch smollm2-135m-instruct`.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train one model over a made newsroom of private outlets, and show the report.

    Example: presspool demo --epsilon 3
    """
    from presspool.common.models.base_model_sources import located
    from presspool.common.models.catalogue import DEFAULT_ID
    from presspool.common.runs.run_file import read_run_file
    from presspool.simulations.demo import prepare_demo
    from presspool.simulations.demo_llm import MODEL, prepare_llm_demo, side_by_side
    from presspool.simulations.simulate import SimulateOptions

    folder = out_folder or Path("runs") / f"demo-{datetime.now():%Y%m%d-%H%M%S}"
    _require_new(folder)
    start_logging(quiet=as_json)
    located(MODEL if llm else DEFAULT_ID, fetch=True)  # before anything is written
    prepared = prepare_llm_demo if llm else prepare_demo
    run = read_run_file(prepared(folder, outlets=outlets, epsilon=epsilon_of(epsilon)))
    options = SimulateOptions(
        out=folder / "run", workers=workers, deterministic=deterministic, ledgers=ledgers
    )
    result = _run(run, options, as_json=as_json)
    if llm and not as_json:
        out.print(visible(side_by_side(result, folder)), highlight=False)


def simulate(
    run: Annotated[Path, typer.Argument(help="The run.toml.")],
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Run folder; default runs/<name>.")
    ] = None,
    outlets: Annotated[
        int | None, typer.Option(min=1, help="Only the contract's first so many outlets.")
    ] = None,
    workers: Workers = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help='The Ray cluster to work on, for grid = "ray"; default a Ray of its own here.',
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a stopped run.")] = False,
    deterministic: Deterministic = None,
    prepare_only: Annotated[
        bool, typer.Option("--prepare-only", help="Write the run folder, train nothing.")
    ] = False,
    local_only: Annotated[
        bool,
        typer.Option(
            "--local-only",
            help="Beside the run, train each outlet's model alone, and say whether it pays to "
            "join. Typed again it does what is missing.",
        ),
    ] = False,
    keep_data: Annotated[
        bool,
        typer.Option("--keep-data", help="Leave the outlets' copies of the data in the folder."),
    ] = False,
    what_if: WhatIfOption = False,
    price_cpu_hour: PriceCpuHour = None,
    price_gb: PriceGb = None,
    track: Track = None,
    as_json: Json = False,
) -> None:
    """Run a run.toml with all its outlets on this machine.

    Example: presspool simulate run.toml --out runs/first --workers 2

    On a Ray cluster: presspool simulate run.toml --ray-address 10.0.0.5:6379 --workers 16

    Its cost: presspool simulate run.toml --what-if --price-cpu-hour 0.05 --price-gb 0.09
    """
    from presspool.common.runs.run_file import read_run_file
    from presspool.simulations.planning.what_if import Prices
    from presspool.simulations.planning.what_if_page import show
    from presspool.simulations.simulate import SimulateOptions, prepare

    start_logging(quiet=as_json)
    file = read_run_file(run)
    options = SimulateOptions(
        out=out_folder or Path("runs") / file.contract.name,
        workers=workers,
        outlets=outlets,
        deterministic=deterministic,
        resume=resume,
        ray_address=ray_address,
        keep_data=keep_data,
        track=tuple(track or ()),
    )
    prices = price_cpu_hour, price_gb
    require_one_kind(
        local_only=local_only, prepare_only=prepare_only, what_if=what_if, prices=prices
    )
    if what_if:
        show(file, outlets=outlets, prices=Prices(*prices), as_json=as_json)
    elif local_only:
        _beside(file, options, as_json=as_json)
    elif prepare_only:
        prepared = prepare(file, options)
        outlets_written = [path.stem for path in prepared.outlets]
        if as_json:
            print_json({"folder": str(prepared.folder.path), "outlets": outlets_written})
        else:
            out.print(f"prepared {prepared.folder.path} for {len(outlets_written)} outlets")
    else:
        _run(file, options, as_json=as_json)


def compare(
    folders: Annotated[list[Path], typer.Argument(help="Run folders.")],
    local: Annotated[
        bool,
        typer.Option(
            "--local",
            help="Of one run made with --local-only: each outlet's model alone, and the run's.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Set runs side by side: metrics, ε, bytes, and what their contracts differ in.

    Example: presspool compare runs/first runs/second
    """
    from presspool.common.audit.pages.comparison import compare as compare_folders

    if local:
        _show_table(folders, as_json=as_json)
        return
    comparison = compare_folders(folders)
    print(visible(comparison.to_json())) if as_json else comparison.render(out)


def _run(run: RunFile, options: SimulateOptions, *, as_json: bool) -> RunResult:
    result = _trained(run, options)
    beside = _popularity(run)
    if as_json:
        print_json({"folder": str(options.out), **_as_json(result), **beside})
    else:
        _show(result, options.out)
        for value in beside.values():
            out.print(
                f"popularity, counted openly and not private: AUC {value:.1%}", highlight=False
            )
    return result


def _popularity(run: RunFile) -> dict[str, float]:
    """What stands beside a ranking and no report can know: outlets' clicks, counted openly."""
    if run.contract.task.kind != "recommendation":
        return {}
    from presspool.simulations.newsroom.click_baselines import popularity_auc

    found = popularity_auc(run)
    return {} if found is None else {"popularity_not_private": found}


def _trained(run: RunFile, options: SimulateOptions) -> RunResult:
    from presspool.simulations.simulate import rounds_done
    from presspool.simulations.simulate import simulate as run_simulation

    table, outlets = run.contract.federation, options.outlets or len(run.contract.outlets)
    asked = table.buffer or table.cohort or outlets
    total = asked * table.rounds
    done = asked * rounds_done(options.out) if options.resume else 0
    with progress("outlets trained", total=total, done=done) as advance:
        return run_simulation(run, options, on_reply=advance)


def _beside(run: RunFile, options: SimulateOptions, *, as_json: bool) -> None:
    from presspool.simulations.local_only.local_models import require_judge, train_beside

    require_judge(run)
    started = (options.out / "contract.json").exists()
    options = replace(options, resume=started)
    result = _trained(run, options)
    if not as_json:
        _show(result, options.out)
    with progress("models judged", total=1 + len(result.outlets)) as advance:
        train_beside(run, options, on_done=advance)
    _show_table([options.out], as_json=as_json)


def _show_table(folders: list[Path], *, as_json: bool) -> None:
    from presspool.simulations.local_only.local_models import beside

    found = [beside(folder) for folder in folders]
    if as_json:
        print_json({"schema": 1, "runs": [table.to_json() for table in found]})
        return
    for table in found:
        table.render(out)


def _show(result: RunResult, folder: Path) -> None:
    from presspool.common.runs.shown_metrics import shown_of

    metrics, found = shown_of(result), result.final.figures
    if found[metrics[0].name] is not None:
        said = ", ".join(metric.said(found[metric.name]) for metric in metrics)
        out.print(f"{said} on held-out data")
    out.print(f"report: {folder / 'report.html'}")
    style = "" if result.private else "bold red"
    out.print(result.statement, style=style)


def _as_json(result: RunResult) -> dict[str, object]:
    import json

    body: dict[str, object] = json.loads(result.to_json())
    return body


def _require_new(folder: Path) -> None:
    from presspool.common.base.errors import FolderError

    if folder.exists() and any(folder.iterdir()):
        raise FolderError(
            "the output folder already holds something",
            where=str(folder),
            expected="a new or empty folder",
            advice="choose another --out",
        )


def epsilon_of(text: str) -> float:
    """The ε that an option says.

    Raises:
        InputError: it is none.
    """
    from presspool.common.base.errors import InputError

    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > 0:
        raise InputError("epsilon", where="--epsilon", expected='a number > 0, or "inf"', got=text)
    return value
