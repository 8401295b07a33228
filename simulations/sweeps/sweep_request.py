"""What is asked of a sweep, looked at before anything is written, and the folder that it claims.

Invariants:
    * Whatever is known to be wrong is told before anything is written: every point of a grid or a
      random sweep is validated as a contract, of "tpe" every end of every range.
    * A folder belongs to one sweep for ever: run file, space, plan and noise.

Example: `metric = checked(request)`; `claim(request)`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from presspool.common.base.errors import ContractError, FolderError, StorageError
from presspool.common.base.files import replace_file
from presspool.common.runs.run_file import RunFile
from presspool.common.tasks.metric import Metric
from presspool.server.rounds.trackers.tracker import require_trackers
from presspool.simulations.simulate import simulation_of
from presspool.simulations.sweeps.point_search import imported, planned_points
from presspool.simulations.sweeps.points import (
    Point,
    corners,
    frozen_at,
    judged_by,
    require_public,
    run_at,
)
from presspool.simulations.sweeps.sweep_file import SweepFile

SWEEP_FILE, WHERE = "sweep.json", "sweep.toml"


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """What is asked for.

    Attributes:
        run: the run file, with [simulation] and [evaluation].
        file: what is swept.
        out: the sweep's folder.
        workers: trials at a time.
        deterministic: seed of reproducible, hence non-private, noise; None for real noise.
        resume: go on with what lies in the folder.
        ray_address: HOST:PORT of the Ray cluster to work on; None for processes of this machine.
        track: names of trackers that keep the complete trials' public numbers besides.
    """

    run: RunFile
    file: SweepFile
    out: Path
    workers: int = 2
    deterministic: int | None = None
    resume: bool = False
    ray_address: str | None = None
    track: tuple[str, ...] = ()

    @property
    def seeds(self) -> Sequence[int | None]:
        """The contract's seeds; None for the run file's own."""
        return self.file.plan.seeds or (None,)

    @property
    def trials(self) -> int:
        """How many trials there are."""
        points = self.file.plan.trials or len(planned_points(self.file))
        return points * len(self.seeds)

    def noise(self, place: int) -> int | None:
        """The seed of reproducible noise of a point's trial, another one for each of its seeds."""
        return None if self.deterministic is None else self.deterministic + place

    def identity(self) -> dict[str, Any]:
        """What a folder's trials all have in common, as JSON values."""
        simulation, evaluation = self.run.simulation, self.run.evaluation
        return {
            "schema": 1,
            "run": dict(self.run.written),
            "outlets": simulation.outlets if simulation else None,
            "evaluation": str(evaluation.data.resolve()) if evaluation else None,
            **self.file.identity,
            "deterministic": self.deterministic,
        }


def points_known(file: SweepFile) -> list[Point]:
    """The points to look at before the first trial: all, or of "tpe" the ends of all ranges."""
    return list(planned_points(file)) or list(corners(file.space))


def checked(request: SweepRequest, *, on_point: Callable[[], None] = lambda: None) -> Metric:
    """The metric by which a sweep that can begin judges its trials.

    Args:
        request: what is asked for.
        on_point: called after each point that was looked at.

    Raises:
        InputError: an extra that is missing, nothing public to judge by, or a point that is no
            contract.
    """
    imported()
    require_trackers(request.track)
    run, file = request.run, request.file
    simulation_of(run)
    evaluation = require_public(run, file.space, WHERE)
    metrics = list[Metric]()
    for point in points_known(file):
        contract = frozen_at(run_at(run, point, seed=request.seeds[0], where=WHERE))
        if not metrics:
            evaluation.records(contract)
        metrics.append(judged_by(contract, file.plan.metric, WHERE))
        on_point()
    if len({metric.name for metric in metrics}) > 1:
        raise ContractError(
            "points of several tasks, with no metric that all have",
            where=f"{WHERE} metric",
            advice="name one, or sweep one task",
        )
    return metrics[0]


def claim(request: SweepRequest) -> None:
    """Claim the folder for a sweep, or recognise the sweep that is to be continued.

    Raises:
        FolderError: it holds something else, or there is nothing to go on with.
        StorageError: the disk refuses.
    """
    out, file = request.out, request.out / SWEEP_FILE
    said = json.dumps(request.identity(), indent=1, ensure_ascii=False) + "\n"
    if request.resume:
        _recognise(file, said)
        return
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise FolderError(
            f"the output folder already holds {'a sweep' if file.exists() else 'other files'}",
            where=str(out),
            expected="a new or empty folder",
            advice="choose another --out, or continue that sweep with --resume",
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError("cannot write", where=str(out), got=error.strerror) from None
    replace_file(file, said.encode())


def _recognise(file: Path, said: str) -> None:
    if not file.exists():
        raise FolderError(
            "nothing to resume",
            where=str(file.parent),
            expected="a folder that holds a sweep",
            advice="leave out --resume",
        )
    if file.read_text(encoding="utf-8") != said:
        raise FolderError(
            "the folder holds another sweep",
            where=str(file.parent),
            expected="the run.toml, sweep.toml and --deterministic that began it",
            advice="choose another --out, or give those",
        )
