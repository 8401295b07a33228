"""What is drawn for a clock: numbers that hang on a public seed and on names, and on nothing else.

Invariants:
    * A draw is a function of seed and names: neither the order of draws nor how many there are
      changes it, and it is the same on every machine.
    * Nothing here ever sees an outlet's secret randomness or its readers.

Example:
    >>> uniform(7, "speed", "daily-bugle") == uniform(7, "speed", "daily-bugle")
    True
    >>> round(factor("pareto:1.0", 0.5), 6), factor("equal", 0.1)
    (1.0, 1.0)
"""

from __future__ import annotations

import hashlib
import math
from statistics import NormalDist

_BITS = 53


def uniform(*names: int | str) -> float:
    """A number in (0, 1) that belongs to a seed and names."""
    text = "\0".join(map(str, names)).encode()
    head = hashlib.sha256(b"presspool/clock/v1\0" + text).digest()[:8]
    return ((int.from_bytes(head, "big") >> (64 - _BITS)) + 0.5) * 2.0**-_BITS


def factor(law: str, chance: float) -> float:
    """The value of a law with median 1 below which a draw lies with this chance.

    Args:
        law: "equal", "lognormal:SIGMA" or "pareto:ALPHA" (the smaller, the heavier its tail).
        chance: in (0, 1).
    """
    kind, _, number = law.partition(":")
    if kind == "equal":
        return 1.0
    if kind == "lognormal":
        return math.exp(float(number) * NormalDist().inv_cdf(chance))
    return math.exp(-math.log(2 * (1 - chance)) / float(number))
