"""Running many federations in parallel, each in a process of its own; stopped ones are continued.

A job is one run (an arm, an ε, a seed) in a folder of its own. What was measured on it is written
to `measured.json` last, so that a job either counts as a whole or is done again from its last
checkpoint. Starting an experiment again does only what is missing.

Example: `run_jobs(jobs, Path("runs/experiments/outlets"), workers=2, measure=measure)`.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from presspool.common.files import replace_file
from presspool.common.run_file import RunFile
from presspool.common.run_folder import RunFolder
from presspool.simulations.local_grid import THREADS_PER_WORKER, LocalGrid
from presspool.simulations.simulate import SimulateOptions, prepare, serve

Measured = dict[str, Any]
Measure = Callable[[Path], Measured]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of an experiment.

    Attributes:
        name: its folder's name; says arm, ε and seed.
        run: the run file.
        seed: of its reproducible noise: experiments measure accuracy, they release nothing.
    """

    name: str
    run: RunFile
    seed: int


def run_jobs(
    jobs: Sequence[Job],
    folder: Path,
    *,
    workers: int,
    measure: Measure,
    on_done: Callable[[], None] = lambda: None,
) -> dict[str, Measured]:
    """Run the jobs that are not done yet and return what was measured on all of them.

    Args:
        jobs: the whole experiment.
        folder: where each job has its folder.
        workers: jobs at a time.
        measure: judges a finished run folder; a module's function, as it is sent to a process.
        on_done: called after each job that was run now.

    Raises:
        PressPoolError: a job failed; the others' results are kept.
    """
    todo = [job for job in jobs if not _measured_file(folder, job).exists()]
    pool = ProcessPoolExecutor(
        max_workers=workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
    )
    try:
        for finished in as_completed([pool.submit(_run, job, folder, measure) for job in todo]):
            finished.result()
            on_done()
    finally:
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
    return {job.name: json.loads(_measured_file(folder, job).read_bytes()) for job in jobs}


def _run(job: Job, folder: Path, measure: Measure) -> None:
    run_folder = RunFolder(folder / job.name)
    started = run_folder.contract_file.exists()
    options = SimulateOptions(out=run_folder.path, deterministic=job.seed, resume=started)
    prepared = prepare(job.run, options)
    with LocalGrid(prepared.outlets, workers=0) as grid:
        serve(grid, run_folder)
    content = json.dumps(measure(run_folder.path), indent=1).encode()
    replace_file(_measured_file(folder, job), content)


def _measured_file(folder: Path, job: Job) -> Path:
    return folder / job.name / "measured.json"


def _start_worker() -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(THREADS_PER_WORKER)
