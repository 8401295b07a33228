"""Fed-SB: a matrix of rank × rank between two fixed factors (Singhal et al., 2025).

Averaging R is averaging the products B R A exactly, and what travels and carries noise is r²
numbers a layer, whatever its width. The paper takes the factors from the base's first gradients;
here both are public and come from the contract's seed, for a gradient of readers' records is a
release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from presspool.common.methods.method import Branch
from presspool.common.methods.parts.around import AroundTargets

if TYPE_CHECKING:
    from torch import Tensor, nn

    from presspool.common.contract.contract import Contract


class FedSb(AroundTargets):
    """R and the head train."""

    trained = ("square.weight",)
    drawn = ("down.weight", "up.weight")

    def scale(self, contract: Contract) -> float:
        """As `Method.scale`: α/r."""
        return contract.adapter.alpha / contract.adapter.rank

    def around(self, layer: nn.Module, model: nn.Module, contract: Contract) -> nn.Module:  # noqa: ARG002
        """As `AroundTargets.around`."""
        from presspool.common.methods.parts.added_layers import SquareBetween

        return SquareBetween(layer, rank=contract.adapter.rank, scale=self.scale(contract))

    def bent(self, name: str, module: Any, values: dict[str, Tensor]) -> Branch:
        """As `AroundTargets.bent`: B R beside A."""
        up, down = module.up.weight.detach(), module.down.weight.detach()
        return Branch(
            layer=name,
            frozen=module.weight.detach(),
            up=up @ values["square.weight"].to(up.device),
            down=down,
            scale=module.scale,
        )
