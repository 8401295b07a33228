"""`presspool bench …`: measure this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from presspool.common.base.console import err, out, print_json, progress, start_logging

if TYPE_CHECKING:
    from presspool.simulations.bench.export_bench import ExportFigures
    from presspool.simulations.bench.ledger_bench import Figures
    from presspool.simulations.bench.served.serving_bench import ServingFigures
    from presspool.simulations.bench.simulators.simulator_bench import SimulationFigures
    from presspool.simulations.bench.sums.secagg_bench import SumFigures

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Page = Annotated[
    Path | None, typer.Option(help="Page that gets the table, such as docs/performance.md.")
]


def engine(
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
    print_json(result.to_json()) if as_json else out.print(engine_report.section(result))


def gpu(
    device: Annotated[
        str, typer.Option(help='"cuda", or "cpu" to try the command itself.')
    ] = "cuda",
    repeats: Annotated[int, typer.Option(min=1, help="Turns that each contestant gets.")] = 20,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each process.")] = 2,
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for page and JSON.")] = Path(
        "build/gpu"
    ),
    as_json: Json = False,
) -> None:
    """Check the engine on this machine's graphics card against the CPU, and measure it there.

    Exit code 1: a check failed, or a row could not be measured; 3: no graphics card is at hand.

    Example: presspool bench gpu --out build/gpu
    """
    import torch

    from presspool.simulations.bench.card import card_bench

    start_logging(quiet=as_json)
    if device == "cuda" and not torch.cuda.is_available():
        err.print("No graphics card is at hand that this installation of torch can use.")
        raise typer.Exit(3)
    page = card_bench.bench_card(
        device=device,
        repeats=repeats,
        threads=threads,
        out=out_folder,
        said=err.print if as_json else out.print,
    )
    if as_json:
        print_json(page.to_json())
    raise typer.Exit(1 if page.failed else 0)


def transport(
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
    from presspool.simulations.bench.transport import transport_bench, transport_report

    start_logging(quiet=as_json)
    with progress("turns", total=2 * turns + 4) as advance:
        result = transport_bench.bench_transport(
            outlets=outlets, megabytes=megabytes, turns=turns, docs=page, advance=advance
        )
    print_json(result.to_json()) if as_json else out.print(transport_report.section(result))


def ledger(
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

    start_logging(quiet=as_json)
    sizes = ledger_bench.Sizes(entries=entries, turns=turns, verified=verified, runs=runs)
    with progress("measured", total=ledger_bench.units_of_work(sizes)) as advance:
        found = ledger_bench.bench_ledger(sizes, advance=advance)
    _told(found, ledger_bench.section(found), page, "ledger", as_json=as_json)


def secagg(
    outlets: Annotated[int, typer.Option(min=3, max=50, help="Outlets of the sum.")] = 30,
    parameters: Annotated[int, typer.Option(min=1, help="Integers of one input.")] = 300_000,
    turns: Annotated[int, typer.Option(min=1, help="Turns that each contestant gets.")] = 5,
    dropouts: Annotated[int, typer.Option(min=1, help="Outlets that drop out, where any do.")] = 3,
    page: Page = None,
    as_json: Json = False,
) -> None:
    """Measure secure sums in turns with the plain sum and with Flower's SecAgg+ parts.

    Example: presspool bench secagg --outlets 30 --page docs/performance.md
    """
    from presspool.simulations.bench.sums import secagg_bench, secagg_report

    start_logging(quiet=as_json)
    sizes = secagg_bench.SumSizes(
        outlets=outlets, parameters=parameters, turns=turns, dropouts=dropouts
    )
    with progress("sums", total=secagg_bench.units_of_sums(sizes)) as advance:
        found = secagg_bench.bench_sums(sizes, advance=advance)
    _told(found, secagg_report.sums_section(found), page, "secagg", as_json=as_json)


def simulation(
    turns: Annotated[int, typer.Option(min=1, help="Counted turns of each contestant.")] = 5,
    clients: Annotated[int, typer.Option(min=1, max=999, help="Clients of a round.")] = 50,
    only: Annotated[
        list[str] | None, typer.Option(help="Only this contestant; may be repeated.")
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=0, help="Rounds over which memory is watched; 0 for none.")
    ] = 500,
    race: Annotated[
        int, typer.Option(min=0, help="Rounds of a whole run on Ray and on processes; 0 for none.")
    ] = 15,
    rooms: Annotated[
        Path | None,
        typer.Option(
            help="Folder in which simulators of others are installed.", show_default=False
        ),
    ] = None,
    page: Page = None,
    as_json: Json = False,
) -> None:
    """Compare rounds of our simulation with pfl-research, Flower, NVFlare and a bare loop.

    The first use installs pfl-research and NVFlare, each into an environment of its own below
    ~/.cache/presspool/simulators; torch is this installation's.

    Example: presspool bench simulation --turns 5 --page docs/performance.md
    """
    from presspool.simulations.bench.simulators import simulator_bench, simulator_report

    start_logging(quiet=as_json)
    asked = simulator_bench.SimulationAsked(
        clients=clients, turns=turns, only=tuple(only or ()), rounds=rounds, race=race
    )
    with progress("turns", total=simulator_bench.units_of_rounds(asked)) as advance:
        found = simulator_bench.bench_simulation(asked, rooms=rooms, advance=advance)
    text = simulator_report.simulation_section(found)
    _told(found, text, page, "simulation", as_json=as_json)


def export(
    adapter: Annotated[Path, typer.Argument(help="An adapter's folder, or a complete run's.")],
    texts: Annotated[Path, typer.Option(help="Public file with answers, 200 rows or more.")],
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COLUMN", help="How --texts calls it; may be repeated."),
    ] = None,
    turns: Annotated[int, typer.Option(min=1, help="Turns that each contestant gets.")] = 20,
    page: Page = None,
    as_json: Json = False,
) -> None:
    """Measure an adapter's graphs of 32 and 8 bits, in turns with torch.

    Example: presspool bench export runs/first --texts test.csv --page docs/performance.md
    """
    from presspool.common.released.adapter_folder import read_adapter
    from presspool.simulations.bench import export_bench

    start_logging(quiet=as_json)
    folder = read_adapter(adapter)
    with progress("turns", total=3 * (turns + 1)) as advance:
        found = export_bench.bench_export(folder, texts, column or [], turns=turns, advance=advance)
    _told(found, export_bench.export_section(found), page, "export", as_json=as_json)


def serving(
    adapter: Annotated[Path, typer.Argument(help="An adapter's folder, or a complete run's.")],
    turns: Annotated[int, typer.Option(min=2, help="Turns that each contestant gets.")] = 5,
    seconds: Annotated[int, typer.Option(min=1, help="Of each load.")] = 4,
    callers: Annotated[int, typer.Option(min=1, max=200, help="Connections at once.")] = 16,
    requests: Annotated[
        int, typer.Option(min=0, help="Calls over which memory is watched; 0 for none.")
    ] = 10_000,
    words: Annotated[int, typer.Option(min=1, max=500, help="Of a text.")] = 12,
    threads: Annotated[int, typer.Option(min=1, help="Of torch in each process.")] = 1,
    page: Page = None,
    as_json: Json = False,
) -> None:
    """Load presspool serve, in turns with plain FastAPI routes around the same model.

    The load generator is wrk (apt install wrk, or brew install wrk).

    Example: presspool bench serving runs/first --page docs/performance.md
    """
    from presspool.common.audit.cli.ui_cli import require_extra
    from presspool.common.released.adapter_folder import read_adapter

    require_extra()
    from presspool.simulations.bench.served import serving_bench, serving_report

    start_logging(quiet=as_json)
    asked = serving_bench.ServingAsked(
        turns=turns,
        seconds=seconds,
        callers=callers,
        requests=requests,
        words=words,
        threads=threads,
    )
    with progress("loads", total=serving_bench.loads_of(asked)) as advance:
        found = serving_bench.bench_serving(read_adapter(adapter), asked, advance)
    _told(found, serving_report.serving_section(found), page, "serving", as_json=as_json)


def _told(
    found: Figures | SumFigures | SimulationFigures | ExportFigures | ServingFigures,
    text: str,
    page: Path | None,
    name: str,
    *,
    as_json: bool,
) -> None:
    """Write what was measured into its section of the page, if there is one, and show it."""
    from presspool.simulations.doc_sections import write_section

    if page is not None:
        write_section(page, name, text)
    print_json(found.to_json()) if as_json else out.print(text)
