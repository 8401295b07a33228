"""Gaussian noise that stays private in floating point: whole numbers on a public grid.

Textbook proofs add a real number; a computer adds a double, and the gaps between the doubles that
"sum + noise" can reach differ from one sum to the next, which gives the sum away (Mironov 2012;
for DP-SGD: arXiv 2107.10138 and 2112.05307). Here the sum is whole numbers of a grid of step γ
(`presspool.client.engine.clipping`), and the noise is the discrete Gaussian of s = σS/γ on the same
grid (`presspool.client.engine.discrete_gaussian`).

Why the accountants' figures hold. Whole numbers that move by Δ: E[(P(x-Δ)/P(x))ʲ] is that of the
real Gaussian for every whole j, because completing the square shifts by a whole number. So the
Rényi costs at whole orders, which the ledger's filter adds up, hold as they are, sampling included.
Privacy loss distributions are computed for the real Gaussian. The discrete one is another law than
a real Gaussian rounded to the grid, which would be post-processing, by a total variation of

    τ = (1/48s²)·E|z² - 1| + O(s⁻⁴) < 1/(40 s²) a coordinate,

so a statement of (ε, δ) over T steps of d coordinates is (ε, δ + (1 + e^ε)·d·T·τ). With d·T at most
2⁴⁰, which the optimiser holds, that is `PrivacyPlan.grid_delta`: below 2⁻²⁸ for ε <= 8 and the
least σ, and named in every statement.

Example:
    >>> total = torch.zeros(4, dtype=torch.int64)
    >>> noisy, = add_noise([total], noise_multiplier=1.2, sensitivity=0.5, grid=2.0**-41,
    ...                    random=SecureRandom.deterministic(1))
    >>> bool((noisy != 0).all())
    True
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from presspool.client.engine.discrete_gaussian import discrete_gaussian
from presspool.client.engine.randomness import SecureRandom


def add_noise(
    sums: Sequence[Tensor],
    *,
    noise_multiplier: float,
    sensitivity: float,
    grid: float,
    random: SecureRandom,
) -> list[Tensor]:
    """`sums` plus independent discrete Gaussians of (σS)² on every coordinate.

    Args:
        sums: int64 tensors in steps of the grid; together the one vector that is released.
        noise_multiplier: σ; 0 adds nothing.
        sensitivity: S, how far one unit can move the whole vector (L2), in units of the gradient.
        grid: γ.
        random: the outlet's secret stream.

    Returns:
        int64 tensors of the same shapes and devices, in steps of the grid.
    """
    if noise_multiplier == 0:
        return list(sums)
    sizes = [total.numel() for total in sums]
    drawn = discrete_gaussian(sum(sizes), noise_multiplier * sensitivity / grid, random)
    parts = torch.split(torch.from_numpy(drawn), sizes)
    return [
        total + part.view_as(total).to(total.device)
        for total, part in zip(sums, parts, strict=True)
    ]
