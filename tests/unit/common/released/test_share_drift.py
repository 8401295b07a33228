"""How far shares moved, and intervals that hold under noise and under sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from presspool.common.released import share_drift
from presspool.common.released.share_drift import drift_of_counts, drift_of_samples
from presspool.common.released.stability_index import stability_index

ROWS = [
    ((500, 500), (500, 500)),
    ((300, 700), (600, 400)),
    ((400, 350, 250), (100, 500, 400)),
    ((900, 90, 10), (880, 100, 20)),
    ((500, 500, 0), (500, 400, 100)),
    ((1000,) * 12, (1000,) * 12),
]


def held(now: Any, then: Any, sigma: float, seed: int) -> float:
    """How often the interval has what the counts without noise give."""
    rng, inside = np.random.default_rng(seed), 0
    floor = sigma / min(sum(now), sum(then))
    truth = stability_index(np.array(now) / sum(now), np.array(then) / sum(then), floor)
    for _ in range(150):
        rows = [np.rint(row + rng.normal(0, sigma, len(row))).astype(int) for row in (now, then)]
        found = drift_of_counts(*(row.tolist() for row in rows), sigma=sigma)
        inside += found.low <= truth <= found.high
    return inside / 150


@pytest.mark.parametrize(("now", "then"), ROWS)
def test_the_interval_holds_under_noise(now: Any, then: Any) -> None:
    assert held(now, then, 15.0, seed=1) >= 0.9  # of 0.95: less has a chance below 1 %


def test_an_interval_that_forgot_the_earlier_periods_noise_would_not_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = share_drift._between

    def careless(row: Any, earlier: Any, redrawn: Any, *, unit: float) -> Any:
        def still(counts: Any) -> Any:
            drawn = redrawn(counts)
            return drawn if counts is row else np.broadcast_to(drawn.mean(0), drawn.shape)

        return known(row, earlier, still, unit=unit)

    assert held(*ROWS[1], 15.0, seed=1) >= 0.9
    monkeypatch.setattr(share_drift, "_between", careless)
    assert held(*ROWS[1], 15.0, seed=1) < 0.9


def test_the_interval_holds_under_sampling() -> None:
    rng, inside = np.random.default_rng(2), 0
    truth = stability_index([0.5, 0.5], [0.4, 0.6], 1 / 500)
    for _ in range(150):
        rows = [rng.multinomial(500, shares).tolist() for shares in ([0.5, 0.5], [0.4, 0.6])]
        found = drift_of_samples(*rows)
        inside += found.low <= truth <= found.high
    assert inside / 150 >= 0.9


def test_drift_is_said_where_noise_does_not_explain_it_and_only_there() -> None:
    assert drift_of_counts([300, 700], [680, 320], sigma=5.0).drifted
    assert not drift_of_counts([300, 700], [680, 320], sigma=60.0).drifted  # 0.61, by noise alone
    assert not drift_of_counts([500, 500], [500, 500], sigma=5.0).drifted
    assert drift_of_counts([500, 500], [500, 500], sigma=5.0).low == 0
