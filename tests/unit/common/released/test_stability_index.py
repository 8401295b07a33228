"""The population stability index against hand-made figures, its properties, and chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presspool.common.released.stability_index import FLOOR, by_chance, stability_index

counts = st.lists(st.integers(0, 10_000), min_size=4, max_size=4).filter(any)


def shares(row: list[int]) -> np.ndarray:
    return np.array(row) / sum(row)


@pytest.mark.parametrize(
    ("today", "reference", "expected"),
    [
        # -0.3 ln(5/8) + 0.3 ln(5/2) = 0.3 ln 4
        ([0.5, 0.5], [0.8, 0.2], 0.415888),
        # 0.1 ln(4/3) - 0.05 ln(5/6) - 0.05 ln(7/8)
        ([0.4, 0.25, 0.35], [0.3, 0.3, 0.4], 0.028768 + 0.009116 + 0.006677),
        # 0.5 ln 2 - 0.4999 ln 0.0002: an empty bin counts as 0.0001
        ([1.0, 0.0], [0.5, 0.5], 0.346574 + 4.257745),
    ],
)
def test_the_index_is_what_a_pencil_gives(
    today: list[float], reference: list[float], expected: float
) -> None:
    assert stability_index(today, reference) == pytest.approx(expected, abs=2e-6)


@given(counts, counts)
def test_the_index_is_never_below_0_and_0_for_equal_shares_alone(
    one: list[int], other: list[int]
) -> None:
    found = stability_index(shares(one), shares(other))
    assert found == pytest.approx(stability_index(shares(other), shares(one)))
    apart = np.abs(np.maximum(shares(one), FLOOR) - np.maximum(shares(other), FLOOR)).max()
    assert found >= 0
    assert (found == 0) == (apart == 0)


@given(counts)
def test_equal_shares_have_no_distance(row: list[int]) -> None:
    assert stability_index(shares(row), shares([3 * count for count in row])) < 1e-12


@pytest.mark.parametrize("bins", [2, 7, 30])
def test_chance_goes_beyond_its_bound_about_once_in_a_thousand(bins: int) -> None:
    rng, p = np.random.default_rng(7), np.full(bins, 1 / bins)
    today, reference = rng.multinomial(3000, p, 4000), rng.multinomial(2000, p, 4000)
    bound = by_chance(bins - 1, 3000, 2000)
    beyond = sum(
        stability_index(a / 3000, b / 2000) > bound for a, b in zip(today, reference, strict=True)
    )
    assert beyond <= 14  # of 4 expected; more has a chance below 1e-4
    half = sum(
        stability_index(a / 3000, b / 2000) > bound / 2
        for a, b in zip(today, reference, strict=True)
    )
    assert half > 0  # and the bound is no wall


def test_nothing_seen_could_be_anything() -> None:
    assert by_chance(3, 0, 100) == math.inf
