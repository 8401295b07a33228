"""The page of a sweep: what it says, and that it says it without a request."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.made_runs import write_run
from tests.fakes.sweeps.made_trials import made_row

from presspool.common.contract.doors import task_of
from presspool.common.runs.run_file import read_run_file
from presspool.simulations.sweeps.parallel_lines import ParallelAxis, parallel
from presspool.simulations.sweeps.sweep_file import parse_sweep
from presspool.simulations.sweeps.sweep_page import render
from presspool.simulations.sweeps.sweep_request import SweepRequest
from presspool.simulations.sweeps.sweeping import Swept
from presspool.simulations.sweeps.trial_table import TrialRow

SPACE = {"privacy": {"noise_multiplier": [1, 2, "inf"]}, "adapter": {"method": ["ffa", "head"]}}


@pytest.fixture
def swept(tmp_path: Path, contract_body: dict[str, Any]) -> Swept:
    run = read_run_file(write_run(tmp_path, contract_body))
    request = SweepRequest(run=run, file=parse_sweep(SPACE, where="x"), out=tmp_path / "out")
    return Swept(request=request, metric=task_of(run.contract).primary, rows=())


def row(number: int, sigma: float, accuracy: float | None, **changes: Any) -> TrialRow:
    values = {"privacy.noise_multiplier": sigma, "adapter.method": "<b>"}
    return made_row(number, values=values, metrics={"accuracy": accuracy}, **changes)


def page(swept: Swept, *rows: TrialRow) -> str:
    made = render(Swept(request=swept.request, metric=swept.metric, rows=rows))
    assert re.findall(r"(?:src|href)=|<script|url\(", made) == []
    return made


def test_the_best_point_its_price_and_the_sum_over_all_trials_are_said(swept: Swept) -> None:
    made = page(swept, row(0, 1.0, 0.5), row(1, 2.0, 0.75, epsilon=7.0), row(2, math.inf, 0.6))
    assert "Best accuracy</dt><dd>75.0%<small>on public records" in made
    assert "the 3 trials here add up to ε\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}12.80" in made
    assert "3 of 6" in made
    assert made.index(">1 ●<") < made.index(">2 ●<")
    assert "&lt;b&gt;" in made
    assert "<b>PressPool</b>" in made.replace("&lt;b&gt;", "")
    assert "Parallel coordinates" in made


def test_an_unprotected_point_is_not_what_the_page_begins_with(swept: Swept) -> None:
    bare = row(1, 2.0, 0.9, epsilon=math.inf, delta=None)
    made = page(swept, row(0, 1.0, 0.5), bare)
    assert "Best accuracy with an ε</dt><dd>50.0%" in made
    assert 'class="bad">∞' not in made
    assert '<dd class="bad">∞<small class="bad">unprotected' in page(swept, bare)


def test_trials_that_ended_early_stand_with_their_reason(swept: Swept) -> None:
    failed = row(1, 2.0, None, state="failed", reason="too few <i>", epsilon=None, rounds=None)
    made = page(swept, row(0, 1.0, 0.5), failed, row(2, 2.0, 0.1, state="pruned", rounds=2))
    assert "too few &lt;i&gt;" in made
    assert "below the median of the others" in made
    assert "1 complete 1 pruned 1 failed" in made


def test_before_the_first_point_and_after_an_unprotected_one_there_are_words(swept: Swept) -> None:
    assert "No point is complete yet" in page(swept)
    made = page(swept, row(0, 1.0, 0.5, epsilon=math.inf, delta=None))
    assert "no trial here had an ε" in made
    assert "1 more trained without noise" in made
    assert "fewer than two complete points" in made


@pytest.mark.parametrize("width", [360, 720])
def test_lines_stay_inside_the_drawing_and_end_where_their_values_are(width: int) -> None:
    columns = [
        ParallelAxis(title="rate", values=(0.01, 0.1, 1.0), said=str),
        ParallelAxis(title="method", values=("ffa", "head", "ffa"), said=str),
        ParallelAxis(title="same", values=(5, 5, 5), said=str),
        ParallelAxis(title="ε", values=(1.0, 3.0, math.inf), said=str),
    ]
    assert [column.places() for column in columns] == [
        pytest.approx([0, 0.5, 1]),  # by its logarithm
        [0, 1, 0],
        [0.5, 0.5, 0.5],
        [0, 0.5, 1],
    ]
    drawing = parallel(columns, ["thin", "thin", "main"], ["a", "b", "c"], width=width)
    lines = [path for path in drawing.paths if path.style != "axis"]
    assert [line.text for line in lines] == ["a", "b", "c"]
    for line in lines:
        numbers = [float(part) for part in re.findall(r"[\d.]+", line.path)]
        assert len(numbers) == 2 * len(columns)
        assert all(0 <= x <= width for x in numbers[::2])
        assert all(0 <= y <= drawing.height for y in numbers[1::2])
    for text in drawing.texts:
        assert 0 <= text.x < width
