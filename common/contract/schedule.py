"""How a rate falls over a run: constant, or a half cosine down to zero.

Source: Loshchilov & Hutter, ICLR 2017, equation 5, without restarts.

Example:
    >>> [round(factor("cosine", done), 2) for done in (0, 0.5, 1)], factor("constant", 0.5)
    ([1.0, 0.5, 0.0], 1.0)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from presspool.common.contract.contract_schema import Optimizer

Schedule = Literal["constant", "cosine"]


def factor(schedule: Schedule, done: float) -> float:
    """What a rate is multiplied with when the share `done` (0 to 1) of the run is over."""
    return 1.0 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * done))


def rate_factor(spec: Optimizer, step: int, steps: int) -> float:
    """What the learning rate is multiplied with at a step (from 0) of the whole run.

    Linear warm-up over `warmup_steps`, then the schedule over the steps that are left.
    """
    if step < spec.warmup_steps:
        return (step + 1) / (spec.warmup_steps + 1)
    done = (step - spec.warmup_steps) / max(1, steps - spec.warmup_steps)
    return factor(spec.schedule, done)
