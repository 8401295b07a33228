"""Modules that methods put around a frozen linear layer; what trains in each has an exact gradient.

Imported where a model is made, for it needs torch.

Invariant: at its start every module says what the frozen layer says.

Example:
    >>> rescaled = Rescaled(nn.Linear(2, 3), inputs=False)
    >>> torch.equal(rescaled(torch.ones(1, 2)), rescaled.frozen(torch.ones(1, 2)))
    True
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from presspool.common.methods.method import unfoldable


class Around(nn.Module):
    """A frozen layer and something at it.

    Args:
        frozen: the base model's layer.
    """

    def __init__(self, frozen: nn.Module) -> None:
        super().__init__()
        self.frozen = frozen

    @property
    def weight(self) -> Any:
        """The frozen one; some models ask a layer for it."""
        return self.frozen.weight

    def folded(self) -> nn.Module:
        """The frozen layer alone, changed so that it says what the two say; raises if none can."""
        raise unfoldable(type(self).__name__)


class Rescale(nn.Module):
    """Each feature times a trained number, which starts at 1."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        """(..., features)."""
        return x * self.weight


class Rescaled(Around):
    """A layer whose outputs, or inputs, are rescaled."""

    def __init__(self, frozen: nn.Module, *, inputs: bool) -> None:
        super().__init__(frozen)
        self.inputs = inputs
        self.rescale = Rescale(shape(frozen)[1 if inputs else 0])

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        if self.inputs:
            return self.frozen(self.rescale(x))  # type: ignore[no-any-return]
        return self.rescale(self.frozen(x))  # type: ignore[no-any-return]

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """As `Around.folded`: the weight's columns, or its rows and the bias, times the numbers."""
        weight, by, layer = as_rows(self.frozen), self.rescale.weight, self.frozen
        weight.mul_(by if self.inputs else by[:, None])
        if not self.inputs and isinstance(layer.bias, Tensor):
            layer.bias.mul_(by)
        return layer


class SquareBetween(Around):
    """W x + s · B R A x, of which R, rank × rank, trains and starts at zero."""

    def __init__(self, frozen: nn.Module, *, rank: int, scale: float) -> None:
        super().__init__(frozen)
        outputs, inputs = shape(frozen)
        self.scale = scale
        self.down = nn.Linear(inputs, rank, bias=False)
        self.square = _zero(nn.Linear(rank, rank, bias=False))
        self.up = nn.Linear(rank, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        added: Tensor = self.up(self.square(self.down(x)))
        return self.frozen(x) + self.scale * added  # type: ignore[no-any-return]

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """As `Around.folded`: W + s · B R A."""
        product = self.up.weight @ self.square.weight @ self.down.weight
        as_rows(self.frozen).add_(self.scale * product)
        return self.frozen


class Bottleneck(Around):
    """y + B · gelu(A y) behind a layer that says y; B starts at zero."""

    def __init__(self, frozen: nn.Module, *, rank: int) -> None:
        super().__init__(frozen)
        outputs, _ = shape(frozen)
        self.down = nn.Linear(outputs, rank, bias=False)
        self.up = _zero(nn.Linear(rank, outputs, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        y: Tensor = self.frozen(x)
        return y + self.up(F.gelu(self.down(y)))  # type: ignore[no-any-return]


def shape(layer: Any) -> tuple[int, int]:
    """Outputs and inputs of a linear layer, or of GPT-2's kind, which is stored the other way."""
    rows, columns = layer.weight.shape
    return (rows, columns) if isinstance(layer, nn.Linear) else (columns, rows)


def as_rows(layer: Any) -> Tensor:
    """A view of such a layer's weight, (outputs, inputs)."""
    weight: Tensor = layer.weight
    return weight if isinstance(layer, nn.Linear) else weight.T


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    return layer
