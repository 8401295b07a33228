"""Clipping and counting: no reader moves a sum by more than the bound, exactly."""

from __future__ import annotations

import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from presspool.client.engine.clipping import clip_factors, counted
from presspool.common.contract.privacy_plan import grid_step

SHAPES = ((3, 2), (4,), (2, 5))


def whole(rows: list[Tensor], bound: float, step: float) -> list[list[int]]:
    """Each reader's vector of whole numbers, computed alone."""
    found = []
    for reader in range(len(rows[0])):
        own = [row[reader : reader + 1] for row in rows]
        factors = clip_factors(own, bound)
        found.append([n for row in own for n in counted(row, factors, step).flatten().tolist()])
    return found


def squared(vector: list[int]) -> int:
    return sum(n * n for n in vector)


@pytest.mark.parametrize("sensitivity", [1e-12, 0.3, 0.5, 1.0, 1.5, 1e9])
def test_the_grid_is_a_power_of_two_far_below_the_sensitivity(sensitivity: float) -> None:
    step = grid_step(sensitivity)
    assert math.frexp(step)[0] == 0.5
    assert 2**40 <= Fraction(sensitivity) / Fraction(step) < 2**41


@settings(deadline=None, max_examples=300)
@given(
    seed=st.integers(0, 2**32),
    bound=st.floats(1e-6, 1e6),
    scale=st.sampled_from([1e-38, 1e-9, 1e-3, 1.0, 1e3, 1e20, 3e38]),
    spread=st.sampled_from([0.0, 1.0, 30.0]),
)
def test_every_readers_vector_is_within_the_bound_exactly(
    seed: int, bound: float, scale: float, spread: float
) -> None:
    dice = np.random.default_rng(seed)
    rows = []
    for shape in SHAPES:
        powers = 10.0 ** (spread * (dice.random((6, *shape)) - 1))
        values = np.clip(scale * powers * dice.standard_normal((6, *shape)), -3e38, 3e38)
        rows.append(torch.from_numpy(values.astype(np.float32)))
    step = grid_step(bound)
    limit = (Fraction(bound) / Fraction(step)) ** 2
    vectors = whole(rows, bound, step)
    assert all(squared(vector) <= limit for vector in vectors)
    factors = clip_factors(rows, bound)
    total = [n for row in rows for n in counted(row, factors, step).flatten().tolist()]
    assert total == [sum(column) for column in zip(*vectors, strict=True)]


def test_a_gradient_of_just_the_bound_stays_below_it_and_hardly_shrinks() -> None:
    for d in (1, 7, 1000, 100_000):
        rows = [torch.full((1, d), 1 / math.sqrt(d))]
        step = grid_step(1.0)
        (vector,) = whole(rows, 1.0, step)
        assert squared(vector) <= 2**80
        assert squared(vector) >= 2**80 * (1 - 1e-4)


def test_a_hundred_thousand_aligned_readers_move_the_sum_by_one_bound_each() -> None:
    """The float32 sum of these moved by 1.0076 C when one more reader came."""
    readers, step = 100_000, grid_step(1.0)
    rows = torch.full((readers, 30), 7.0)
    rows *= torch.linspace(1, 3, readers)[:, None]
    factors = clip_factors([rows], 1.0)
    less = counted(rows[1:], factors[1:], step)
    moved = (counted(rows, factors, step) - less).tolist()
    assert squared(moved) <= 2**80
    assert moved == counted(rows[:1], factors[:1], step).tolist()
    floats = torch.full((readers,), 1 / math.sqrt(2)).cumsum(0)  # each of two coordinates
    assert float(floats[-1] - floats[-2]) * math.sqrt(2) > 1.003


def test_rounding_to_the_nearest_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a coarse grid, nearest is plainly too long, and towards zero is not."""
    step, rows = grid_step(1.0, 3), [torch.full((1, 80), 0.1)]
    limit = (1 / Fraction(step)) ** 2
    assert squared(whole(rows, 1.0, step)[0]) <= limit
    monkeypatch.setattr(Tensor, "trunc_", Tensor.round_)
    assert squared(whole(rows, 1.0, step)[0]) > limit


@pytest.mark.parametrize("readers", [0, 1, 1023, 1024, 1025, 5000])
def test_pieces_cover_everything_once(readers: int) -> None:
    dice = torch.Generator().manual_seed(readers)
    rows = torch.randn((readers, 3, 400), generator=dice)
    step = grid_step(0.5)
    factors = clip_factors([rows], 0.5)
    exact = (rows.double().flatten(1) * (factors / step)[:, None]).trunc().long().sum(0)
    assert torch.equal(counted(rows, factors, step), exact.view(3, 400))
    norms = rows.double().flatten(1).norm(dim=1)
    torch.testing.assert_close(factors, (0.5 * (1 - 2.0**-20) / norms).clamp(max=1.0))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("width", [3, 1000, 70_001])
def test_how_many_others_there_are_changes_no_bit_of_a_readers_factor(
    width: int, threads: int
) -> None:
    """A float sum would be added up in another order for each number of readers."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        dice = torch.Generator().manual_seed(width)
        wide = torch.randn((33, width), generator=dice) * 10 ** torch.linspace(-3, 3, width)
        rows = [wide, torch.randn((33, 2, 5), generator=dice)]
        together = clip_factors(rows, 0.5)
        for readers in ([0], [5, 1], list(range(7)), list(range(32, -1, -1))):
            few = clip_factors([row[readers] for row in rows], 0.5)
            assert torch.equal(few, together[readers])
    finally:
        torch.set_num_threads(before)


def test_a_norm_is_never_taken_for_less_and_hardly_for_more() -> None:
    for spread in (0.0, 5.0, 30.0):
        for width in (1, 40, 5000, 300_000):
            row = (10.0 ** (-spread * torch.rand(1, width))).float()
            exact = math.sqrt(sum(Fraction(x) ** 2 for x in row[0].tolist()))
            taken = 1e-30 * (1 - 2.0**-20) / float(clip_factors([row], 1e-30)[0])
            assert exact * (1 - 2.0**-50) <= taken <= exact * (1 + 2.0**-12)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_counts_as_zero(broken: float) -> None:
    rows = torch.ones(3, 5)
    rows[1, 2] = broken
    factors = clip_factors([rows], 1.0)
    assert factors[1] == 0
    rest = rows[[0, 2]]
    step = grid_step(1.0)
    assert torch.equal(counted(rows, factors, step), counted(rest, factors[[0, 2]], step))
