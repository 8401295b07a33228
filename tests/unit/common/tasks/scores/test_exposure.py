"""Exposure against ranks that are counted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from presspool.common.tasks.scores.exposure import exposure


def test_exposure_is_what_counting_ranks_says() -> None:
    """Ranks 1, 2 and 4 of four: three are out, and the one that is asked about."""
    found = exposure(np.array([9.0, 2.0, 0.0]), np.array([1.0, 3.0, 0.0]))
    assert found.mean == pytest.approx((2 + 1 + 0) / 3)
    assert found.largest == found.highest == 2
    assert found.chance == pytest.approx(2 - (0 + 1 + math.log2(3) + 2) / 4)


def test_exposure_among_many_is_by_chance_what_the_guide_says() -> None:
    rng = np.random.default_rng(1)
    found = exposure(rng.normal(size=4000), rng.normal(size=4000))
    assert found.chance == pytest.approx(math.log2(math.e), abs=0.01)
    assert found.mean == pytest.approx(found.chance, abs=4 * math.log2(math.e) / math.sqrt(2000))
