"""How far a trained model ranks what it was trained on above what it was not.

Exposure of a canary (Carlini et al. 2019, arXiv 1802.08232, section 4.2): log2 |R| - log2 rank, R
being the canary and all those that were not in, ranked by how much better the final adapter knows
them than the base model did. Ties rank behind.

Example:
    >>> found = exposure(np.array([5.0, 1.0]), np.array([4.0, 3.0, 0.0]))
    >>> round(found.mean, 3), found.largest, round(found.chance, 3)
    (1.208, 2.0, 0.854)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """Exposures of the canaries that were in, in bits.

    Attributes:
        mean: over them.
        largest: of them. Where as many were in as out it is `highest` by chance every other time,
            so `mean` against `chance` is what tells.
        chance: the mean where every rank is as likely.
        highest: log2 |R|, which no exposure exceeds.
    """

    mean: float
    largest: float
    chance: float
    highest: float


def exposure(inside: Scores, outside: Scores) -> Exposure:
    """Of canaries that were in, against those that were not.

    Args:
        inside: (members,) scores, the higher the better known.
        outside: (others,) scores.
    """
    everybody = len(outside) + 1
    below = np.searchsorted(np.sort(outside), inside)  # strictly worse known
    found = np.log2(everybody) - np.log2(everybody - below)
    ranks = np.log2(np.arange(1, everybody + 1))
    return Exposure(
        mean=float(found.mean()),
        largest=float(found.max()),
        chance=float(ranks[-1] - ranks.mean()),
        highest=float(ranks[-1]),
    )
