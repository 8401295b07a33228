"""An adapter that came in with a round is held against contract and policy; nothing is loaded yet.

Invariants:
    * Trained parameters come in by exact name and shape. Frozen ones do not come in at all: this
      machine derives them from the contract's public seed, and `check_frozen` sees that it did.
    * An adapter is weighed before anything is computed with it: its size as a whole, and how loud
      each branch is beside the frozen layer that it bends (`presspool.common.models.spectral`).
    * Nothing here sees readers' data, so no refusal can depend on it.

Example:
    >>> import numpy as np
    >>> zeros = {"head.weight": np.zeros((2, 3), np.float32)}
    >>> check_adapter(zeros, shapes={"head.weight": (2, 3)}, largest=1.0)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from presspool.common.base.errors import GuardError, SelfTestError
from presspool.common.contract.contract import Contract
from presspool.common.ledger.entries import GuardReason
from presspool.common.models import adapters
from presspool.common.models.adapters import State
from presspool.common.models.spectral import ratios

if TYPE_CHECKING:
    from torch import nn

Shapes = Mapping[str, tuple[int, ...]]
_ADAPTER_WORDS: Mapping[adapters.FaultKind, GuardReason] = {
    "names": "adapter-names",
    "shapes": "adapter-shapes",
    "finite": "adapter-not-finite",
    "norm": "adapter-norm",
}


def check_adapter(state: State, *, shapes: Shapes, largest: float = math.inf) -> None:
    """Return if an adapter that came in is of the right form and size.

    Args:
        state: what came in.
        shapes: name to shape of all that trains in this outlet's own model of the contract.
        largest: L2 norm that is still taken.

    Raises:
        GuardError: the first thing that is wrong.
    """
    fault = adapters.fault(state, shapes=shapes, largest=largest)
    if fault is not None:
        raise _refusal(_ADAPTER_WORDS[fault.kind], expected=fault.expected, got=fault.got)


def check_branches(state: State, model: nn.Module, contract: Contract, *, largest: float) -> None:
    """Return if no branch of an adapter is too loud for the frozen layer beside it.

    Args:
        state: what came in, and passed `check_adapter`.
        model: this outlet's own model of the contract.
        contract: the run's.
        largest: spectral norm of a branch over that of its layer that is still taken.

    Raises:
        GuardError: the first branch that is.
    """
    for layer, ratio in ratios(model, contract.method, state):
        if not ratio <= largest:
            raise _refusal(
                "adapter-branch",
                where=f"policy.toml max_branch_ratio, {layer}",
                expected=f"a branch at most {largest:g} times as strong as its frozen layer",
                got=f"{ratio:g} times",
            )


def check_frozen(model: nn.Module, contract: Contract) -> None:
    """See that the method's public constants are those of the contract's seed.

    They never come from the coordinator; this guards against our own mistakes.

    Raises:
        SelfTestError: one is not.
    """
    for name, public in contract.method.constants(model, contract):
        if not bool((model.get_parameter(name).detach().cpu() == public).all()):
            raise SelfTestError("a frozen parameter is not that of the public seed", where=name)


def _refusal(code: GuardReason, *, expected: str, got: str, where: str = "") -> GuardError:
    return GuardError(
        code,
        "this outlet refuses the adapter that came with the round",
        where=where,
        expected=expected,
        got=got,
        advice="ask the coordinator what it sent; nothing was trained from it",
    )
