"""Finished trials as a tidy table: one row for each model group, read from the jobs' folders.

Two figures for each trial:

* `pooled`: the share of all test records that are right; for `local` the mean over its models;
* `own`: each outlet's own test records, judged by the model that serves that outlet, every outlet
  counting the same.

Intervals are 95 % percentile bootstrap over seeds and test records together (Efron & Tibshirani
1993, ch. 13): both are drawn with replacement. A difference of two arms draws the same seeds and
records for both, so that what they share cancels.

Example: `Judged.read(trial, jobs_folder).accuracy("own")`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from presspool.simulations.experiments.arms import Trial
from presspool.simulations.experiments.pools import EVERYBODY

RESAMPLES = 2000
FIGURES = ("pooled", "own")

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A finished trial.

    Attributes:
        trial: which one.
        pooled: (records,) share of its models that are right on each test record.
        own: (records,) whether the model that serves the record's outlet is right.
        outlet: (records,) each test record's outlet.
        seconds: how long all its models trained.
    """

    trial: Trial
    pooled: Floats
    own: Floats
    outlet: NDArray[np.str_]
    seconds: float

    @classmethod
    def read(cls, trial: Trial, folder: Path) -> Judged:
        """Read a trial's jobs."""
        outlet = np.array(pq.read_table(trial.pool.test, columns=["outlet"])["outlet"].to_pylist())
        right = {name: job.correct(folder).astype(float) for name, job in trial.jobs.items()}
        pooled = np.mean(list(right.values()), axis=0)
        own = pooled.copy()
        for name, correct in right.items():
            if name != EVERYBODY:
                own[outlet == name] = correct[outlet == name]
        return cls(
            trial=trial,
            pooled=pooled,
            own=own,
            outlet=outlet,
            seconds=sum(job.seconds(folder) for job in trial.jobs.values()),
        )

    def weights(self, figure: str) -> Floats:
        """(records,) what each test record counts for in a figure, summing to 1."""
        if figure == "pooled":
            return np.full(len(self.outlet), 1 / len(self.outlet))
        names, place, counts = np.unique(self.outlet, return_inverse=True, return_counts=True)
        weights: Floats = 1 / (len(names) * counts[place])
        return weights

    def accuracy(self, figure: str) -> float:
        """One of `FIGURES`."""
        scores: Floats = getattr(self, figure)
        return float(scores @ self.weights(figure))


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds with its 95 % interval.

    Attributes:
        mean: over seeds.
        low: 2.5 % quantile of the bootstrap.
        high: 97.5 % quantile.
        seeds: how many seeds.
    """

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval is above zero."""
        return self.low > 0


def estimate(trials: Sequence[Judged], figure: str) -> Estimate:
    """An arm's accuracy: its repetitions at one ε."""
    scores = np.stack([getattr(judged, figure) for judged in trials])
    return _bootstrap(scores, trials[0].weights(figure))


def difference(left: Sequence[Judged], right: Sequence[Judged], figure: str) -> Estimate:
    """Left minus right over the seeds that both have."""
    others = {judged.trial.seed: judged for judged in right}
    pairs = [(one, others[one.trial.seed]) for one in left if one.trial.seed in others]
    scores = np.stack([getattr(a, figure) - getattr(b, figure) for a, b in pairs])
    return _bootstrap(scores, left[0].weights(figure))


def _bootstrap(scores: Floats, weights: Floats) -> Estimate:
    """`scores`: (seeds, records); the same bootstrap draws on every call."""
    rng = np.random.default_rng(0)
    seeds, records = scores.shape
    means = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        over_seeds = scores[rng.integers(seeds, size=seeds)].mean(axis=0)
        times = np.bincount(rng.integers(records, size=records), minlength=records) * weights
        means[i] = over_seeds @ times / times.sum()
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(
        mean=float(scores.mean(axis=0) @ weights), low=float(low), high=float(high), seeds=seeds
    )


def tidy(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """One row for each trial, figure and outlet."""
    return [
        {
            "pool": j.trial.pool.name,
            "arm": j.trial.arm.name,
            "kind": j.trial.arm.kind,
            "epsilon": j.trial.epsilon,
            "seed": j.trial.seed,
            "figure": figure,
            "outlet": outlet,
            "accuracy": accuracy,
            "test_records": len(j.outlet),
            "seconds": j.seconds,
            "readers": sum(j.trial.pool.readers.values()),
        }
        for j in judged
        for figure, outlet, accuracy in _figures(j)
    ]


def _figures(judged: Judged) -> list[tuple[str, str, float]]:
    whole = [(figure, EVERYBODY, judged.accuracy(figure)) for figure in FIGURES]
    return whole + [
        ("own", str(name), float(judged.own[judged.outlet == name].mean()))
        for name in np.unique(judged.outlet)
    ]
