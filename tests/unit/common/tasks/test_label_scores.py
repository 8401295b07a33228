"""How labels are judged on a public file: against counts by hand, and slow oracles."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from presspool.common.tasks.classification import Classification, ClassificationTable
from presspool.common.tasks.scores.answer_figures import AnswerFigures, unsure_up_to
from presspool.common.tasks.scores.label_scores import BINS, FEWEST, halves, threshold

LABELS = ("low", "middle", "high")


def task_in(mode: str, **keys: Any) -> Classification:
    body = {"labels": LABELS, "mode": mode, **keys}
    return Classification(ClassificationTable.model_validate(body))


def records(task: Classification, labels: list[str]) -> pa.Table:
    column = pa.array(labels, pa.large_string())
    return pa.table(dict(task.parse({"text": column, "label": column})))


def figures_of(task: Classification, logits: np.ndarray[Any, Any], labels: list[str]) -> Any:
    found = task.figures({"logits": logits.astype(np.float32)}, records(task, labels))
    assert found is None or isinstance(found, AnswerFigures)
    return found


def test_in_an_order_it_counts_how_far_off_an_answer_is() -> None:
    task = task_in("ordinal")
    # Answers: low, high, high, middle.
    logits = np.array([[-9, 0], [9, 9], [9, 9], [9, -9]], np.float32)
    scores = task.score({"logits": logits}, records(task, ["low", "low", "high", "high"]))
    assert [metric.name for metric in task.metrics] == list(scores)
    assert scores["accuracy"] == 0.5
    assert scores["distance"] == (0 + 2 + 0 + 1) / 4


def test_of_several_labels_macro_f1_leads_and_only_whole_answers_are_right() -> None:
    task = task_in("multi")
    logits = np.array([[1, -1, 1], [1, 1, -1], [-1, -1, -1], [-1, 1, -1]], np.float32)
    scores = task.score({"logits": logits}, records(task, ["low|high", "low", "none", "low"]))
    assert task.primary.name == "macro_f1"
    assert [metric.name for metric in task.metrics] == list(scores)
    assert scores["accuracy"] == 0.5
    # low: 2 of 2 answers, 3 records; middle: 0 of 2 answers; high: 1 of 1.
    assert scores["macro_f1"] == pytest.approx((2 * 2 / 5 + 0 + 1) / 3)
    nats = -np.log(1 / (1 + np.exp(-1.0))), -np.log(1 / (1 + np.exp(1.0)))
    assert scores["loss"] == pytest.approx((3 + 2 + 3 + 1) / 4 * nats[0] + (1 + 2) / 4 * nats[1])


def test_priors_do_not_move_what_is_measured() -> None:
    labels, logits = ["low", "high", "middle"] * 4, np.random.default_rng(1).normal(size=(12, 3))
    plain, weighted = task_in("single"), task_in("single", priors=(0.8, 0.1, 0.1))
    found = [task.score({"logits": logits}, records(task, labels)) for task in (plain, weighted)]
    assert found[0] == found[1]


def test_each_label_has_its_own_row() -> None:
    logits = np.array([[9, 0, 0], [9, 0, 0], [0, 9, 0], [0, 9, 0]])
    found = figures_of(task_in("single"), logits, ["low", "middle", "middle", "high"])
    low, middle, high = found.labels
    assert (low.label, low.records, low.answers, low.right) == ("low", 1, 2, 1)
    assert (low.precision, low.recall, low.f1) == (0.5, 1.0, pytest.approx(2 / 3))
    assert (middle.precision, middle.recall, middle.f1) == (0.5, 0.5, 0.5)
    assert (high.precision, high.recall, high.f1) == (None, 0.0, 0.0)


def test_of_several_labels_each_is_counted_where_it_is() -> None:
    logits = np.array([[1, -1, 1], [1, 1, -1]])
    found = figures_of(task_in("multi"), logits, ["low|high", "low|high"])
    assert [(r.records, r.answers, r.right) for r in found.labels] == [
        (2, 2, 2),
        (0, 1, 0),
        (2, 1, 1),
    ]
    assert sum(one.answers for one in found.bins) == 6  # each label of each record


@given(st.lists(st.tuples(st.floats(-6, 6), st.sampled_from(LABELS[:2])), min_size=1, max_size=60))
def test_calibration_is_that_of_the_definition(rows: list[tuple[float, str]]) -> None:
    task = Classification(ClassificationTable(labels=LABELS[:2]))
    logits = np.array([[0, x] for x, _ in rows], np.float32)
    found = figures_of(task, logits, [label for _, label in rows])
    held: dict[int, list[tuple[float, bool]]] = {}
    for (_, x), (_, label) in zip(logits.tolist(), rows, strict=True):
        high = 1 / (1 + math.exp(-x))
        sure, right = max(high, 1 - high), (x > 0) == (label == LABELS[1])
        held.setdefault(min(BINS - 1, int(sure * BINS)), []).append((sure, right))
    gaps = [abs(sum(s for s, _ in one) - sum(r for _, r in one)) for one in held.values()]
    assert found.ece == pytest.approx(sum(gaps) / len(rows), abs=1e-6)
    assert [one.answers for one in found.bins] == [len(held[place]) for place in sorted(held)]


@given(
    st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=120),
    st.sampled_from([0.3, 0.5, 0.75, 0.9]),
)
def test_the_threshold_is_the_least_beyond_which_answers_are_right_often_enough(
    rows: list[tuple[int, bool]], wanted: float
) -> None:
    sure = torch.tensor([number / 40 for number, _ in rows], dtype=torch.float64)
    hit = torch.tensor([right for _, right in rows])
    chosen = threshold(sure, hit, wanted)

    def good_enough(up_to: float) -> bool:
        given = hit[sure > up_to]
        return len(given) >= FEWEST and float(given.double().mean()) >= wanted - 1e-6

    candidates = [0.0, *sorted({number / 40 for number, _ in rows})]
    best = next((up_to for up_to in candidates if good_enough(up_to)), None)
    if best is None:
        assert chosen == 1.0
    else:
        assert torch.equal(sure > chosen, sure > best)


def test_a_threshold_is_tried_on_rows_that_did_not_choose_it() -> None:
    task = task_in("single", sure=0.95)
    rng = np.random.default_rng(2)
    size = 400
    logits = np.zeros((size, 3))
    logits[:, 0] = rng.uniform(0.1, 6, size)  # always "low"; the surer, the likelier it is right
    right = rng.uniform(size=size) < 1 / (1 + 2 * np.exp(-logits[:, 0]))
    labels = ["low" if hit else "high" for hit in right]
    found = figures_of(task, logits, labels).abstention
    sure = np.exp(logits[:, 0]) / (np.exp(logits[:, 0]) + 2)
    first, second = (places.numpy() for places in halves(size))
    assert sorted([*first, *second]) == list(range(size))
    assert right[first][sure[first] > found.up_to].mean() >= 0.95
    tried = sure[second] > found.up_to
    assert (found.records, found.answered) == (size // 2, int(tried.sum()))
    assert found.right == int(right[second][tried].sum())
    assert 0 < found.answered < found.records
    assert figures_of(task_in("single"), logits, labels).abstention is None


def test_where_no_sureness_is_enough_no_answer_is_given() -> None:
    task = task_in("ordinal", sure=0.9)
    found = figures_of(task, np.zeros((100, 2)), ["low", "high"] * 50)
    assert (found.abstention.up_to, found.abstention.answered) == (1.0, 0)
    assert unsure_up_to(found) == 1.0
    assert unsure_up_to(dataclasses.replace(found, abstention=None)) is None
    assert unsure_up_to(None) is None


@pytest.mark.parametrize("mode", ["single", "multi", "ordinal"])
def test_a_diverged_model_has_no_figures(mode: str) -> None:
    task = task_in(mode, sure=0.9)
    logits = np.full((4, 3 - (mode == "ordinal")), np.inf)
    assert figures_of(task, logits, ["low"] * 4) is None
    assert task.score({"logits": logits}, records(task, ["low"] * 4))["loss"] is None


def test_a_label_that_would_act_on_a_page_or_a_terminal_is_spelt_out() -> None:
    labels = ("a\x1b[2J\nb", "\u202e" + "x" * 300)
    task = Classification(ClassificationTable(labels=labels))
    found = figures_of(task, np.eye(2), list(labels))
    assert found.labels[0].label == "a\\u001b[2J b"
    assert found.labels[1].label.startswith("\\u202exxx")
    assert len(found.labels[1].label) == 200
