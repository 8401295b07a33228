"""Noise: the right distribution, on a grid that the data cannot be read from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from tests.fakes.instruments.detectors import check_normal, in_a_fork
from torch import Tensor

from presspool.client.engine.noise import GRID_BITS, add_noise, grid_step, normal
from presspool.client.engine.randomness import SecureRandom

N = 100_000


def noised(total: Tensor, *seed: int | str, sigma: float = 1.2, S: float = 0.5) -> Tensor:
    random = SecureRandom.deterministic(*seed)
    (out,) = add_noise([total], noise_multiplier=sigma, sensitivity=S, random=random)
    return out


def test_ks_accepts_the_declared_sigma_and_rejects_five_percent_off() -> None:
    values = noised(torch.zeros(N), "ks").numpy()
    check_normal(values, 1.2 * 0.5)
    for wrong in (0.95, 1.05):
        assert stats.kstest(values, "norm", args=(0, wrong * 1.2 * 0.5)).pvalue < 1e-6
        with pytest.raises(AssertionError):
            check_normal(values, wrong * 1.2 * 0.5)


def test_the_standard_deviation_is_sigma_times_sensitivity() -> None:
    values = noised(torch.zeros(N), "std", sigma=0.8, S=math.hypot(0.3, 0.4)).numpy()
    # The standard error of a sample standard deviation is std/√(2n).
    assert np.std(values) == pytest.approx(0.8 * 0.5, rel=4 / math.sqrt(2 * N))
    assert abs(values.mean()) < 4 * 0.4 / math.sqrt(N)


def test_coordinates_and_tails_are_independent_normals() -> None:
    values = normal(N + 1, SecureRandom.deterministic("normal"))
    assert values.shape == (N + 1,)
    for lag in (1, (N + 2) // 2):  # the second: both halves of a Box-Muller pair
        pairs = np.corrcoef(values[:-lag], values[lag:])[0, 1]
        assert abs(pairs) < 5 / math.sqrt(len(values) - lag)
        squares = np.corrcoef(values[:-lag] ** 2, values[lag:] ** 2)[0, 1]
        assert abs(squares) < 5 / math.sqrt(len(values) - lag)
    beyond = int((np.abs(values) > 3).sum())
    assert stats.binomtest(beyond, N + 1, 2 * stats.norm.sf(3)).pvalue > 1e-3


def test_the_largest_normal_is_finite() -> None:
    class Extreme(SecureRandom):
        def words(self, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
            return np.full(count, 2**64 - 1, np.uint64)

    assert normal(4, Extreme()) == pytest.approx([8.57] * 2 + [0] * 2, abs=0.01)


def test_one_vector_is_drawn_across_all_tensors() -> None:
    parts = [torch.zeros(3, 5), torch.zeros(7), torch.zeros(2, 1, 2)]
    random = SecureRandom.deterministic(1)
    out = add_noise(parts, noise_multiplier=1.0, sensitivity=1.0, random=random)
    assert [part.shape for part in out] == [part.shape for part in parts]
    together = torch.cat([part.flatten() for part in out])
    assert torch.equal(together, noised(torch.zeros(26), 1, sigma=1.0, S=1.0))
    assert len(set(together.tolist())) == 26


@pytest.mark.parametrize("std", [1e-12, 0.3, 1.0, 1.5, 1e9])
def test_the_grid_is_a_power_of_two_far_below_the_noise(std: float) -> None:
    step = grid_step(std)
    assert math.frexp(step)[0] == 0.5
    assert 2.0**-GRID_BITS / 2 < step / std <= 2.0**-GRID_BITS


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 0.1, 1.0, 1e6])
def test_every_output_is_on_the_grid_whatever_the_sum(dtype: torch.dtype, scale: float) -> None:
    total = (torch.randn(2000, generator=torch.Generator().manual_seed(0)) * scale).to(dtype)
    out = noised(total, "grid")
    assert out.dtype == torch.float64
    steps = out / grid_step(1.2 * 0.5)
    assert torch.equal(steps, steps.round())


def share_off_the_lattice(outputs: NDArray[np.float64], spacing: float) -> float:
    """Of the outputs near zero, the share that is no multiple of `spacing`."""
    near = outputs[np.abs(outputs) < 0.05] / spacing
    assert len(near) > 100
    return float(np.mean(near != np.rint(near)))


def test_low_bits_do_not_tell_two_neighbouring_sums_apart() -> None:
    """The attack of Mironov 2012, which sees through doubles that are simply added."""
    noise = 0.6 * normal(20_000, SecureRandom.deterministic(1))
    # Near zero, 0.9 + noise is a multiple of the gap between doubles near 0.9; noise alone is not.
    assert share_off_the_lattice(0.9 + noise, 2.0**-53) == 0
    assert share_off_the_lattice(0.0 + noise, 2.0**-53) > 0.5

    step = grid_step(1.2 * 0.5)
    for total in (0.0, 0.9, -0.9, 1e-3):
        outputs = noised(torch.full((20_000,), total, dtype=torch.float64), "low bits").numpy()
        assert share_off_the_lattice(outputs, step) == 0
        assert share_off_the_lattice(outputs, 2 * step) == pytest.approx(0.5, abs=0.15)


def test_only_the_sums_place_on_the_grid_shows() -> None:
    """The output is a function of γ·round(S/γ): what is finer than the grid is gone."""
    step = grid_step(1.2 * 0.5)
    total = torch.arange(64, dtype=torch.float64) * step
    finer = total + 0.49 * step * torch.linspace(-1, 1, 64, dtype=torch.float64)
    assert torch.equal(noised(total, 3), noised(finer, 3))


def test_the_scale_includes_what_rounding_adds_to_the_sensitivity() -> None:
    """Noise is for S + γ√d: on a coarse grid that is plain to see."""
    d, sigma, S = 1_000_000, 1.0, 1.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("presspool.client.engine.noise.GRID_BITS", 12)
        step = grid_step(sigma * S)
        values = noised(torch.zeros(d), "wide", sigma=sigma, S=S).numpy()
    widened = sigma * (S + step * math.sqrt(d))
    assert widened / (sigma * S) == pytest.approx(1 + 2.0**-12 * 1000)
    assert np.std(values) == pytest.approx(widened, rel=5 / math.sqrt(2 * d))


def test_rounding_moves_neighbours_by_at_most_what_the_scale_allows_for() -> None:
    random = np.random.default_rng(0)
    step, d = grid_step(1e-7), 400  # coarse beside these sums: rounding is all that is left
    for _ in range(50):
        left = random.normal(0, step, d)
        right = left + random.normal(0, step / 3, d)
        rounded = np.rint(left / step) * step - np.rint(right / step) * step
        assert np.linalg.norm(rounded) <= np.linalg.norm(left - right) + step * math.sqrt(d)


def test_two_forks_draw_different_noise() -> None:
    random = SecureRandom()

    def draw() -> bytes:
        (out,) = add_noise([torch.zeros(6)], noise_multiplier=1, sensitivity=1, random=random)
        return out.numpy().tobytes()

    drawn = {in_a_fork(draw), in_a_fork(draw), draw()}
    assert len(drawn) == 3


def test_noise_reproduces_and_differs_by_outlet_and_round() -> None:
    zero = torch.zeros(50)
    same = noised(zero, 1, "north-post", 1)
    assert torch.equal(same, noised(zero, 1, "north-post", 1))
    for other in ((1, "north-post", 2), (1, "south-echo", 1), (2, "north-post", 1)):
        assert not (same == noised(zero, *other)).any()


def test_without_noise_the_sums_come_back_as_they_are() -> None:
    random = SecureRandom.deterministic(1)
    total = torch.tensor([0.1, -3.0])
    (out,) = add_noise([total], noise_multiplier=0, sensitivity=1.0, random=random)
    assert torch.equal(out, total.double())
    untouched = SecureRandom.deterministic(1)
    assert random.words(1) == untouched.words(1)
