"""The coordinator's report for people: a run's line says what its task is after."""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.fakes.made_pool import open_desk
from tests.fakes.made_results import measured

from presspool.common.runs.old_results import METRICS
from presspool.common.tasks.metric import Metric
from presspool.server.coordinator.status import _answer, render

PERPLEXITY = Metric(name="perplexity", title="Perplexity", higher_is_better=False, primary=True)


@pytest.mark.parametrize(
    ("measures", "metrics", "said"),
    [
        (METRICS, measured(accuracy=0.5, macro_f1=0.4), "2 of 9 rounds, accuracy 0.500, ε 1.25"),
        ((PERPLEXITY,), {"perplexity": 54.5}, "2 of 9 rounds, perplexity 54.500, ε 1.25"),
        (METRICS, measured(), "2 of 9 rounds, ε 1.25"),
        ((), {}, "2 of 9 rounds, ε 1.25"),
    ],
)
def test_a_runs_line_says_its_primary_metric(
    measures: tuple[Metric, ...], metrics: dict[str, Any], said: str
) -> None:
    run = {"run": "run-1", "state": "running", "rounds_done": 2, "rounds": 9, "note": None}
    run |= {"measures": [asdict(one) for one in measures], "metrics": metrics}
    run |= {"epsilon": 1.25, "outlets": []}
    found = {"pool": "Pool", "address": "here", "running": True, "runs": [run]}
    render(found, Console(file=(stream := io.StringIO()), width=100))
    assert f"run-1: running, {said}\n" in stream.getvalue()


def test_an_update_that_was_thrown_away_since_it_was_counted_was_an_answer(tmp_path: Path) -> None:
    """The round is committed between two looks of a status that is asked for meanwhile."""
    assert _answer(open_desk(tmp_path), "a-task-without-an-update") == "answered"
