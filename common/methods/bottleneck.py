"""Bottleneck adapters behind the targets (Houlsby et al., ICML 2019), `[adapter] rank` wide.

Layers say y + B · gelu(A y). gelu is nowhere steeper than 1.13, so the branch beside the identity
is at most so many times as strong as B and A are each. Their product would say nothing: with A as
two rows a and -a, and one column of B twice, B A is zero, and B · gelu(A y) as large as |a y| is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from presspool.common.methods.method import Branch
from presspool.common.methods.parts.around import AroundTargets, factor_norm

if TYPE_CHECKING:
    from torch import Tensor, nn

    from presspool.common.contract.contract import Contract

STEEPEST = 1.13


class BottleneckAdapters(AroundTargets):
    """A, B and the head train."""

    trained = ("down.weight", "up.weight")
    drawn = ("down.weight",)

    def around(self, layer: nn.Module, model: nn.Module, contract: Contract) -> nn.Module:  # noqa: ARG002
        """As `AroundTargets.around`."""
        from presspool.common.methods.parts.added_layers import Bottleneck

        return Bottleneck(layer, rank=contract.adapter.rank)

    def bent(self, name: str, module: Any, values: dict[str, Tensor]) -> Branch:  # noqa: ARG002
        """As `AroundTargets.bent`."""
        import torch

        up, down = factor_norm(values["up.weight"]), factor_norm(values["down.weight"])
        return Branch(layer=name, frozen=torch.ones(1, 1), up=up, down=down, scale=STEEPEST)
