"""Draws hang on public names alone, and follow the law that they are said to follow."""

from __future__ import annotations

import statistics

import pytest

from presspool.simulations.clock.draws import factor, uniform

CHANCES = [uniform(0, "speed", number) for number in range(4000)]


def test_draws_stay_what_they_were() -> None:
    """A finished run's day can be made again by a later version."""
    assert uniform(0, "speed", "north-post") == pytest.approx(GOLDEN, rel=1e-12)


GOLDEN = 0.4478956282911922  # 64 bits of SHA-256, taken by hand


def test_names_and_seed_make_different_draws() -> None:
    drawn = {uniform(seed, what, 1) for seed in (0, 1) for what in ("speed", "link", "failure")}
    assert len(drawn) == 6
    assert uniform(1, 23) != uniform(12, 3)  # names are kept apart


def test_draws_are_spread_evenly() -> None:
    assert all(0 < chance < 1 for chance in CHANCES)
    tenths = [sum(n / 10 <= c < (n + 1) / 10 for c in CHANCES) for n in range(10)]
    assert all(abs(count - 400) < 80 for count in tenths)  # over four standard deviations


@pytest.mark.parametrize("law", ["equal", "lognormal:1.0", "pareto:1.5"])
def test_the_median_outlet_is_as_fast_as_the_table_says(law: str) -> None:
    assert statistics.median(factor(law, chance) for chance in CHANCES) == pytest.approx(1, abs=0.1)


def test_tails_are_as_heavy_as_their_numbers_say() -> None:
    """Against the laws' own formulas: a log-normal's spread, and a Pareto tail's share."""
    logs = [statistics.NormalDist().inv_cdf(c) * 0.5 for c in CHANCES]
    assert statistics.stdev(logs) == pytest.approx(0.5, abs=0.03)
    drawn = [factor("pareto:1.0", c) for c in CHANCES]
    assert sum(x > 10 for x in drawn) / len(drawn) == pytest.approx(0.05, abs=0.015)
    assert factor("lognormal:0.5", 0.841344746) == pytest.approx(1.6487212707)
