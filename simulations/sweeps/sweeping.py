"""A sweep from its first point to its last: what is tried next, what came out, and going on again.

::

    OUT/sweep.json        what is swept, and of which run file
    OUT/study.journal     Optuna's
    OUT/trials/0007/      an ordinary run folder for each trial
    OUT/trials.parquet    a row a trial, written after each
    OUT/sweep.html        the same as a page

Invariants:
    * A trial that fails is a row with its reason, and the sweep goes on; a full disk ends it.
    * A trial that has a row is not run again; one that was under way goes on from its last round.
    * A trial that will not go on keeps no copy of readers' records.
    * A point ends when all its seeds have rows, and Optuna is told their mean.

Example: `sweep(request, checked(request)).rows`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from statistics import fmean

from presspool.common.base.errors import ContractError, FolderError, StorageError
from presspool.common.base.locks import locked
from presspool.common.runs.result_file import read_result
from presspool.common.runs.run_folder import RunFolder
from presspool.common.tasks.metric import Metric
from presspool.server.rounds.trackers.tracker import track
from presspool.simulations.grids.simulation_grid import Place
from presspool.simulations.newsroom.partitions import remove_copies
from presspool.simulations.sweeps.lanes import Lanes, process_lanes, ray_lanes
from presspool.simulations.sweeps.point_search import AskedPoint, PointSearch
from presspool.simulations.sweeps.points import in_one_process, run_at
from presspool.simulations.sweeps.sweep_request import SWEEP_FILE, WHERE, SweepRequest, claim
from presspool.simulations.sweeps.sweep_trial import Ending, TrialJob, one_line
from presspool.simulations.sweeps.trial_table import TrialRow, read_table, row_of, write_table

TRIALS = "trials"


@dataclass(frozen=True, kw_only=True)
class Swept:
    """What a sweep came to so far.

    Attributes:
        request: what was asked for.
        metric: what trials are judged by.
        rows: a row for each trial that ended, by number.
    """

    request: SweepRequest
    metric: Metric
    rows: tuple[TrialRow, ...]


OnTrial = Callable[[Swept, TrialRow], None]


def sweep(
    request: SweepRequest, metric: Metric, *, on_trial: OnTrial = lambda _swept, _row: None
) -> Swept:
    """Run, or continue, a sweep.

    Args:
        request: what is asked for; `checked` has looked at it.
        metric: what trials are judged by.
        on_trial: called after each trial that ended now, when its row is written.

    Raises:
        FolderError: the folder holds something else, or nothing to go on with.
        StorageError: the disk refuses; the rows so far are kept.
    """
    busy = FolderError(
        "another process works on this sweep",
        where=str(request.out),
        advice="wait for it, or end it and type the same again with --resume",
    )
    with _lanes(request) as lanes:  # first: a cluster that is not there leaves nothing behind
        claim(request)
        with locked(request.out / SWEEP_FILE, busy=busy):
            return _Loop(request, metric, lanes, on_trial).run()


def known_rows(request: SweepRequest) -> int:
    """How many trials have ended in a folder that is gone on with."""
    return len(read_table(request.out)) if request.resume else 0


def _lanes(request: SweepRequest) -> AbstractContextManager[Lanes]:
    if request.ray_address is None:
        return process_lanes(min(request.workers, request.trials))
    simulation = request.run.simulation
    gpus = simulation.gpus_per_worker if simulation else 0.0
    return ray_lanes(request.workers, Place(address=request.ray_address, gpus=gpus))


class _Loop:
    """Lanes are kept busy, endings become rows, and points whose seeds are done end."""

    def __init__(
        self, request: SweepRequest, metric: Metric, lanes: Lanes, on_trial: OnTrial
    ) -> None:
        self._request, self._metric, self._lanes = request, metric, lanes
        self._on_trial = on_trial
        self._search = PointSearch(request.file, request.out, higher=metric.higher_is_better)
        self._rows = {row.number: row for row in read_table(request.out)}
        self._begun, self._waiting = deque(self._search.begun()), deque[tuple[AskedPoint, int]]()

    def run(self) -> Swept:
        self._fill()
        while self._lanes.busy:
            self._add(*self._lanes.ended())
            self._fill()
        return self._swept()

    def _fill(self) -> None:
        """Start trials until no lane is free or nothing is left."""
        while self._lanes.free and (self._waiting or self._next_point()):
            if self._waiting:
                self._start(*self._waiting.popleft())

    def _next_point(self) -> bool:
        point = self._begun.popleft() if self._begun else self._search.ask()
        if point is None:
            return False
        places = range(len(self._request.seeds))
        self._waiting.extend((point, p) for p in places if self._number(point, p) not in self._rows)
        self._end_if_done(point)  # a sweep that was stopped had all its rows
        return True

    def _number(self, point: AskedPoint, place: int) -> int:
        return point.number * len(self._request.seeds) + place

    def _start(self, point: AskedPoint, place: int) -> None:
        request, number = self._request, self._number(point, place)
        job = TrialJob(
            number=number,
            point=point,
            seed=request.seeds[place],
            run=request.run,
            out=request.out.resolve() / TRIALS / f"{number:04d}",
            deterministic=request.noise(place),
            sweep=request.out.resolve(),
            file=request.file,
            metric=self._metric.name,
            higher=self._metric.higher_is_better,
        )
        try:
            run = run_at(request.run, point.values, seed=job.seed, where=WHERE)
        except ContractError as error:  # of "tpe" not every point was looked at
            self._add(job, Ending(state="failed", reason=one_line(error)))
            return
        self._lanes.start(replace(job, run=in_one_process(run)))

    def _add(self, job: TrialJob, ending: Ending) -> None:
        """Write the row of a trial, and end its point where that was the last of its seeds."""
        if ending.disk:
            raise StorageError(
                "the disk refuses a trial",
                where=str(job.out),
                got=ending.reason,
                advice="make room, then type the same again with --resume",
            )
        if ending.state != "complete":
            remove_copies(RunFolder(job.out))
        row = row_of(
            self._request.out,
            ending,
            number=job.number,
            point=job.point.number,
            seed=job.seed,
            values=job.point.values,
            folder=str(job.out.relative_to(job.sweep)),
        )
        if row.state == "complete":  # first: a trial that has a row is never looked at again
            track(self._request.track, self._request.out, read_result(job.out), label=job.out.name)
        self._rows[row.number] = row
        write_table(self._request.out, list(self._rows.values()))
        self._end_if_done(job.point)
        self._on_trial(self._swept(), row)

    def _end_if_done(self, point: AskedPoint) -> None:
        numbers = [self._number(point, place) for place in range(len(self._request.seeds))]
        if all(number in self._rows for number in numbers):
            rows = [self._rows[number] for number in numbers]
            pruned = any(row.state == "pruned" for row in rows)
            self._search.tell(point.number, _mean(rows, self._metric.name), pruned=pruned)

    def _swept(self) -> Swept:
        rows = tuple(self._rows[number] for number in sorted(self._rows))
        return Swept(request=self._request, metric=self._metric, rows=rows)


def _mean(rows: Sequence[TrialRow], metric: str) -> float | None:
    """The mean over a point's seeds; None where one has no figure."""
    values = [row.metrics.get(metric) if row.state == "complete" else None for row in rows]
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None
