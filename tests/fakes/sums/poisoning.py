"""Outlets that lie: what each attack of the literature sends instead of an honest update.

Attackers know all honest updates and send the same; `cap` is the largest norm that admission lets
through, and they use all of it where their attack gains by size.

Example: `ATTACKS["sign flip"](honest, cap)` is what each attacker sends, (d,).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Attack = Callable[[NDArray[np.float64], float], Vector]


def sign_flip(honest: Vector, cap: float) -> Vector:
    """Against the honest mean, as long as admission allows."""
    mean = honest.mean(axis=0)
    return np.asarray(-mean * cap / np.linalg.norm(mean))


def scaling(honest: Vector, cap: float) -> Vector:
    """Some direction of its own, as long as admission allows."""
    random = np.random.default_rng(7).standard_normal(honest.shape[1])
    return np.asarray(random * cap / np.linalg.norm(random))


def little(honest: Vector, cap: float) -> Vector:
    """A little is enough: z deviations from the mean (Baruch, Baruch & Goldberg, NeurIPS 2019)."""
    return np.asarray(honest.mean(axis=0) - 1.5 * honest.std(axis=0))


def inner_product(honest: Vector, cap: float) -> Vector:
    """−10 times the honest mean, or up to the cap (Xie, Koyejo & Gupta, UAI 2020)."""
    mean = -10 * honest.mean(axis=0)
    return np.asarray(mean * min(1.0, cap / np.linalg.norm(mean)))


ATTACKS: Mapping[str, Attack] = MappingProxyType(
    {
        "sign flip": sign_flip,
        "scaling": scaling,
        "a little is enough": little,
        "inner product": inner_product,
    }
)
"""Those that are made of honest updates; a label flip trains on wrong labels instead."""
