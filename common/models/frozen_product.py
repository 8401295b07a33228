"""Products with frozen matrices, by whichever of torch's two libraries is faster on a processor.

A frozen model's time is spent in float32 products x Wᵀ. Torch gives them to MKL, which on another
maker's processor with AVX-512 takes its kernels for AVX2: 105 GFLOP/s a core of an AMD EPYC, where
oneDNN, which torch carries for other work, does 235. Without AVX-512 MKL is the faster one: 94
against 79 GFLOP/s on many rows, 20 against 11 on four. So there, on few rows, in another dtype, on
another device or under autocast, torch's own product runs.

Invariants:
    * Both compute the same sums in float32, in another order of additions.
    * Which of them runs depends on processor, dtype, device and shapes alone, which are public.
    * Gradients flow to x alone; a weight that is to be trained goes torch's own way.

Example:
    >>> x, weight = torch.ones(16, 4, requires_grad=True), torch.eye(4)
    >>> product(x, weight).sum().backward()
    >>> x.grad.unique()
    tensor([1.])
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEWEST_ROWS = 4
"""Below, both are limited by reading the matrix; from here on oneDNN was the faster one, too."""

ONEDNN = (
    hasattr(torch.ops.mkldnn, "_linear_pointwise")
    and torch.backends.cpu.get_cpu_capability() == "AVX512"
)
"""Whether this machine's processor computes faster by it."""


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product x Wᵀ + b.

    Args:
        x: (..., inputs) floating.
        weight: W, (outputs, inputs), of any strides.
        bias: (outputs,).

    Returns:
        (..., outputs) of x's dtype.
    """
    if not _quick(x, weight, bias):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and x.requires_grad:
        return _Product.apply(x, weight, bias)  # type: ignore[no-untyped-call, no-any-return]
    return _onednn(x, weight, bias)


class FrozenLinear(nn.Linear):
    """A linear layer whose product is `product`."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        return product(input, self.weight, self.bias)


def quicken(model: nn.Module) -> None:
    """Let every plain linear layer of a model that is not trained compute by `product`."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = FrozenLinear


def unquicken(model: nn.Module) -> None:
    """Take back what `quicken` did, for programs that know torch's own layers alone."""
    layers: list[Any] = [one for one in model.modules() if type(one) is FrozenLinear]
    for layer in layers:
        layer.__class__ = nn.Linear


class _Product(torch.autograd.Function):
    """Inputs x, W, b; gradients flow to x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return _onednn(g, weight.T, None), None, None


def _quick(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    return (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and x.numel() >= FEWEST_ROWS * x.shape[-1]
        and not weight.requires_grad
        and not (bias is not None and bias.requires_grad)
        and not torch.is_autocast_enabled("cpu")
        and ONEDNN
    )


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found
