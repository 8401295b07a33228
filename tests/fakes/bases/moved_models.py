"""A contract's model away from its start, where every parameter that trains has a gradient.

Example: `with_state(contract, 0.05)`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from presspool.common.contract.contract import Contract
from presspool.common.models.adapters import load, read
from presspool.common.models.models import build


def with_state(contract: Contract, size: float) -> Any:
    """The contract's model under an adapter of normal numbers of this size; nowhere zero."""
    model, rng = build(contract).eval(), np.random.default_rng(5)
    state = {n: size * rng.standard_normal(a.shape) for n, a in read(model).items()}
    load(model, {name: array.astype(np.float32) for name, array in state.items()})
    return model
