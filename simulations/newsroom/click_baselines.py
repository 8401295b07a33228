"""What clicks can be foretold without training: by popularity, and by likeness to the history.

Likeness is the model of the task `recommendation` at its public start, the cosine of a candidate
with the mean of the history: round 0 of every run. Popularity, here, is how often a title was
clicked where it was shown, in impressions that are looked at openly; under privacy no outlet could
tell that, so the baseline is one for simulations.

Example:
    >>> shown = [Impression([], ["a", "b"], [1, 0]), Impression([], ["a", "c"], [1, 0])]
    >>> popularity(shown)["a"] > popularity(shown)["b"]
    True
    >>> by_popularity(shown, [Impression([], ["b", "a"], [0, 1])])["auc"]
    1.0
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import pyarrow as pa

from presspool.common.runs.named_files import stem, table_files
from presspool.common.runs.run_file import EvaluationData, RunFile
from presspool.common.tasks.records.impressions import COLUMNS, Impression, read
from presspool.common.tasks.scores.ranking_scores import means, ranked

_SEEN = 10.0  # a title counts as shown so often more, and clicked as all are in the mean


def popularity(shown: Iterable[Impression]) -> dict[str, float]:
    """Of each title the share of impressions in which it was clicked, drawn to the mean."""
    views, clicks = Counter[str](), Counter[str]()
    for one in shown:
        views.update(one.candidates)
        clicks.update(t for t, hit in zip(one.candidates, one.clicks, strict=True) if hit)
    mean = clicks.total() / max(1, views.total())
    return {title: (clicks[title] + _SEEN * mean) / (views[title] + _SEEN) for title in views}


def by_popularity(
    shown: Sequence[Impression], judged: Iterable[Impression]
) -> dict[str, float | None]:
    """The figures of `ranking_scores`, as means over impressions."""
    return means(popularity_each(shown, judged))


def popularity_each(
    shown: Iterable[Impression], judged: Iterable[Impression]
) -> list[dict[str, float]]:
    """Each impression's figures; a title that nobody was shown is as popular as the mean."""
    known = popularity(shown)
    mean = sum(known.values()) / max(1, len(known))
    return [ranked([known.get(t, mean) for t in one.candidates], one.clicks) for one in judged]


def popularity_auc(run: RunFile) -> float | None:
    """By popularity in a simulation's data, on its held-out file; None where one is not here."""
    if run.simulation is None or run.evaluation is None or isinstance(run.simulation.data, str):
        return None
    simulation, contract = run.simulation, run.contract
    data = [run.simulation.data]
    if simulation.partition == "files":
        data = [one for one in table_files(run.simulation.data) if stem(one) in contract.outlets]
    files = [EvaluationData(data=one, columns=simulation.columns) for one in data]
    shown = [one for file in files for one in read_impressions(file.records(contract))]
    return by_popularity(shown, read_impressions(run.evaluation.records(contract)))["auc"]


def read_impressions(records: pa.Table) -> list[Impression]:
    """The impressions of records of the task."""
    return [read(*row.values()) for row in records.select(COLUMNS).to_pylist()]
