"""Figures of single records, whose weighted mean is the figure of the file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presspool.common.tasks.scores.entity_metrics import scores
from presspool.simulations.experiments.measures import f1_parts

TAGS = st.sampled_from(["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
RECORDS = st.lists(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=6), min_size=1, max_size=8)


@given(RECORDS)
def test_the_weighted_mean_of_records_is_the_f1_of_seqeval(
    records: list[list[tuple[str, str]]],
) -> None:
    truth, said = ([[pair[side] for pair in record] for record in records] for side in (0, 1))
    each, size = f1_parts(truth, said)
    expected = scores(truth, said, ("PER", "LOC"))["f1"]
    found = float((each * size).sum() / size.sum()) if size.any() else 0.0
    assert found == pytest.approx(expected)


def test_a_record_without_entities_weighs_nothing() -> None:
    each, size = f1_parts([["O"], ["B-PER"]], [["O"], ["B-LOC"]])
    np.testing.assert_array_equal(each, [0.0, 0.0])
    np.testing.assert_array_equal(size, [0.0, 2.0])
