"""How far shares of a period lie from those of an earlier one, and how far noise may have moved it.

The figure is the population stability index of both. Its root is a distance, near enough; noise
moved it by no more than what noise alone puts between two periods around the middle of both, which
is drawn 2,000 times with a public seed. So the interval is

    [max(0, √PSI − r)², (√PSI + r)²],   r a high quantile of those distances,

and holds where PSI is 0 as well, where an interval of its slope would have no width.

A share below the noise's deviation (of a sample, below one text) counts as that: nobody can tell it
from an empty one.

Invariant: it is made of what was released already, so it costs readers nothing more.

Source: `presspool.common.released.stability_index`; Endres and Schindelin, "A new metric for
probability distributions", IEEE Trans. Inf. Theory 2003, on roots of such divergences.

Example:
    >>> drift_of_counts([300, 700], [680, 320], sigma=5.0).text
    '0.61 (0.57 to 0.65)'
    >>> drift_of_counts([505, 495], [500, 500], sigma=5.0).drifted
    False
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from presspool.common.released.stability_index import DRIFTED, FLOOR, indices, stability_index

_DRAWS = 2000
_SURE = (
    0.975  # of what is drawn: the root is a distance but near enough, so 95 % need a little more
)
Shares = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ShareDrift:
    """A population stability index and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"

    @property
    def drifted(self) -> bool:
        """Whether it is another population, and not by noise."""
        return self.low > DRIFTED


def drift_of_counts(row: Sequence[int], earlier: Sequence[int], *, sigma: float) -> ShareDrift:
    """Between counts with independent noise of standard deviation `sigma` on each.

    Args:
        row: counts of a period; their sum is well above their noise.
        earlier: those of the other, in the same order.
        sigma: of every count.
    """
    rng = np.random.default_rng(0)

    def redrawn(counts: Sequence[int]) -> Shares:
        drawn = np.asarray(counts, np.float64) + rng.normal(0, sigma, (_DRAWS, len(counts)))
        shares: Shares = drawn / drawn.sum(1, keepdims=True)
        return shares

    return _between(row, earlier, redrawn, unit=sigma)


def drift_of_samples(row: Sequence[int], earlier: Sequence[int]) -> ShareDrift:
    """Between two samples, by their exact counts; arguments as `drift_of_counts`'."""
    rng = np.random.default_rng(0)

    def redrawn(counts: Sequence[int]) -> Shares:
        total = sum(counts)
        return rng.multinomial(total, np.asarray(counts) / total, _DRAWS) / total

    return _between(row, earlier, redrawn, unit=1.0)


def _between(
    row: Sequence[int],
    earlier: Sequence[int],
    redrawn: Callable[[Sequence[int]], Shares],
    *,
    unit: float,
) -> ShareDrift:
    floor = max(FLOOR, unit / min(sum(row), sum(earlier)))
    p, q = (np.asarray(counts) / sum(counts) for counts in (row, earlier))
    value, middle = stability_index(p, q, floor), (p + q) / 2
    apart = ((redrawn(row) - p) - (redrawn(earlier) - q)) / 2
    radius = np.sqrt(np.quantile(indices(middle + apart, middle - apart, floor), _SURE))
    low, high = max(0.0, np.sqrt(value) - radius) ** 2, (np.sqrt(value) + radius) ** 2
    return ShareDrift(value=value, low=float(low), high=float(high))
