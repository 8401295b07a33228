"""Exact laws on small lattices: logarithms of probabilities at the whole numbers −reach … reach.

Example: `divergence(moved(gaussian(2.0, reach=60), 1), gaussian(2.0, reach=60), 2)` is 0.25 nats.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

Law = NDArray[np.float64]


def gaussian(scale: float, *, reach: int) -> Law:
    """The discrete Gaussian P(k) ∝ exp(−k²/2s²)."""
    at = np.arange(-reach, reach + 1, dtype=np.float64)
    weights = -(at**2) / (2 * scale**2)
    return np.asarray(weights - logsumexp(weights))


def shares_together(scale: float, shares: int, *, reach: int) -> Law:
    """The law of a sum of so many, term by term: nothing but positive numbers is added."""
    one = gaussian(scale, reach=reach)
    total = one
    for _ in range(shares - 1):
        total = _added(total, one, reach)
    return total


def moved(law: Law, by: int, *, axis: int = 0) -> Law:
    """The same law elsewhere; what it leaves has no mass."""
    length = law.shape[axis]
    if by < 0:
        return np.flip(moved(np.flip(law, axis), -by, axis=axis), axis)
    widths = [(by, 0) if one == axis else (0, 0) for one in range(law.ndim)]
    padded = np.pad(law, widths, constant_values=-np.inf)
    return np.take(padded, range(length), axis=axis)


def mixed(parts: Sequence[tuple[float, Law]]) -> Law:
    """The mixture of laws, with these chances."""
    chances = np.array([chance for chance, _ in parts])
    kept = chances > 0
    logs = np.stack([law for _, law in parts])[kept]
    shape = (-1, *([1] * (logs.ndim - 1)))
    return np.asarray(logsumexp(logs + np.log(chances[kept]).reshape(shape), axis=0))


def divergence(one: Law, other: Law, order: int) -> float:
    """The Rényi divergence of whole order, in nats, over what both laws have mass on."""
    both = np.isfinite(one) & np.isfinite(other)
    terms = order * one[both] + (1 - order) * other[both]
    return float(logsumexp(terms)) / (order - 1)


def _added(one: Law, other: Law, reach: int) -> Law:
    rows = []
    for k in range(-reach, reach + 1):
        low, high = max(-reach, k - reach), min(reach, k + reach)
        mine = one[low + reach : high + reach + 1]
        theirs = other[k - high + reach : k - low + reach + 1][::-1]
        terms = mine + theirs
        top = terms.max()
        rows.append(top + np.log(np.exp(terms - top).sum()))
    return np.array(rows)
