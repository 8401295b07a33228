"""Metrics as people read them: the primary one first, shares in percent, the rest as numbers."""

from __future__ import annotations

import pytest

from presspool.common.runs.shown_metrics import listed, merit, shown
from presspool.common.tasks.metric import Metric

LOSS = Metric(name="loss", title="Cross-entropy", higher_is_better=False, unit="nats")
HITS = Metric(name="hits", title="Token accuracy", higher_is_better=True)
PERPLEXITY = Metric(name="perplexity", title="Perplexity", higher_is_better=False, primary=True)
BLEU = Metric(name="bleu", title="BLEU", higher_is_better=True)
ROUNDS = [
    {"loss": 4.0, "hits": 0.25, "perplexity": 54.6, "bleu": None},
    {"loss": 0.5, "hits": 1.0, "perplexity": None, "bleu": None},
]


def test_the_primary_metric_comes_first_and_the_rest_keeps_its_order() -> None:
    found = shown((LOSS, HITS, PERPLEXITY), ROUNDS)
    assert [metric.name for metric in found] == ["perplexity", "loss", "hits"]
    assert listed(found) == "Perplexity, cross-entropy and token accuracy"
    assert listed(found[:1]) == "Perplexity"


def test_a_share_is_a_metric_without_unit_whose_values_are_all_in_0_to_1() -> None:
    perplexity, loss, hits = shown((LOSS, HITS, PERPLEXITY), ROUNDS)
    assert (perplexity.share, loss.share, hits.share) == (False, False, True)
    assert [hits.cell(0.25), loss.cell(0.5), perplexity.cell(54.6)] == ["25.0%", "0.500", "54.600"]
    assert [loss.figure(0.5), loss.heading] == ["0.500 nats", "Cross-entropy, nats"]
    assert not any(one.same_scale(other) for one, other in [(perplexity, hits), (loss, hits)])


def test_what_was_not_measured_has_no_number() -> None:
    loss, bleu = shown((LOSS, BLEU), ROUNDS)
    assert [loss.cell(None), loss.figure(None)] == ["–", "–"]
    assert [bleu.said(None), bleu.said(0.5)] == ["BLEU not measured", "BLEU 0.500"]


@pytest.mark.parametrize(("metric", "best"), [(HITS, 0.75), (LOSS, 0.25)])
def test_better_goes_in_the_metrics_direction(metric: Metric, best: float) -> None:
    values = [0.5, None, 0.75, 0.25]
    assert max(values, key=lambda value: merit(metric, value)) == best
    assert min(values, key=lambda value: merit(metric, value)) is None
