"""Sums and differences of numbers that are known by their logarithms, without overflow.

Example:
    >>> round(log_sum([1000.0, 1000.0]) - 1000.0, 6)
    0.693147
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def log_sum(terms: Sequence[float]) -> float:
    """Ln Σ exp(term), without overflow; at least one term."""
    largest = max(terms)
    return largest + math.log(math.fsum(math.exp(term - largest) for term in terms))


def log_expm1(x: float) -> float:
    """ln(eˣ − 1) for x > 0, without overflow."""
    return x + math.log1p(-math.exp(-x)) if x > 1 else math.log(math.expm1(x))


def log1p_exp(x: float) -> float:
    """ln(1 + eˣ), without overflow."""
    return x + math.log1p(math.exp(-x)) if x > 0 else math.log1p(math.exp(x))
