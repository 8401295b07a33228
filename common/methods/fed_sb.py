"""Fed-SB: a matrix of rank × rank between two fixed factors (Singhal et al., 2025).

Averaging R is averaging the products B R A exactly, and what travels and carries noise is r²
numbers a layer, whatever its width. The paper takes the factors from the base's first gradients;
here both are public and come from the contract's seed, for a gradient of readers' records is a
release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from presspool.common.methods.method import Branch
from presspool.common.methods.parts.around import AroundTargets, factor_norm

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
        """As `AroundTargets.bent`: all three by their own norms.

        Where the rank is above a layer's width, B R A can be zero with any R, whose numbers cancel
        up to their rounding.
        """
        up, down = factor_norm(module.up.weight), factor_norm(module.down.weight)
        return Branch(
            layer=name,
            frozen=module.weight.detach(),
            up=up @ factor_norm(values["square.weight"]),
            down=down,
            scale=module.scale,
        )
