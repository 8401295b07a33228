"""RoLoRA: the factors of LoRA take turns (Chen et al., NeurIPS 2025): B in odd rounds, A in even.

In each round one factor is the same everywhere, so that averaging the other is averaging the
products B A, and no round multiplies two noises. Whose turn it is depends on the round alone.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from presspool.common.base.errors import ContractError
from presspool.common.methods.fedit import FedIt
from presspool.common.methods.lora import A, B

if TYPE_CHECKING:
    from presspool.common.contract.contract import Contract


class RoLora(FedIt):
    """One factor and the head train."""

    def resting(self, names: Collection[str], number: int) -> frozenset[str]:
        """As `Method.resting`."""
        factor = A if number % 2 else B
        return frozenset(name for name in names if f".{factor}." in name)

    def check(self, contract: Contract) -> None:
        """Refuse a coordinator that moves a factor out of its turn, and sums of all numbers."""
        if contract.trust.adds_up:
            raise ContractError(
                "sums are planned for all numbers that train, of which one factor's would rest",
                where="federation.trust",
                expected="'local' where factors take turns",
                got=contract.federation.trust,
            )
        if contract.server.remembers:
            raise ContractError(
                "a factor that rests would be moved by what the coordinator remembers of its turn",
                where="server.name",
                expected="'average' where factors take turns",
                got=contract.server.name,
            )
