"""The head alone: the base model's features are used as they are.

The branch is there all the same, at zero and frozen, so that the adapter is one like all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from presspool.common.methods.lora import Lora

if TYPE_CHECKING:
    from presspool.common.contract.contract import Contract


class Head(Lora):
    """The head trains."""

    groups = ("head",)
    factors = ()

    def targets(self, contract: Contract) -> tuple[str, ...]:  # noqa: ARG002
        """None: a branch that stays zero does nothing, whatever it is beside."""
        return ()
