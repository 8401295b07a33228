"""`presspool demo`, `simulate`, `compare`, `tune` and `bench`: what a researcher types."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from presspool.common.base.console import out, print_json, progress, start_logging
from presspool.common.base.foreign_text import visible

if TYPE_CHECKING:
    from presspool.common.runs.results import RunResult
    from presspool.common.runs.run_file import RunFile
    from presspool.simulations.simulate import SimulateOptions

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Page = Annotated[
    Path | None, typer.Option(help="Page that gets the table, such as docs/performance.md.")
]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes.")]
Deterministic = Annotated[
    int | None,
    typer.Option(metavar="SEED", help="Reproducible noise from this seed: NOT private."),
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
    run = read_run_file(prepared(folder, outlets=outlets, epsilon=_epsilon(epsilon)))
    options = SimulateOptions(
        out=folder / "run", workers=workers, deterministic=deterministic, ledgers=ledgers
    )
    result = _run(run, options, as_json=as_json)
    if llm and not as_json:
        out.print(visible(side_by_side(result, folder)), markup=False, highlight=False)


def simulate(
    run: Annotated[Path, typer.Argument(help="The run.toml.")],
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Run folder; default runs/<name>.")
    ] = None,
    outlets: Annotated[
        int | None, typer.Option(min=1, help="Only the contract's first so many outlets.")
    ] = None,
    workers: Workers = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a stopped run.")] = False,
    deterministic: Deterministic = None,
    prepare_only: Annotated[
        bool, typer.Option("--prepare-only", help="Write the run folder, train nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a run.toml with all its outlets on this machine.

    Example: presspool simulate run.toml --out runs/first --workers 2
    """
    from presspool.common.runs.run_file import read_run_file
    from presspool.simulations.simulate import SimulateOptions, prepare

    start_logging(quiet=as_json)
    file = read_run_file(run)
    options = SimulateOptions(
        out=out_folder or Path("runs") / file.contract.name,
        workers=workers,
        outlets=outlets,
        deterministic=deterministic,
        resume=resume,
    )
    if prepare_only:
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
    as_json: Json = False,
) -> None:
    """Set runs side by side: metrics, ε, bytes, and what their contracts differ in.

    Example: presspool compare runs/first runs/second
    """
    from presspool.common.audit.pages.comparison import compare as compare_folders

    comparison = compare_folders(folders)
    print(visible(comparison.to_json())) if as_json else comparison.render(out)


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
    from presspool.common.runs.run_file import EvaluationData, freeze, read_run_file
    from presspool.simulations.tune import as_json as to_json
    from presspool.simulations.tune import proposal, trials_of
    from presspool.simulations.tune import tune as search

    start_logging(quiet=as_json)
    file = read_run_file(run)
    used = EvaluationData(data=public, text=text, label=label) if public else file.evaluation
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
        out.print(proposal(contract, trials, used.data, len(rows)), markup=False, soft_wrap=True)


def bench_engine(
    rows: Annotated[
        list[str] | None, typer.Option("--row", help="Only this row; may be repeated.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Turns that each contestant gets.")] = 20,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each process.")] = 2,
    device: Annotated[str, typer.Option(help='"cpu" or "cuda".')] = "cpu",
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for JSON and plot.")] = Path(
        "runs/bench"
    ),
    page: Page = None,
    as_json: Json = False,
) -> None:
    """Compare the private training step with Opacus and with non-private PEFT, interleaved.

    Its plot needs the extra `plots`.

    Example: presspool bench engine --repeats 20 --page docs/performance.md
    """
    from presspool.simulations.bench import engine_bench, engine_report

    start_logging(quiet=as_json)
    total = engine_bench.units_of_work(rows, repeats, device)
    with progress("steps", total=total) as advance:
        result = engine_bench.bench_engine(
            rows=rows,
            repeats=repeats,
            out=out_folder,
            device=device,
            threads=threads,
            docs=page,
            advance=advance,
        )
    print_json(result.to_json()) if as_json else out.print(
        engine_report.section(result), markup=False
    )


def bench_transport(
    outlets: Annotated[int, typer.Option(min=1, help="Outlets of the small rounds.")] = 8,
    megabytes: Annotated[
        int, typer.Option(min=1, help="Update of each outlet in the large rounds.")
    ] = 100,
    turns: Annotated[int, typer.Option(min=1, help="Turns that each contestant gets.")] = 4,
    page: Page = None,
    as_json: Json = False,
) -> None:
    """Measure a round on the wire with nothing trained, in turns with stock Flower's SuperLink.

    Example: presspool bench transport --turns 4 --page docs/performance.md
    """
    from presspool.simulations.bench import transport_bench, transport_report

    start_logging(quiet=as_json)
    with progress("turns", total=2 * turns + 4) as advance:
        result = transport_bench.bench_transport(
            outlets=outlets, megabytes=megabytes, turns=turns, docs=page, advance=advance
        )
    print_json(result.to_json()) if as_json else out.print(
        transport_report.section(result), markup=False
    )


def bench_ledger(
    entries: Annotated[
        int, typer.Option(min=2, help="Entries of the ledger that runs are reserved in.")
    ] = 100_000,
    turns: Annotated[int, typer.Option(min=1, help="Reservations that are timed.")] = 2_000,
    verified: Annotated[
        int, typer.Option(min=2, help="Entries of the export that is verified.")
    ] = 1_000_000,
    runs: Annotated[int, typer.Option(min=1, help="Different runs that are recomputed.")] = 1_000,
    page: Page = None,
    as_json: Json = False,
) -> None:
    """Measure the budget ledger: reserving, verifying, recomputing, and the auditor's first look.

    Example: presspool bench ledger --page docs/performance.md
    """
    from presspool.simulations.bench import ledger_bench
    from presspool.simulations.doc_sections import write_section

    start_logging(quiet=as_json)
    sizes = ledger_bench.Sizes(entries=entries, turns=turns, verified=verified, runs=runs)
    with progress("measured", total=ledger_bench.units_of_work(sizes)) as advance:
        found = ledger_bench.bench_ledger(sizes, advance=advance)
    text = ledger_bench.section(found)
    if page is not None:
        write_section(page, "ledger", text)
    print_json(found.to_json()) if as_json else out.print(text, markup=False, soft_wrap=True)


def _run(run: RunFile, options: SimulateOptions, *, as_json: bool) -> RunResult:
    from presspool.simulations.simulate import simulate as run_simulation

    outlets = options.outlets or len(run.contract.outlets)
    total = outlets * run.contract.federation.rounds
    with progress("outlets trained", total=total) as advance:
        result = run_simulation(run, options, on_reply=advance)
    if as_json:
        print_json({"folder": str(options.out), **_as_json(result)})
    else:
        _show(result, options.out)
    return result


def _show(result: RunResult, folder: Path) -> None:
    from presspool.common.runs.shown_metrics import shown_of

    metrics, found = shown_of(result), result.final.metrics
    if found[metrics[0].name] is not None:
        said = ", ".join(metric.said(found[metric.name]) for metric in metrics)
        out.print(f"{said} on held-out data", markup=False)
    out.print(f"report: {folder / 'report.html'}", markup=False, soft_wrap=True)
    style = "" if result.private else "bold red"
    out.print(result.statement, style=style, markup=False, soft_wrap=True)


def _as_json(result: RunResult) -> dict[str, object]:
    import json

    body: dict[str, object] = json.loads(result.to_json())
    return body


def _no_public(run: Path) -> Exception:
    from presspool.common.base.errors import InputError

    return InputError(
        "nothing public to tune on",
        where=str(run),
        expected="an [evaluation] table, or --public",
        advice="name a file of public labelled texts; readers' data would cost their budget",
    )


def _require_new(folder: Path) -> None:
    from presspool.common.base.errors import FolderError

    if folder.exists() and any(folder.iterdir()):
        raise FolderError(
            "the output folder already holds something",
            where=str(folder),
            expected="a new or empty folder",
            advice="choose another --out",
        )


def _epsilon(text: str) -> float:
    from presspool.common.base.errors import InputError

    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > 0:
        raise InputError("epsilon", where="--epsilon", expected='a number > 0, or "inf"', got=text)
    return value
