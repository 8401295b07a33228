"""The run's own metrics beside the newsroom's floors.

Invariants:
    * Which way is better says the result's own description of the metric: of a perplexity the floor
      is the most that is enough.
    * A floor under a metric that the run does not have is wrong input, never a pass.

Example: `[found.said for found in findings(case)]`.
"""

from __future__ import annotations

from collections.abc import Iterator

from presspool.common.base.errors import InputError
from presspool.common.base.numbers import decimal_text
from presspool.common.runs.shown_metrics import merit
from presspool.common.tasks.metric import Metric
from presspool.server.gate.finding import Finding, finding
from presspool.server.gate.gate_case import GateCase


def findings(case: GateCase) -> Iterator[Finding]:
    """One a floor.

    Raises:
        InputError: a floor of a metric that there is not.
    """
    result = case.candidate.result
    known = {metric.name: metric for metric in result.measures}
    for name, floor in case.policy.floors.items():
        if name not in known:
            raise InputError(
                "no such metric in the run's result",
                where="[floors]",
                expected=", ".join(sorted(known)),
                got=name,
            )
        yield _floor(known[name], result.final.figures.get(name), floor)


def _floor(metric: Metric, value: float | None, floor: float) -> Finding:
    holds = value is not None and merit(metric, value) >= merit(metric, floor)
    side = "least" if metric.higher_is_better else "most"
    said = f"{decimal_text(value)}, at {side} {decimal_text(floor)}"
    advice = "" if holds else _advice(value)
    return finding("floors", metric.name, said, advice, {"value": value, side: floor})


def _advice(value: float | None) -> str:
    if value is None:
        return "run it with an [evaluation] table, so that it is measured, and add the run anew"
    return "train longer or with more readers, or keep what is in production"
