"""How small a share may be that was counted in a few cases.

Example:
    >>> round(share_at_least(9, 9, 0.05), 3)
    0.717
"""

from __future__ import annotations

from scipy.stats import beta


def share_at_least(found: int, of: int, tail: float) -> float:
    """A share's lower bound, exact and one-sided (Clopper & Pearson 1934).

    Args:
        found: cases that have it.
        of: cases.
        tail: chance that the share is smaller than what is returned.
    """
    return float(beta.ppf(tail, found, of - found + 1)) if found else 0.0
