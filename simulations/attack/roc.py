"""How well scores tell members from others: AUC, and true positives at 1 % false ones.

Example:
    >>> found = separation(np.array([3.0, 2.0, 1.5]), np.array([1.0, 0.0]))
    >>> found.auc, found.tpr
    (1.0, 1.0)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, norm, rankdata

from presspool.common.tasks.scores.share_bounds import share_at_least

FALSE_POSITIVES = 0.01
CONFIDENCE = 0.95
CURVE = 101  # thresholds

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Separation:
    """What a threshold on a score achieves.

    Attributes:
        auc: chance that a member scores higher than another, ties counted half.
        auc_interval: 95 %, DeLong, DeLong & Clarke-Pearson 1988.
        tpr: share of members above the threshold that `FALSE_POSITIVES` of the others exceed.
        tpr_interval: 95 %, Clopper & Pearson 1934, for the threshold as it is.
        members: how many.
        others: how many; below 1 / `FALSE_POSITIVES` the threshold is their largest score.
        curve: (false, true) positive rates of `CURVE` thresholds or fewer, (0, 0) to (1, 1).
        fpr_interval: 95 %, of the false positive rate that the threshold really has: it was
            chosen on these others, and few of them say little about the rest.
    """

    auc: float
    auc_interval: Interval
    tpr: float
    tpr_interval: Interval
    members: int
    others: int
    fpr_interval: Interval
    curve: tuple[tuple[float, float], ...]


def separation(members: NDArray[np.float64], others: NDArray[np.float64]) -> Separation:
    """Compare the scores of members with those of others, one or more of each."""
    auc, interval = _auc(members, others)
    allowed = int(FALSE_POSITIVES * len(others))
    threshold = np.sort(others)[::-1][allowed]
    found = int((members > threshold).sum())
    return Separation(
        auc=auc,
        auc_interval=interval,
        tpr=found / len(members),
        tpr_interval=share_interval(found, len(members)),
        members=len(members),
        others=len(others),
        fpr_interval=share_interval(allowed, len(others)),
        curve=_curve(members, others),
    )


def _curve(
    members: NDArray[np.float64], others: NDArray[np.float64]
) -> tuple[tuple[float, float], ...]:
    """Between scores that tie the curve is straight: a coin decides there."""
    order = np.sort(others)[::-1]
    picked = order[np.linspace(0, len(others) - 1, CURVE).astype(int)]
    found = {(float((others > t).mean()), float((members > t).mean())) for t in picked}
    return tuple(sorted({(0.0, 0.0), *found, (1.0, 1.0)}))


def share_interval(found: int, of: int) -> Interval:
    """Clopper and Pearson's exact 95 % interval of a share."""
    tail = (1 - CONFIDENCE) / 2
    low = share_at_least(found, of, tail)
    high = 1.0 if found == of else float(beta.ppf(1 - tail, found + 1, of - found))
    return low, high


def _auc(members: NDArray[np.float64], others: NDArray[np.float64]) -> tuple[float, Interval]:
    ranks = rankdata(np.concatenate([members, others]))
    # Of each member: the share of others below it; of each other: the share of members above.
    beaten = (ranks[: len(members)] - rankdata(members)) / len(others)
    beating = 1 - (ranks[len(members) :] - rankdata(others)) / len(members)
    auc = float(beaten.mean())
    variance = _variance(beaten) / len(members) + _variance(beating) / len(others)
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * float(np.sqrt(variance))
    return auc, (max(0.0, auc - half), min(1.0, auc + half))


def _variance(values: NDArray[np.float64]) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0
