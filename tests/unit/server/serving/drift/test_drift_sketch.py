"""Running sums and their figures, against slow sums over all records."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from presspool.server.serving.drift.drift_figures import (
    DRIFTED,
    STABLE,
    TOO_FEW,
    WATCH,
    Figure,
    Reference,
    distance,
    figures,
    freedom,
)
from presspool.server.serving.drift.drift_sketch import DriftSketch, RunningSum
from presspool.server.serving.shelf.reading import Seen

LABELS = ("bad", "good", "unsure")


def seen(answers: list[str], lengths: list[int], states: NDArray[np.float64] | None = None) -> Seen:
    return Seen(adapter=cast("Any", None), answers=answers, lengths=lengths, states=states)


@pytest.mark.parametrize("batches", [[9], [1] * 9, [4, 0, 5], [2, 6, 1]])
def test_records_fade_one_by_one_however_they_come(batches: list[int]) -> None:
    rows = np.random.default_rng(1).normal(size=(9, 3))
    running, start = RunningSum(half_life=4.0), 0
    for count in batches:
        running.add(rows[start : start + count])
        start += count
    weights = np.array([0.5 ** ((8 - place) / 4) for place in range(9)])
    slow = sum(w * row for w, row in zip(weights, rows, strict=True)) / weights.sum()
    assert running.mean == pytest.approx(slow)
    assert running.records == pytest.approx(weights.sum() ** 2 / (weights**2).sum())


def test_half_the_weight_is_of_the_last_half_life() -> None:
    running = RunningSum(half_life=10.0)
    running.add(np.concatenate([np.zeros((1000, 1)), np.ones((10, 1))]))
    assert running.mean[0] == pytest.approx(0.5, abs=1e-9)


def test_labels_and_lengths_are_counted_in_their_public_classes() -> None:
    sketch = DriftSketch(LABELS, math.inf)
    sketch.add(seen(["good", "good", "bad", "elsewhere"], [1, 8, 9, 5000]))
    assert sketch.labels.mean == pytest.approx([1 / 3, 2 / 3, 0])
    assert sketch.lengths.mean == pytest.approx([0.5, 0.25, 0, 0, 0, 0, 0.25])
    assert sketch.states.records == 0


def test_the_distance_of_states_is_frechets_of_two_diagonal_gaussians() -> None:
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(500, 6)) * [1, 2, 3, 1, 1, 1], rng.normal(0.4, 2, size=(400, 6))
    late, known = DriftSketch((), math.inf), DriftSketch((), math.inf)
    late.add(seen([], [1] * 500, one))
    known.add(seen([], [1] * 400, other))
    # The general formula with a matrix root, of matrices that are diagonal.
    a, b = np.diag(one.var(0)), np.diag(other.var(0))
    mean = one.mean(0) - other.mean(0)
    slow = (mean @ mean + np.trace(a + b - 2 * sqrtm(a @ b).real)) / np.trace(b)
    assert distance(late.states.mean, known.states.mean) == pytest.approx(slow)
    assert distance(known.states.mean, known.states.mean) == 0


def test_freedom_counts_independent_dimensions() -> None:
    rng = np.random.default_rng(3)
    alone = rng.normal(size=(20_000, 5))
    assert freedom(alone) == pytest.approx(5, rel=0.02)
    assert freedom(np.repeat(alone[:, :1], 7, axis=1)) == pytest.approx(1)


def test_a_reference_whose_records_are_all_alike_has_no_figure_of_states() -> None:
    rows = np.full((200, 4), 0.5)
    known, late = DriftSketch(("bad",), math.inf), DriftSketch(("bad",), 10.0)
    for sketch in (known, late):
        sketch.add(seen(["bad"] * 200, [3] * 200, rows))
    found = figures(late, Reference(sketch=known, labels=("bad",), freedom=freedom(rows)))
    assert [one.of for one in found] == ["lengths"]


def test_chance_in_states_stays_below_its_bound() -> None:
    rng, mix = np.random.default_rng(4), np.random.default_rng(5).normal(size=(32, 32))
    rows = rng.normal(size=(2000, 32)) @ mix
    known = DriftSketch((), math.inf)
    known.add(seen([], [1] * 2000, rows))
    reference = Reference(sketch=known, labels=(), freedom=freedom(rows))
    beyond, values = 0, []
    for _ in range(300):
        late = DriftSketch((), math.inf)
        late.add(seen([], [1] * 700, rng.normal(size=(700, 32)) @ mix))
        (figure,) = [one for one in figures(late, reference) if one.of == "states"]
        assert figure.value is not None
        values.append(figure.value / figure.by_chance)
        beyond += figure.value > figure.by_chance
    assert beyond <= 4
    assert np.median(values) > 0.3  # the bound is near


def test_what_is_no_number_leaves_no_trace() -> None:
    sketch = DriftSketch((), math.inf)
    sketch.add(seen([], [1, 1], np.array([[1.0, 2.0], [np.nan, 1.0]])))
    assert sketch.states.mean.tolist() == [1, 2, 1, 4]


@pytest.mark.parametrize(
    ("value", "was", "level"),
    [
        (0.10, STABLE, STABLE),
        (0.101, STABLE, WATCH),
        (0.25, WATCH, WATCH),
        (0.251, STABLE, DRIFTED),
        (0.24, DRIFTED, DRIFTED),
        (0.22, DRIFTED, WATCH),
        (0.095, WATCH, WATCH),
        (0.089, WATCH, STABLE),
    ],
)
def test_levels_begin_at_their_threshold_and_end_a_tenth_below(
    value: float, was: str, level: str
) -> None:
    assert Figure(of="labels", value=value, by_chance=0.02, records=500.0).level(was) == level


def test_too_few_records_have_no_level() -> None:
    assert Figure(of="labels", value=9.0, by_chance=0.02, records=99.0).level() == TOO_FEW
    assert Figure(of="labels", value=0.3, by_chance=0.31, records=900.0).level() == TOO_FEW
    assert Figure(of="labels", value=0.3, by_chance=0.29, records=900.0).level() == DRIFTED
    assert Figure(of="labels", value=0.05, by_chance=0.11, records=900.0).level() == TOO_FEW
    assert Figure(of="states", value=0.001, by_chance=0.011, records=900.0).level() == TOO_FEW
    assert Figure(of="states", value=0.02, by_chance=0.009, records=900.0).level() == WATCH
