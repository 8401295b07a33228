"""`presspool sweep`: one run file at many points."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from presspool.common.base.console import out, print_json, progress, start_logging
from presspool.simulations.cli.researcher_cli import Deterministic, Json, Track

if TYPE_CHECKING:
    from presspool.simulations.sweeps.sweeping import Swept

SHOWN = 10  # points on the screen; the page has all


def sweep(
    run: Annotated[Path, typer.Argument(help="The run.toml.")],
    grid: Annotated[
        Path,
        typer.Option(help="The sweep.toml: contract keys with lists or ranges, and the sampler."),
    ],
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="The sweep's folder; default runs/sweep-<name>.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Trials at a time.")] = 2,
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="The Ray cluster on which trials are tasks; default processes of this machine. "
            "Every node must see run folder and data under the same path.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a stopped sweep.")] = False,
    deterministic: Deterministic = None,
    track: Track = None,
    as_json: Json = False,
) -> None:
    """Simulate a run.toml at many points, and compare accuracy, ε and bytes.

    Trials are judged, pruned and chosen on the public [evaluation] file alone, which costs readers
    nothing more. But each trial would be paid for where readers are real: the sum of their ε is
    printed. Choosing the best by readers' own records would cost their budget besides, and is not
    offered.

    Example: presspool sweep run.toml --grid sweep.toml --workers 2

    What sweep.toml may say: privacy.epsilon = [1, 3, 8], optimizer.learning_rate = { low = 0.1,
    high = 3.0, log = true, steps = 4 }, sampler = "grid" ("random" and "tpe" with trials = 20),
    seeds, metric, prune; examples/sweep.toml is one.
    """
    from presspool.common.runs.run_file import read_run_file
    from presspool.simulations.sweeps.sweep_file import read_sweep_file
    from presspool.simulations.sweeps.sweep_page import write_page
    from presspool.simulations.sweeps.sweep_request import SweepRequest, checked, points_known
    from presspool.simulations.sweeps.sweeping import known_rows
    from presspool.simulations.sweeps.sweeping import sweep as run_sweep

    start_logging(quiet=as_json)
    file, found = read_run_file(run), read_sweep_file(grid)
    request = SweepRequest(
        run=file,
        file=found,
        out=out_folder or Path("runs") / f"sweep-{file.contract.name}",
        workers=workers,
        deterministic=deterministic,
        resume=resume,
        ray_address=ray_address,
        track=tuple(track or ()),
    )
    with progress("points checked", total=len(points_known(found))) as advance:
        metric = checked(request, on_point=advance)
    with progress("trials", total=request.trials, done=known_rows(request)) as advance:

        def on_trial(now: Swept, _row: object) -> None:
            write_page(now)
            advance()

        swept = run_sweep(request, metric, on_trial=on_trial)
    page = write_page(swept)
    print_json(_as_json(swept)) if as_json else _show(swept, page)


def _show(swept: Swept, page: Path) -> None:
    from rich.table import Table

    from presspool.common.base.numbers import byte_text
    from presspool.simulations.sweeps.front import bill, front
    from presspool.simulations.sweeps.points import spelt
    from presspool.simulations.sweeps.sweep_page import compared, cost_sentence, epsilon_text

    points, metric = compared(swept)
    best = {point.number for point in front(points, metric)}
    table = Table("point", metric.word, "ε", "bytes", "", box=None)
    for point in points[:SHOWN]:
        figures = metric.cell(point.figure), epsilon_text(point.epsilon)
        mark = "on the front" if point.number in best else ""
        table.add_row(spelt(point.values), *figures, byte_text(point.bytes_moved), mark)
    out.print(table)
    for row in swept.rows:
        if row.state == "failed":
            out.print(f"trial {row.number} failed: {row.reason}")
    out.print(cost_sentence(bill(swept.rows)))
    out.print(f"page: {page}")


def _as_json(swept: Swept) -> dict[str, Any]:
    from presspool.simulations.sweeps.front import bill, front, leader
    from presspool.simulations.sweeps.sweep_page import compared

    points, metric = compared(swept)
    cost, best = bill(swept.rows), leader(points)
    return {
        "schema": 1,
        "folder": str(swept.request.out),
        "metric": metric.name,
        "front": [point.number for point in front(points, metric)],
        "best": best.number if best else None,
        "paid": {
            "epsilon": str(cost.epsilon),
            "delta": str(cost.delta),
            "trials": cost.paid,
            "unprotected": cost.unprotected,
        },
        "trials": [{k: _finite(v) for k, v in row.flat().items()} for row in swept.rows],
    }


def _finite(value: Any) -> Any:
    """As a contract spells it: JSON has no infinity."""
    return "inf" if isinstance(value, float) and math.isinf(value) else value
