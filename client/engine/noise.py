"""Gaussian noise that stays private in floating point.

Textbook proofs add a real number; a computer adds a double, and the gaps between the doubles that
"sum + noise" can reach differ from one sum to the next, which gives the sum away (Mironov 2012;
for DP-SGD: arXiv 2107.10138 and 2112.05307). Here the sum is first rounded to a grid of step γ and
the noise is rounded to the same grid, so that every output is a multiple of γ whatever the data.

Why this is still exactly the Gaussian mechanism: with s = γ·round(S/γ), the output
s + γ·round(N/γ) equals γ·round((s + N)/γ), a rounding (post-processing) of s + N. Rounding S first
moves each of d coordinates by at most γ/2 for each of two neighbours, so the sensitivity grows to
S₂ + γ√d; the noise is scaled up by exactly that (γ is 2⁻³⁰ of the noise: parts in a million).

Normal numbers come from Box-Muller over 53-bit uniforms of the outlet's CSPRNG: no rejection loop,
so the time that a draw takes does not depend on its value (the timing attack of 2112.05307). What
remains: the tail ends at 8.6σ, and libm's log and cos are trusted to their last bits.

Example:
    >>> total = torch.zeros(4)
    >>> noisy, = add_noise([total], noise_multiplier=1.2, sensitivity=0.5,
    ...                    random=SecureRandom.deterministic(1))
    >>> bool((noisy != 0).all())
    True
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from presspool.client.engine.randomness import SecureRandom

# The grid is this many binary places finer than the noise.
GRID_BITS = 30


def add_noise(
    sums: Sequence[Tensor], *, noise_multiplier: float, sensitivity: float, random: SecureRandom
) -> list[Tensor]:
    """`sums` plus independent N(0, (σS)²) on every coordinate, on the grid.

    Args:
        sums: tensors of any float dtype; together they are the one vector that is released.
        noise_multiplier: σ; 0 returns the sums as they are.
        sensitivity: S, how far one unit can move the whole vector (L2).
        random: the outlet's secret stream.

    Returns:
        float64 tensors of the same shapes and devices, multiples of the grid step.
    """
    if noise_multiplier == 0:
        return [total.double() for total in sums]
    sizes = [total.numel() for total in sums]
    step = grid_step(noise_multiplier * sensitivity)
    std = noise_multiplier * (sensitivity + step * math.sqrt(sum(sizes)))
    noise = torch.from_numpy(np.rint(normal(sum(sizes), random) * (std / step)))
    return [
        (torch.round(total.double() / step) + part.view_as(total).to(total.device)) * step
        for total, part in zip(sums, torch.split(noise, sizes), strict=True)
    ]


def grid_step(std: float) -> float:
    """γ: the power of two that is `GRID_BITS` binary places below `std`."""
    return 2.0 ** (math.floor(math.log2(std)) - GRID_BITS)


def normal(count: int, random: SecureRandom) -> NDArray[np.float64]:
    """`count` independent standard normal numbers, shape (count,), by Box & Muller 1958."""
    pairs = (count + 1) // 2
    radius = np.sqrt(-2 * np.log1p(-random.uniform(pairs)))
    angle = 2 * np.pi * random.uniform(pairs)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
