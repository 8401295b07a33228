"""Finished trials as a tidy table: one row for each model group, read from the jobs' folders.

Figures of each trial:

* `pooled`: the mean over all test records of what they are judged by (`measures`): the share
  that is right, or nats a token; for `local` the mean over its models;
* `own`: each outlet's own test records, judged by the model that serves that outlet, every outlet
  counting the same;
* `written`, of a generating model: the mean ROUGE-L of what its models write for some records.

Intervals are 95 % percentile bootstrap over seeds and test records together (Efron & Tibshirani
1993, ch. 13): both are drawn with replacement. A difference of two arms draws the same seeds and
records for both, so that what they share cancels.

Example: `Judged.read(trial, jobs_folder).mean("own")`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        pooled: (records,) mean over its models of each test record's figure.
        own: (records,) the figure by the model that serves the record's outlet.
        outlet: (records,) each test record's outlet.
        seconds: how long all its models trained.
        size: (records,) what each test record weighs; its tokens, say.
        written: (records,) mean over its models of ROUGE-L, not a number where nothing was written;
            None where nothing is.
    """

    trial: Trial
    pooled: Floats
    own: Floats
    outlet: NDArray[np.str_]
    seconds: float
    size: Floats | float = 1.0
    written: Floats | None = None

    @classmethod
    def read(cls, trial: Trial, folder: Path) -> Judged:
        """Read a trial's jobs."""
        outlet = np.array(pq.read_table(trial.pool.test, columns=["outlet"])["outlet"].to_pylist())
        found = {name: job.figures(folder) for name, job in trial.jobs.items()}
        pooled = np.mean([figures.each for figures in found.values()], axis=0)
        own, written = pooled.copy(), [f.written for f in found.values() if f.written is not None]
        for name, figures in found.items():
            if name != EVERYBODY:
                own[outlet == name] = figures.each[outlet == name]
        return cls(
            trial=trial,
            pooled=pooled,
            own=own,
            outlet=outlet,
            size=next(iter(found.values())).size,
            written=np.mean(written, axis=0) if written else None,
            seconds=sum(job.seconds(folder) for job in trial.jobs.values()),
        )

    def weights(self, figure: str) -> Floats:
        """(records,) what each test record counts for in a figure, summing to 1."""
        weights: Floats = np.ones(len(self.outlet)) * self.size
        if figure == "written":
            weights = (~np.isnan(getattr(self, figure))).astype(np.float64)
        if figure != "own":
            weights /= weights.sum()
        else:
            names, place = np.unique(self.outlet, return_inverse=True)
            weights /= len(names) * np.bincount(place, weights=weights)[place]
        return weights

    def scores(self, figure: str) -> Floats:
        """(records,) a figure, 0 where a record has none and counts nothing."""
        scores: Floats = np.nan_to_num(getattr(self, figure))
        return scores

    def mean(self, figure: str) -> float:
        """A figure of the whole trial."""
        return float(self.scores(figure) @ self.weights(figure))


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
    """An arm's mean: its repetitions at one ε."""
    return _bootstrap([trials], figure, lambda mean: mean[0])


def difference(left: Sequence[Judged], right: Sequence[Judged], figure: str) -> Estimate:
    """By how much left is better than right, over the seeds that both have."""
    sign = 1 if figure == "written" or left[0].trial.measure.higher_is_better else -1
    return _bootstrap([left, right], figure, lambda mean: sign * (mean[0] - mean[1]))


def share(
    kept: Sequence[Judged], start: Sequence[Judged], best: Sequence[Judged], figure: str
) -> Estimate:
    """How much of the way from `start` to `best` an arm goes, over the seeds that all have."""
    return _bootstrap(
        [kept, start, best], figure, lambda mean: (mean[0] - mean[1]) / (mean[2] - mean[1])
    )


def _bootstrap(
    arms: Sequence[Sequence[Judged]], figure: str, of: Callable[[Floats], float]
) -> Estimate:
    """Of a function of the arms' means, (arms,); the same bootstrap draws on every call."""
    scores = np.stack([[judged.scores(figure) for judged in arm] for arm in _paired(arms)])
    weights = arms[0][0].weights(figure)
    scores, weights = scores[..., weights > 0], weights[weights > 0]
    rng = np.random.default_rng(0)
    _, seeds, records = scores.shape
    means = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        over_seeds = scores[:, rng.integers(seeds, size=seeds)].mean(axis=1)
        times = np.bincount(rng.integers(records, size=records), minlength=records) * weights
        means[i] = of(over_seeds @ times / times.sum())
    low, high = np.quantile(means, [0.025, 0.975])
    mean = float(of(scores.mean(axis=1) @ weights))
    return Estimate(mean=mean, low=float(low), high=float(high), seeds=seeds)


def _paired(arms: Sequence[Sequence[Judged]]) -> list[list[Judged]]:
    """Repetitions by seeds that all arms have; what is not trained stands beside any seed."""
    of = [{judged.trial.seed: judged for judged in arm} for arm in arms]
    drawn = [set(found) for found, arm in zip(of, arms, strict=True) if arm[0].trial.arm.trained]
    seeds = sorted(set.intersection(*(drawn or [set(of[0])])))
    return [[found.get(seed, next(iter(found.values()))) for seed in seeds] for found in of]


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
            j.trial.measure.name: mean,
            "rouge_l": j.mean("written") if figure == "pooled" and j.written is not None else None,
            "test_records": len(j.outlet),
            "seconds": j.seconds,
            "readers": sum(j.trial.pool.readers.values()),
        }
        for j in judged
        for figure, outlet, mean in _figures(j)
    ]


def _figures(judged: Judged) -> list[tuple[str, str, float]]:
    whole = [(figure, EVERYBODY, judged.mean(figure)) for figure in FIGURES]
    weights = judged.weights("own")
    return whole + [
        ("own", str(name), float(np.average(judged.own[mine], weights=weights[mine])))
        for name in np.unique(judged.outlet)
        for mine in [judged.outlet == name]
    ]
