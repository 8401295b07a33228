"""(IA)³: features of the targets are rescaled (Liu et al., NeurIPS 2022, section 3.3).

A target's outputs are, as the paper does with keys and values; where it reads something else than
hidden states, as the second layer of a feed-forward block does, its inputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from presspool.common.methods.method import Branch, unpulled
from presspool.common.methods.parts.around import AroundTargets

if TYPE_CHECKING:
    from torch import Tensor, nn

    from presspool.common.contract.contract import Contract


class Ia3(AroundTargets):
    """One number for each rescaled feature, and the head, train."""

    trained = ("rescale.weight",)

    def around(self, layer: nn.Module, model: nn.Module, contract: Contract) -> nn.Module:  # noqa: ARG002
        """As `AroundTargets.around`."""
        from presspool.common.methods.parts.added_layers import Rescaled, shape

        config: Any = model.config
        return Rescaled(layer, inputs=shape(layer)[1] != config.hidden_size)

    def bent(self, name: str, module: Any, values: dict[str, Tensor]) -> Branch:  # noqa: ARG002
        """As `AroundTargets.bent`: diag(l - 1) beside the identity, as strong as its largest."""
        import torch

        largest = (values["rescale.weight"] - 1).abs().max().view(1, 1)
        one = torch.ones(1, 1)
        return Branch(layer=name, frozen=one, up=largest, down=one, scale=1.0)

    def check(self, contract: Contract) -> None:
        """Numbers start at 1."""
        unpulled(contract)
