"""Optuna's part in a sweep: which point is next, and whether a trial is worth its rounds.

The study is a journal file in the sweep's folder, which every process of the sweep appends to, and
from which a stopped sweep goes on.

Invariants:
    * All that Optuna is told is measured on public records.
    * A point that was begun is ended before a new one is asked for.
    * A grid's and a random sweep's points are known, and the same, before the first trial.
    * Ctrl-C waits for the journal: Optuna breaks where it is interrupted with the file's lock.

Example: `PointSearch(found, folder, higher=True).ask()`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from presspool.common.base.extras import from_extra
from presspool.common.base.stopping import held_back
from presspool.simulations.sweeps.points import Point, grid_points
from presspool.simulations.sweeps.sweep_file import Choices, Interval, SweepFile

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import Study

STUDY_FILE, _STUDY = "study.journal", "sweep"
COMPARED = 3  # finished trials before any is ended early
WARM_UP = 1  # rounds that every trial has
_SEED = 0  # of the samplers: a sweep typed again elsewhere tries the same points


def imported() -> Any:
    """The module `optuna`, silent; raises `InputError` where it is not installed."""
    with from_extra("sweep", "no Optuna here, which chooses points"):
        import optuna
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@dataclass(frozen=True, kw_only=True)
class AskedPoint:
    """A point that is tried.

    Attributes:
        number: its place among the sweep's points, from 0.
        values: what the swept keys are.
    """

    number: int
    values: Point


class PointSearch:
    """The study of a sweep's folder.

    Args:
        file: what is swept.
        folder: where the study lies; there may be one.
        higher: whether more of the metric is better.
    """

    def __init__(self, file: SweepFile, folder: Path, *, higher: bool) -> None:
        self._axes = {key: _distribution(axis) for key, axis in file.space.items()}
        known = (folder / STUDY_FILE).exists()
        self._count = file.plan.trials or len(grid_points(file.space))
        with held_back():
            self._study = _study(folder, file, higher)
            for point in [] if known else planned_points(file):
                self._study.enqueue_trial(dict(point))

    def begun(self) -> list[AskedPoint]:
        """The points that an earlier process began and did not end."""
        from optuna.trial import TrialState

        found = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [AskedPoint(number=one.number, values=one.params) for one in found]

    def ask(self) -> AskedPoint | None:
        """The next point, or None where there is none any more."""
        from optuna.trial import TrialState

        asked = [t for t in self._study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]
        if len(asked) >= self._count:
            return None
        with held_back():
            trial = self._study.ask(self._axes)
        return AskedPoint(number=trial.number, values=trial.params)

    def tell(self, number: int, value: float | None, *, pruned: bool) -> None:
        """End a point.

        Args:
            number: the point's.
            value: its metric; None where it has none.
            pruned: whether it was ended early.
        """
        from optuna.trial import TrialState

        state = TrialState.PRUNED if pruned else TrialState.COMPLETE
        if value is None and not pruned:
            state = TrialState.FAIL
        kept = value if state == TrialState.COMPLETE else None
        with held_back():
            self._study.tell(number, kept, state=state, skip_if_finished=True)


def planned_points(file: SweepFile) -> Sequence[Point]:
    """The points that are known before the first trial; none of "tpe"."""
    if file.plan.sampler == "tpe":
        return []
    if file.plan.sampler == "grid":
        return grid_points(file.space)
    optuna = imported()
    axes = {key: _distribution(axis) for key, axis in file.space.items()}
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=_SEED))
    return [drawn.ask(axes).params for _ in range(file.plan.trials or 0)]


class RoundJudge:
    """Says after each round whether a trial goes on; made in the trial's own process.

    Args:
        folder: of the sweep.
        file: what is swept.
        number: the point's.
        higher: whether more of the metric is better.
    """

    def __init__(self, folder: Path, file: SweepFile, number: int, *, higher: bool) -> None:
        study = _study(folder, file, higher)
        (found,) = (t for t in study.get_trials(deepcopy=False) if t.number == number)
        self._trial = imported().trial.Trial(study, found._trial_id)

    def goes_on(self, number: int, value: float | None) -> bool:
        """Whether a trial goes on that has this value of the public metric after a round."""
        self._trial.report(math.nan if value is None else value, step=number)
        return not self._trial.should_prune()


def _study(folder: Path, file: SweepFile, higher: bool) -> Study:
    optuna = imported()
    backend = optuna.storages.journal.JournalFileBackend(str(folder / STUDY_FILE))
    study: Study = optuna.create_study(
        storage=optuna.storages.JournalStorage(backend),
        study_name=_STUDY,
        direction="maximize" if higher else "minimize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=COMPARED, n_warmup_steps=WARM_UP),
    )
    study.sampler = _sampler(file, drawn=len(study.get_trials(deepcopy=False)))
    return study


def _sampler(file: SweepFile, *, drawn: int) -> BaseSampler:
    """The sampler; one that starts again in the middle must not draw the first points anew."""
    samplers = imported().samplers
    kind = samplers.TPESampler if file.plan.sampler == "tpe" else samplers.RandomSampler
    found: BaseSampler = kind(seed=_SEED + drawn)
    return found


def _distribution(axis: Choices | Interval) -> BaseDistribution:
    kinds = imported().distributions
    if isinstance(axis, Choices):
        found: BaseDistribution = kinds.CategoricalDistribution(axis.values)
    elif axis.whole:
        found = kinds.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    else:
        found = kinds.FloatDistribution(axis.low, axis.high, log=axis.log)
    return found
