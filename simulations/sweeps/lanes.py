"""Where a sweep's trials run at the same time: processes of this machine, or tasks of a Ray.

Invariants:
    * A lane whose process dies (out of memory, say) costs the trial that it had, and no other;
      between two trials it costs none.
    * Ctrl-C reaches this process alone; leaving the block ends the lanes' processes at once.

Example: `with process_lanes(2) as lanes: lanes.start(job); lanes.ended()`.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from presspool.simulations.grids.ray_cluster import joined, require_nodes
from presspool.simulations.grids.simulation_grid import Place
from presspool.simulations.grids.worker_pools import WorkerPool
from presspool.simulations.sweeps.sweep_trial import Ending, TrialJob, run_trial

DIED = Ending(state="failed", reason="its process died; often too little memory")


class Lanes(ABC):
    """A number of trials that run at the same time.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    @property
    @abstractmethod
    def busy(self) -> int:
        """How many trials run."""

    @property
    def free(self) -> int:
        """How many trials can be started."""
        return self._count - self.busy

    @abstractmethod
    def start(self, job: TrialJob) -> None:
        """Start a trial in a free lane."""

    @abstractmethod
    def ended(self) -> tuple[TrialJob, Ending]:
        """Wait until a trial ends."""


class ProcessLanes(Lanes):
    """A process for each lane, which keeps what it has imported from one trial to the next."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self._idle = [WorkerPool(1) for _ in range(count)]
        self._running: dict[Future[Ending], tuple[TrialJob, WorkerPool]] = {}

    @property
    def busy(self) -> int:  # noqa: D102
        return len(self._running)

    def start(self, job: TrialJob) -> None:  # noqa: D102
        lane = self._idle.pop()
        level = logging.getLogger("presspool").getEffectiveLevel()
        call = run_trial, job, max(level, logging.WARNING)
        try:
            future = lane.submit(*call)
        except BrokenProcessPool:
            lane.end()
            future = (lane := WorkerPool(1)).submit(*call)
        self._running[future] = job, lane

    def ended(self) -> tuple[TrialJob, Ending]:  # noqa: D102
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        future = next(one for one in self._running if one in done)
        job, lane = self._running.pop(future)
        try:
            ending = future.result()
        except BrokenProcessPool:
            lane.end()
            ending, lane = DIED, WorkerPool(1)
        self._idle.append(lane)
        return job, ending

    def close(self) -> None:
        """End the processes at once."""
        for lane in (*self._idle, *(lane for _, lane in self._running.values())):
            lane.end()


class RayLanes(Lanes):
    """A Ray task for each trial.

    Args:
        count: how many at a time.
        ray: the module, connected.
        gpus: of each trial.
    """

    def __init__(self, count: int, ray: Any, *, gpus: float) -> None:
        super().__init__(count)
        self._ray = ray
        self._task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(run_trial)
        self._running: dict[Any, TrialJob] = {}

    @property
    def busy(self) -> int:  # noqa: D102
        return len(self._running)

    def start(self, job: TrialJob) -> None:  # noqa: D102
        self._running[self._task.remote(job)] = job

    def ended(self) -> tuple[TrialJob, Ending]:  # noqa: D102
        (done, *_), _ = self._ray.wait(list(self._running), num_returns=1)
        job = self._running.pop(done)
        try:
            ending: Ending = self._ray.get(done)
        except self._ray.exceptions.RayError:
            ending = DIED
        return job, ending

    def close(self) -> None:
        """End the tasks at once."""
        for task in self._running:
            self._ray.cancel(task, force=True)


@contextmanager
def process_lanes(count: int) -> Iterator[Lanes]:
    """So many processes of this machine."""
    lanes = ProcessLanes(count)
    try:
        yield lanes
    finally:
        lanes.close()


@contextmanager
def ray_lanes(count: int, place: Place) -> Iterator[Lanes]:
    """So many tasks at a time on the Ray cluster of a place.

    Raises:
        InputError: no Ray here, no cluster there, or one that does not fit.
    """
    with joined(place, workers=count) as ray:
        require_nodes(ray, place, {})
        lanes = RayLanes(count, ray, gpus=place.gpus)
        try:
            yield lanes
        finally:
            lanes.close()
