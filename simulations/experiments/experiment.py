"""A declared experiment: pools × arms × ε × seeds, run and judged.

What an experiment compares stands in its module of `declared` before anything runs.
`run_experiment` does what is missing and writes `results.parquet`; `results_page` writes the tables
and plots of the documentation. A search grid, whose choices made the recipe, is an experiment of
its own on training records and never reads the test file.

Example: `run_experiment(AGNEWS.trials(data, out, seeds=None), out, workers=2, on_done=tick)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from presspool.simulations.doc_sections import commit
from presspool.simulations.experiments.arms import Arm, Trial, declare
from presspool.simulations.experiments.jobs import Job, run_jobs
from presspool.simulations.experiments.pools import Pool
from presspool.simulations.experiments.tidy import Judged, tidy

Runs = tuple[str, float]  # an arm's name and an ε


@dataclass(frozen=True, kw_only=True)
class Question:
    """Two arms whose difference was declared before the runs.

    Attributes:
        text: what is asked.
        left: what should be better.
        right: than what.
        figure: "pooled" or "own".
    """

    text: str
    left: Runs
    right: Runs
    figure: str = "pooled"

    @property
    def arms(self) -> tuple[Runs, ...]:
        """What it is about."""
        return self.left, self.right


@dataclass(frozen=True, kw_only=True)
class ShareQuestion:
    """How much of one arm's gain another keeps; declared before the runs too.

    Attributes:
        text: what is asked.
        kept: the arm that should keep it.
        start: where both start.
        best: whose gain over `start` is the whole.
        at_least: the share that was aimed at.
        figure: "pooled" or "own".
    """

    text: str
    kept: Runs
    start: Runs
    best: Runs
    at_least: float
    figure: str = "pooled"

    @property
    def arms(self) -> tuple[Runs, ...]:
        """What it is about."""
        return self.kept, self.start, self.best


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is compared.

    Attributes:
        name: of the command, the folder and the page's section.
        pools: makes the pools: (folder of the data sets, folder to write) to pools.
        arms: what is run on every pool.
        questions: asked of every pool.
        axis: what the figure is drawn against.
        note: more Markdown below the tables, out of the pools.
    """

    name: str
    pools: Callable[[Path, Path], Sequence[Pool]]
    arms: tuple[Arm, ...]
    questions: tuple[Question | ShareQuestion, ...] = ()
    axis: Literal["epsilon", "readers"] = "epsilon"
    note: Callable[[Sequence[Pool]], str] = lambda _pools: ""

    def trials(self, data: Path, out: Path, *, seeds: int | None) -> list[Trial]:
        """Everything that is to be run.

        Args:
            data: folder of the data sets.
            out: the experiment's folder.
            seeds: only the first so many seeds; None for all that are declared.
        """
        return [
            declare(pool, arm, epsilon, seed)
            for pool in self.pools(data, out / "data")
            for arm in self.arms
            if not arm.pools or pool.folder.name in arm.pools
            for epsilon in arm.epsilons
            for seed in arm.seeds
            if seeds is None or seed <= seeds
        ]


def jobs_of(trials: Sequence[Trial]) -> list[Job]:
    """Their jobs by seed (early results are whole), those with the same frozen layers together."""
    jobs = [(trial.seed, job) for trial in trials for job in trial.jobs.values()]

    def order(pair: tuple[int, Job]) -> tuple[int, bool, str]:
        contract = pair[1].run.contract
        return pair[0], "adapter" in contract.method.groups, str(contract.adapter)

    return [job for _, job in sorted(jobs, key=order)]


def run_experiment(
    trials: Sequence[Trial], out: Path, *, workers: int, on_done: Callable[[], None]
) -> list[Judged]:
    """Run what is missing and read all of it.

    Raises:
        PressPoolError: a job failed; the others' results are kept.
    """
    run_jobs(jobs_of(trials), out / "jobs", workers=workers, on_done=on_done)
    judged = [Judged.read(trial, out / "jobs") for trial in trials]
    table = pa.Table.from_pylist(tidy(judged))
    commits = pa.array([commit()] * len(table))
    pq.write_table(table.append_column("commit", commits), out / "results.parquet")
    return judged
