"""Ranking as MIND counts it: values by hand, MIND's own formulas, scikit-learn's AUC."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score

from presspool.common.tasks.scores.ranking_scores import means, ranked


def test_figures_by_hand() -> None:
    """Clicked ones stand at places 2 and 4 of 5: three of six pairs are right."""
    found = ranked([0.9, 0.8, 0.7, 0.6, 0.5], [0, 1, 0, 1, 0])
    gains = 1 / math.log2(3) + 1 / math.log2(5)
    assert found["auc"] == pytest.approx(3 / 6)
    assert found["mrr"] == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert found["ndcg_5"] == found["ndcg_10"] == pytest.approx(gains / (1 + 1 / math.log2(3)))
    seventh = ranked([-i for i in range(8)], [0, 0, 0, 0, 0, 0, 1, 0])
    assert seventh["ndcg_5"] == 0.0
    assert seventh["ndcg_10"] == pytest.approx(1 / 3)
    assert ranked([2.0, 1.0], [1, 0]) == dict.fromkeys(found, 1.0)


def test_equal_scores_flatter_nobody() -> None:
    tied = ranked([0.0, 0.0, 0.0], [1, 0, 0])
    assert tied["auc"] == 0.5
    assert tied["mrr"] == pytest.approx(1 / 3)
    lost = ranked([math.nan, 0.0], [1, 0])
    assert (lost["auc"], lost["mrr"]) == (0.0, 0.5)


def minds(scores: Any, clicks: Any) -> dict[str, float]:
    """The formulas of the challenge's `evaluate.py`, written down once more."""
    order = np.argsort(scores)[::-1]
    truth = np.take(clicks, order)

    def dcg(values: Any, k: int) -> Any:
        top = values[:k]
        return np.sum((2**top - 1) / np.log2(np.arange(len(top)) + 2))

    best = np.sort(clicks)[::-1]
    return {
        "mrr": np.sum(truth / (np.arange(len(truth)) + 1)) / np.sum(truth),
        "ndcg_5": dcg(truth, 5) / dcg(best, 5),
        "ndcg_10": dcg(truth, 10) / dcg(best, 10),
    }


@given(st.data())
def test_figures_are_minds_and_scikit_learns(data: st.DataObject) -> None:
    clicks = data.draw(st.lists(st.integers(0, 1), min_size=2, max_size=20))
    clicks[0], clicks[1] = 0, 1
    order = data.draw(st.permutations(range(len(clicks))))
    found = ranked(order, clicks)
    assert found["auc"] == pytest.approx(roc_auc_score(clicks, order))
    for k in (5, 10):
        assert found[f"ndcg_{k}"] == pytest.approx(ndcg_score([clicks], [order], k=k))
    for name, value in minds(np.array(order), np.array(clicks)).items():
        assert found[name] == pytest.approx(value)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=2, max_size=12))
def test_ties_count_half_in_auc(pairs: list[tuple[int, int]]) -> None:
    scores, clicks = [s for s, _ in pairs], [0, 1, *[c for _, c in pairs[2:]]]
    assert ranked(scores, clicks)["auc"] == pytest.approx(roc_auc_score(clicks, scores))


def test_means_are_over_impressions() -> None:
    rows = [ranked([1.0, 0.0], [1, 0]), ranked([1.0, 0.0, 0.5], [0, 1, 0])]
    assert means(rows)["auc"] == pytest.approx(0.5)
    assert set(means([]).values()) == {None}
