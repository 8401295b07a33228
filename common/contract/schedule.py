"""How a rate falls over a run: constant, or a half cosine down to zero.

Source: Loshchilov & Hutter, ICLR 2017, equation 5, without restarts.

Example:
    >>> [round(factor("cosine", done), 2) for done in (0, 0.5, 1)], factor("constant", 0.5)
    ([1.0, 0.5, 0.0], 1.0)
"""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "cosine"]


def factor(schedule: Schedule, done: float) -> float:
    """What a rate is multiplied with when the share `done` (0 to 1) of the run is over."""
    return 1.0 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * done))
