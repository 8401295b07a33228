"""One trial of a sweep: an ordinary run in a folder of its own, in a process or a Ray task.

Invariants:
    * Whatever goes wrong in a trial ends that trial, with a reason of one line that quotes no
      record; a full disk ends the sweep.
    * A trial ends early by its metric on public records alone, at the end of a whole round, which
      is spent. That is a simulation's affair: a pool's run goes on whatever it measures.

Example: `run_trial(job).state`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from presspool.common.base.errors import DataError, PressPoolError, StorageError
from presspool.common.runs.result_file import RESULT_FILE, read_result
from presspool.common.runs.results import RoundResult, RunResult
from presspool.common.runs.run_file import RunFile
from presspool.common.runs.run_folder import RunFolder
from presspool.server.rounds import round_checkpoint
from presspool.server.rounds.rounds import Committed, uncommitted
from presspool.simulations.grids.local_grid import prepare_worker
from presspool.simulations.newsroom.partitions import remove_copies
from presspool.simulations.simulate import SimulateOptions, simulate
from presspool.simulations.sweeps.point_search import AskedPoint, RoundJudge
from presspool.simulations.sweeps.sweep_file import SweepFile

log = logging.getLogger(__name__)

State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True, kw_only=True)
class TrialJob:
    """What a trial's process is told.

    Attributes:
        number: the trial's place among all.
        point: what is tried.
        seed: the contract's, where the sweep says it.
        run: the run file at the point.
        out: the run's folder.
        deterministic: seed of reproducible, hence non-private, noise; None for real noise.
        sweep: the sweep's folder, for what is pruned.
        file: what is swept.
        metric: name of the metric by which trials are judged.
        higher: whether more of it is better.
    """

    number: int
    point: AskedPoint
    seed: int | None
    run: RunFile
    out: Path
    deterministic: int | None
    sweep: Path
    file: SweepFile
    metric: str
    higher: bool


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a trial ended.

    Attributes:
        state: "complete", "pruned", or "failed".
        reason: why it failed, in one line.
        disk: whether the disk refused, which no other trial will do better with.
    """

    state: State
    reason: str = ""
    disk: bool = False


class _Pruned(Exception):  # noqa: N818
    """Ends a run between two rounds."""


def run_trial(job: TrialJob, level: int = logging.WARNING) -> Ending:
    """Run, or continue, a trial to its end; raises nothing that a trial can cause.

    Args:
        job: which.
        level: of its log.
    """
    prepare_worker(level)
    try:
        _train(job)
    except _Pruned:
        remove_copies(RunFolder(job.out))
        return Ending(state="pruned")
    except Exception as error:  # noqa: BLE001
        ending = _failed(job, error)
        if not ending.disk:  # that one is gone on with
            remove_copies(RunFolder(job.out))
        return ending
    return Ending(state="complete")


def _train(job: TrialJob) -> None:
    folder = RunFolder(job.out)
    if _complete(job.out):
        return  # it was, and nobody heard of it any more
    options = SimulateOptions(
        out=job.out,
        workers=0,  # a trial is one process
        deterministic=job.deterministic,
        resume=folder.contract_file.exists(),
    )
    simulate(job.run, options, committed=_judging(job) if job.file.plan.prune else uncommitted)


def _complete(out: Path) -> bool:
    return (out / RESULT_FILE).exists() and read_result(out).status == "complete"


def _judging(job: TrialJob) -> Committed:
    judge = RoundJudge(job.sweep, job.file, job.point.number, higher=job.higher)
    return partial(_judged, job, judge)


def _judged(job: TrialJob, judge: RoundJudge, number: int, *_: object) -> None:
    """End the run after a whole round whose public metric says so; the last one is the end."""
    if not 0 < number < job.run.contract.federation.rounds:
        return
    last = rounds_of(job.out)[-1]
    if not judge.goes_on(number, last.metrics[job.metric]):
        raise _Pruned


def rounds_of(out: Path) -> tuple[RoundResult, ...]:
    """The whole rounds of a run so far; of one that is not complete, its checkpoint knows them."""
    folder = RunFolder(out)
    point = round_checkpoint.load(folder.checkpoint, digest=folder.read_contract().digest)
    return point.rounds if point else ()


def result_of(out: Path) -> RunResult | None:
    """What is known of a trial's run; None where it has not come to its first round."""
    return read_result(out) if (out / RESULT_FILE).exists() else None


def _failed(job: TrialJob, error: Exception) -> Ending:
    log.warning(
        "%s failed: %s", job.out.name, error, exc_info=not isinstance(error, PressPoolError)
    )
    return Ending(state="failed", reason=one_line(error), disk=isinstance(error, StorageError))


def one_line(error: Exception) -> str:
    """Why a trial failed, for a table: no path, and no word of a record.

    Example:
        >>> one_line(PressPoolError("too few updates", expected=3, got=2))
        'too few updates: expected 3, got 2'
        >>> one_line(DataError("a label that is none", got="what a reader wrote"))
        'a label that is none'
        >>> one_line(ValueError("what a reader wrote"))
        'ValueError; the log has more'
    """
    if not isinstance(error, PressPoolError):
        return f"{type(error).__name__}; the log has more"
    asked = "" if isinstance(error, DataError | StorageError) else _asked(error)
    return " ".join(f"{error.what}{asked}".split())


def _asked(error: PressPoolError) -> str:
    parts = {"expected": error.expected, "got": error.got}
    said = ", ".join(f"{name} {value}" for name, value in parts.items() if value is not None)
    return f": {said}" if said else ""
