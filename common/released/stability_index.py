"""Population stability index: how far shares of today lie from those of a reference.

PSI = Σ (p − q) ln(p / q), which is Jeffreys' divergence of the two; by custom 0.1 is worth a look
and 0.25 is another population. A share below `FLOOR` counts as `FLOOR`, so that an empty bin is
far away and not infinitely far.

Invariant: the index is 0 where shares are equal and above 0 elsewhere, whichever is the reference.

Sources: Siddiqi, "Credit Risk Scorecards", Wiley 2006 (index and levels); Yurdakul, "Statistical
properties of the population stability index", 2018 (what chance alone gives).

Example:
    >>> round(stability_index([0.5, 0.5], [0.8, 0.2]), 4)
    0.4159
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

FLOOR = 1e-4
WATCH, DRIFTED = 0.1, 0.25
SURE = 0.999  # of what chance gives


def stability_index(shares: ArrayLike, reference: ArrayLike, floor: float = FLOOR) -> float:
    """The index of two rows of shares, each of sum 1."""
    return float(indices(shares, reference, floor))


def indices(shares: ArrayLike, reference: ArrayLike, floor: float) -> NDArray[np.float64]:
    """The index of each two rows of shares, (rows, bins)."""
    p, q = (np.maximum(np.asarray(row, np.float64), floor) for row in (shares, reference))
    found: NDArray[np.float64] = np.sum((p - q) * np.log(p / q), axis=-1)
    return found


def by_chance(freedom: float, records: float, reference: float) -> float:
    """What two samples of one population stay below in 999 of 1,000 cases, about.

    Args:
        freedom: bins less one.
        records: in the one; of 0 it is infinite.
        reference: in the other.
    """
    if not records:
        return math.inf
    return float((1 / records + 1 / reference) * chi2.ppf(SURE, freedom))
