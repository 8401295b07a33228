"""The candidate against what is in production, record by record, on the public rows.

Both answer the same records, and what the task is judged by is computed again on records drawn with
replacement, the same for both: an interval of the difference that knows how much the two agree.

Invariants:
    * The interval is of the task's first metric, and points up where the candidate is better.
    * The same files give the same interval: the draws have a fixed seed, and protect nobody.

Source: Efron & Tibshirani 1993, chapter 13 (percentile interval); of pairs as in Koehn,
"Statistical Significance Tests for Machine Translation Evaluation", 2004.

Example: `[found.figures["low"] for found in findings(case)]`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from presspool.common.contract.doors import task_of
from presspool.common.runs.shown_metrics import merit
from presspool.common.tasks.metric import Metric
from presspool.common.tasks.task import Judged
from presspool.server.gate.checks.public_rows import without_rows
from presspool.server.gate.finding import Finding, finding
from presspool.server.gate.gate_case import GateCase, JudgedAdapter
from presspool.server.gate.release_policy import Production

DRAWS: Final = 500
_finding = partial(finding, "production")


def findings(case: GateCase) -> Iterator[Finding]:
    """One, where the policy asks for it."""
    asked, there = case.policy.production, case.production
    if asked is None:
        return
    if there is None:
        said = "nothing is in production for this task and language"
        yield _finding("comparison", said, judged=False)
    elif case.public is None:
        yield without_rows("production")
    elif (own := _asked(case.candidate)) != (other := _asked(there)):
        said = f"{there.title} answers another question: {other}, not {own}"
        advice = "tell by hand which is better, then override the gate"
        yield _finding("comparison", said, advice)
    else:
        yield _compared(case.candidate, there, case.public, asked)


def _asked(one: JudgedAdapter) -> dict[str, object]:
    """What decides of the same row what the right answer is."""
    table = one.papers.adapter.contract.task.model_dump(mode="json")
    return {key: table[key] for key in ("kind", "format", "mode", "labels") if key in table}


def _compared(
    candidate: JudgedAdapter, there: JudgedAdapter, public: pa.Table, asked: Production
) -> Finding:
    own, metric = _judged(candidate, public)
    other, _ = _judged(there, public)
    difference, low, high = interval(candidate, (own, other), public, metric, asked.confidence)
    worse = not high >= 0  # what is not a number has not passed either
    unit = f" {metric.unit}" if metric.unit else ""
    return _finding(
        metric.name,
        f"{metric.title} on {len(public):,} public rows is better than {there.title}'s by "
        f"{difference:+.4f}{unit} [{low:+.4f}, {high:+.4f}], {100 * asked.confidence:g} %",
        f"keep {there.title}, and train longer or with more readers" if worse else "",
        {"value": difference, "low": low, "high": high, "rows": len(public)},
    )


def _judged(one: JudgedAdapter, public: pa.Table) -> tuple[Judged, Metric]:
    """What the metric needs of each row, under an adapter."""
    return one.model.judged(public), one.model.task.primary


def interval(
    judge: JudgedAdapter,
    pair: tuple[Judged, Judged],
    public: pa.Table,
    metric: Metric,
    confidence: float,
) -> tuple[float, float, float]:
    """How much better the first of a pair is: as it stands, and the ends of the interval.

    Args:
        judge: whose task scores both.
        pair: candidate and production, each name to (rows, ...).
        public: the rows.
        metric: of the task.
        confidence: that the interval holds.
    """
    task, rng, count = task_of(judge.papers.adapter.contract), np.random.default_rng(0), len(public)

    def better(places: NDArray[np.int64]) -> float:
        some, merits = public.take(places), []
        for each in pair:
            part = {name: values[places] for name, values in each.items()}
            merits.append(merit(metric, task.score(part, some)[metric.name]))
        return merits[0] - merits[1] if np.isfinite(merits).all() else np.nan

    drawn = [better(rng.integers(0, count, count)) for _ in range(DRAWS)]
    edge = (1 - confidence) / 2
    low, high = (
        np.nanquantile(drawn, [edge, 1 - edge]) if np.isfinite(drawn).any() else (np.nan,) * 2
    )
    return better(np.arange(count)), float(low), float(high)
