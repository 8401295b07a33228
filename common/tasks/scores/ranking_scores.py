"""How well scores rank the candidates of impressions, as the MIND challenge counts it.

Each figure is a mean over impressions (Wu et al., ACL 2020, "MIND", section 4.2, and the
challenge's `evaluate.py`): AUC within the impression; MRR, the mean over its clicked candidates of
one over their place; nDCG@k with gains 2^click - 1 and discounts log2(place + 1).

Invariants:
    * Equal scores flatter nobody: in AUC a tie counts half, in the others clicked ones come last.
    * An impression that was clicked nowhere, or everywhere, is not asked about.

Example:
    >>> found = ranked([0.9, 0.5, 0.1], [0, 1, 0])
    >>> found["auc"], found["mrr"], round(found["ndcg_5"], 4)
    (0.5, 0.5, 0.6309)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES = ("auc", "mrr", "ndcg_5", "ndcg_10")


def ranked(scores: Sequence[float] | NDArray[Any], clicks: Sequence[int]) -> dict[str, float]:
    """One impression's figures by name.

    Args:
        scores: of each candidate, higher for one that is likelier to be clicked; NaN is lowest.
        clicks: as many 0 and 1, at least one of each.
    """
    import numpy as np

    said = np.nan_to_num(np.asarray(scores, np.float64), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    hit = np.asarray(clicks, np.bool_)
    gains = hit[np.lexsort((hit, -said))].astype(np.float64)
    places = np.arange(1, len(gains) + 1)
    return {
        "auc": _auc(said[hit], said[~hit]),
        "mrr": float((gains / places).sum() / gains.sum()),
        "ndcg_5": _ndcg(gains, 5),
        "ndcg_10": _ndcg(gains, 10),
    }


def _auc(clicked: NDArray[Any], others: NDArray[Any]) -> float:
    """The share of pairs in which the clicked one scores higher; of equal ones half."""
    first, second = clicked[:, None], others[None, :]
    return float(((first > second) + 0.5 * (first == second)).mean())


def _ndcg(gains: NDArray[Any], cut: int) -> float:
    import numpy as np

    discounts = 1 / np.log2(np.arange(2, len(gains) + 2))[:cut]
    best = np.sort(gains)[::-1][:cut]
    return float((gains[:cut] * discounts).sum() / (best * discounts).sum())


def means(found: Iterable[dict[str, float]]) -> dict[str, float | None]:
    """Of impressions' figures; None without an impression."""
    rows = list(found)
    if not rows:
        return dict.fromkeys(NAMES)
    return {name: sum(row[name] for row in rows) / len(rows) for name in NAMES}
