"""`presspool experiment NAME`: what `simulations.experiments.declared` declares.

Each command says first how long it will take, does what is missing in its folder, and writes its
section of the results page, whose plot needs the extra `plots`. Stopping it in any way loses at
most the round in progress.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from presspool.common.base.console import out, print_json, progress, start_logging

if TYPE_CHECKING:
    from presspool.simulations.experiments.experiment import Experiment
    from presspool.simulations.experiments.tidy import Judged

Data = Annotated[Path, typer.Option(envvar="PRESSPOOL_DATA", help="Folder of the real data sets.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="The experiment's folder; the same one continues it. Default runs/experiments/<name>.",
    ),
]
Page = Annotated[Path, typer.Option(help="Page that gets the tables and the plot.")]
Seeds = Annotated[
    int | None, typer.Option(min=1, help="Only the first so many seeds; default all declared.")
]
Workers = Annotated[int, typer.Option(min=1, help="Runs at a time.")]
Search = Annotated[
    bool, typer.Option("--search", help="The search grid (training rows only) instead.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the tidy table as JSON.")]

_DECLARED = "presspool.simulations.experiments.declared"
_DATA, _PAGE = Path("../shared/data"), Path("docs/results.md")


def _searched(name: str, says: str, *, module: str = "") -> Callable[..., None]:
    """The command of an experiment whose recipe a search grid chose."""

    def command(
        data: Data = _DATA,
        search: Search = False,
        out_folder: Out = None,
        page: Page = _PAGE,
        seeds: Seeds = None,
        workers: Workers = 2,
        as_json: Json = False,
    ) -> None:
        found = import_module(f"{_DECLARED}.{module or name}")
        experiment: Experiment = found.SEARCH if search else getattr(found, name.upper())
        _run(experiment, data, out_folder, page, seeds, workers, as_json=as_json)

    command.__doc__ = (
        f"{says}\n\nExample: presspool experiment {name} --data ../shared/data --seeds 1"
    )
    return command


agnews = _searched(
    "agnews",
    "AG News over 4 and 20 outlets: what reader-level privacy leaves of the accuracy.",
)
headlines = _searched(
    "headlines",
    "Headlines by a generating model: plain, few-shot, and tuned together or alone.",
)


heads = _searched(
    "heads",
    "Six labelled sets: is the default head near the best of a grid, and near its ceiling?",
)


def _declared(name: str, says: str, *, module: str, page: Path = _PAGE) -> Callable[..., None]:
    """The command of an experiment that a module declares."""

    def command(
        data: Data = _DATA,
        out_folder: Out = None,
        page: Page = page,
        seeds: Seeds = None,
        workers: Workers = 2,
        as_json: Json = False,
    ) -> None:
        found = import_module(f"{_DECLARED}.{module}")
        experiment: Experiment = getattr(found, name.upper())
        _run(experiment, data, out_folder, page, seeds, workers, as_json=as_json)

    command.__doc__ = f"{says}\n\nExample: presspool experiment {name} --data ../shared/data"
    return command


outlets = _declared(
    "outlets",
    "Eight real outlets, each alone against all together, with and without privacy.",
    module="outlets",
)
pooled = _searched(
    "pooled",
    "Each outlet's own noise against noise that the pool shares, at the same ε.",
    module="pooled_trust",
)
robust = _declared(
    "robust",
    "Two of eight outlets lie: what the mean and each robust rule make of it.",
    module="robust_rules",
)
methods = _declared(
    "methods",
    "What trains: every method on AG News over four outlets, with and without privacy.",
    module="methods_compared",
)
readers = _declared(
    "readers",
    "Real heavy-tailed readers: reader against record as unit, and the effect of k.",
    module="reader_unit",
)
tasks = _declared(
    "tasks",
    "Sentiment, entities and an archive: what reader-level privacy leaves of other tasks.",
    module="newsroom_tasks",
)
paired = _searched(
    "paired",
    "Encoder and decoder, small and trained from scratch: headlines, with and without privacy.",
)
clicks = _declared(
    "clicks",
    "Titles ranked by clicks, made and real: what privacy leaves, beside popularity and likeness.",
    module="clicks",
)
sweep = _declared(
    "sweep",
    "Accuracy against ε against number of readers: the page for choosing a budget.",
    module="sweep",
    page=Path("docs/guides/choosing-a-budget.md"),
)


def _run(
    experiment: Experiment,
    data: Path,
    folder: Path | None,
    page: Path,
    seeds: int | None,
    workers: int,
    *,
    as_json: bool,
) -> None:
    from presspool.simulations.experiments.cost import seconds
    from presspool.simulations.experiments.experiment import jobs_of, run_experiment
    from presspool.simulations.experiments.results_page import write_page
    from presspool.simulations.plots import require_plots

    start_logging(quiet=True)
    require_plots()
    folder = folder or Path("runs/experiments") / experiment.name
    trials = experiment.trials(data, folder, seeds=seeds)
    jobs = jobs_of(trials)
    todo = [job for job in jobs if not job.finished(folder / "jobs")]
    if todo and not as_json:
        expected = seconds(todo, workers=workers) / 60
        said = f"{expected / 60:.1f} hours" if expected > 90 else f"{max(1, round(expected))} min"
        out.print(f"{len(todo)} of {len(jobs)} runs to do, about {said}")
    with progress("runs", total=len(jobs), done=len(jobs) - len(todo)) as advance:
        judged = run_experiment(trials, folder, workers=workers, on_done=advance)
    tables = write_page(experiment, judged, page)
    print_json(_as_json(judged)) if as_json else out.print(tables)


def _as_json(judged: list[Judged]) -> list[dict[str, object]]:
    from presspool.simulations.experiments.tidy import tidy

    return [{**row, "epsilon": str(row["epsilon"])} for row in tidy(judged)]
