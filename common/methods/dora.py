"""DoRA: LoRA gives a layer's direction, a trained vector its length (Liu et al., ICML 2024).

The layer becomes m · (W + s·B A) / ‖W + s·B A‖, row by row, its bias beside that. As in section 4.3
of the paper, and in PEFT, the norm counts as a constant in gradients: it is one of adapter and base
alone, so no record is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from presspool.common.methods.fedit import FedIt
from presspool.common.methods.method import Branch, unpulled
from presspool.common.methods.parts.around import factor_norm

if TYPE_CHECKING:
    from torch import nn

    from presspool.common.contract.contract import Contract
    from presspool.common.models.adapters import State

MAGNITUDE = "lora_magnitude_vector"


class Dora(FedIt):
    """A, B, every row's length and the head train."""

    options = ("use_dora",)

    def branches(self, model: nn.Module, state: State) -> Iterator[Branch]:
        """As `Method.branches`: the norm of the whole difference, or of what was scaled for it.

        Where s·B A cancels a row of W, the division makes a row of any length of what is left,
        which is rounding: the difference is small then, and the scaled branch is not.
        """
        import torch

        for one in super().branches(model, state):
            layer = model.get_submodule(one.layer)
            weight = (one.frozen.T if layer.fan_in_fan_out else one.frozen).cpu().double()
            bent = weight + one.scale * (one.up.cpu().double() @ one.down.cpu().double())
            length = torch.tensor(state[f"{one.layer}.{MAGNITUDE}.default.weight"]).double()
            scaled = (length / bent.norm(dim=1))[:, None]
            whole = factor_norm(scaled * bent - weight)
            added = factor_norm(scaled * one.up.cpu()) @ factor_norm(one.scale * one.down)
            loudest = torch.maximum(whole, added)
            yield replace(one, frozen=weight, up=loudest, down=torch.ones(1, 1), scale=1.0)

    def check(self, contract: Contract) -> None:
        """Lengths start at the base's."""
        unpulled(contract)
