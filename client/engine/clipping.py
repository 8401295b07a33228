"""Each reader's gradient, clipped and counted in steps of a public grid; then whole numbers add up.

Float sums have no slack: 100,000 aligned float32 gradients of norm C moved such a sum by 1.0076 C.
Here a reader's clipped gradient becomes a vector of whole numbers before anything is added, so a
reader moves the sum by that vector exactly, in any order and with any micro-batch.

Why Σ q² <= (C/γ)² for every reader's q, exactly: coordinates are cut off towards zero, which can
only shorten them; ‖g‖ is never taken for less than it is; and the factor 1 - 2⁻²⁰ leaves room for
the errors of the few products and roots in between, 2⁻⁵² each.

Why q depends on that reader's gradient alone, bit by bit: the order in which a library adds floats
hangs on how many readers there are. So nothing is added here but whole numbers that float64 holds
without an error; squares are rounded up to such first, in units that the reader's largest
coordinate sets. All else is done to each number by itself.

Invariants:
    * γ is a power of two that depends on the plan's sensitivity alone: S/γ in [2⁴⁰, 2⁴¹); where
      the pool shares its noise, on a public number of binary places as well.
    * A gradient that is not finite counts as zero, and moves nobody else's.
    * Sums wrap around modulo 2⁶⁴, above 2²² readers in a step at the earliest, instead of losing
      bits; on that ring a reader moves the sum by no more.

Example:
    >>> from presspool.common.contract.privacy_plan import grid_step
    >>> rows = torch.tensor([[3.0, 4.0], [0.0, 0.5]])
    >>> step = grid_step(1.0)
    >>> whole = counted(rows, clip_factors([rows], 1.0), step)
    >>> torch.round(whole.double() * step, decimals=3)
    tensor([0.6000, 1.3000], dtype=torch.float64)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

# C is taken for so much of itself.
_ROOM = 1 - 2.0**-20
# Float64 adds so many whole numbers below 2⁴¹ without an error; as many columns stay in the cache.
_ROWS, _CELLS = 1024, 1 << 18


def clip_factors(gradients: Sequence[Tensor], bound: float) -> Tensor:
    """What each reader's gradient is multiplied with, 0 where it is not finite.

    Args:
        gradients: of the parameters that are clipped together, (readers, ...) each.
        bound: C.

    Returns:
        (readers,) float64, min(1, C·(1 - 2⁻²⁰)/‖g‖).
    """
    flat = [gradient.flatten(1) for gradient in gradients]
    largest = torch.stack([torch.maximum(g.amax(1), -g.amin(1)) for g in flat]).amax(0).double()
    finite = torch.isfinite(largest)
    exponent = torch.frexp(torch.where(finite, largest, 0.0)).exponent
    width = sum(g.shape[1] for g in flat)
    unit = _power_of_two(52 - width.bit_length() - 2 * exponent)  # all squares in it are below 2⁵²
    squares = torch.zeros_like(unit)
    for g in flat:
        for rows, columns in _pieces(g):
            exact = g[rows, columns].double().square_()
            squares[rows] += exact.mul_(unit[rows, None]).ceil_().sum(1)
    norms = (squares / unit).sqrt_()
    factors = bound * _ROOM / norms.clamp(min=bound * _ROOM)
    return torch.where(finite, factors, torch.zeros_like(factors))


def _power_of_two(exponent: Tensor) -> Tensor:
    """2ⁿ in float64 by its bits (IEEE 754), which no library rounds."""
    return (exponent.long() + 1023 << 52).view(torch.float64)


def counted(gradient: Tensor, factors: Tensor, step: float) -> Tensor:
    """The sum over readers of their clipped gradients in steps of the grid.

    Args:
        gradient: (readers, ...) of any float dtype.
        factors: (readers,) float64.
        step: γ.

    Returns:
        (...) int64.
    """
    flat, scale = gradient.flatten(1), (factors / step)[:, None]
    whole = torch.zeros(flat.shape[1], dtype=torch.int64, device=flat.device)
    for rows, columns in _pieces(flat):
        moved = flat[rows, columns].double().mul_(scale[rows])
        # 0 times infinity is no number, and such a reader counts as zero.
        whole[columns] += moved.nan_to_num_(0.0, 0.0, 0.0).trunc_().sum(0).long()
    return whole.view(gradient.shape[1:])


def _pieces(flat: Tensor) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of a (readers, d) tensor in pieces that float64 has room for."""
    readers, width = flat.shape
    columns = max(1, _CELLS // max(1, min(readers, _ROWS)))
    for top in range(0, readers, _ROWS):
        for left in range(0, width, columns):
            yield slice(top, top + _ROWS), slice(left, left + columns)
