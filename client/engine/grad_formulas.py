"""Ordinary trained layers, tapped: heads, biases and layer norms deliver gradients per reader.

A `Tap` stands in for the forward pass of one layer. The layer computes as always, with its own
parameters taken for constants, and an identity function behind it turns the gradient of its
output into gradients per reader. The formulas are those of Opacus's grad samplers
(`opacus.grad_sample.linear`, `layer_norm`, `rms_norm`), extended to Hugging Face's `Conv1D` and
root-mean-square norms and to norms without a bias, and summed per reader instead of per record.

Invariants:
- Nothing is remembered between forward and backward except what autograd itself stores. So a
  forward pass without a backward one leaks nothing, gradient checkpointing may run a layer
  twice, and a layer that the model calls twice gets the sum of both calls.
- Only exact types are known: a subclass may compute something else.

Example:
    >>> formula_for(nn.Embedding(3, 2)) is None      # so a trained embedding is refused
    True
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from presspool.client.engine.reader_sums import Inbox, ReaderSums
from presspool.common.methods.parts.added_layers import Rescale
from presspool.common.models.frozen_product import FrozenLinear

Formula = Callable[[Any, Tensor, Tensor, ReaderSums], None]


def _linear(layer: nn.Linear, x: Tensor, gradient: Tensor, sums: ReaderSums) -> None:
    if layer.weight.requires_grad:
        sums.outer(layer.weight, gradient, x.to(gradient.dtype))
    _bias(layer, gradient, sums)


def _conv1d(layer: Conv1D, x: Tensor, gradient: Tensor, sums: ReaderSums) -> None:
    if layer.weight.requires_grad:
        sums.outer(layer.weight, x.to(gradient.dtype), gradient)  # stored as (inputs, outputs)
    _bias(layer, gradient, sums)


def _layer_norm(layer: nn.LayerNorm, x: Tensor, gradient: Tensor, sums: ReaderSums) -> None:
    if layer.weight.requires_grad:
        normed = F.layer_norm(x, layer.normalized_shape, eps=layer.eps)
        sums.rows(layer.weight, normed * gradient)
    _bias(layer, gradient, sums)


def _rms_norm(layer: Any, x: Tensor, gradient: Tensor, sums: ReaderSums) -> None:
    # Zhang and Sennrich (2019), equation 4; Hugging Face's classes name epsilon differently.
    x = x.float()
    normed = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + layer.variance_epsilon)
    sums.rows(layer.weight, normed * gradient)


def _rescale(layer: Rescale, x: Tensor, gradient: Tensor, sums: ReaderSums) -> None:
    sums.rows(layer.weight, x * gradient)


def _bias(layer: Any, gradient: Tensor, sums: ReaderSums) -> None:
    if layer.bias is not None and layer.bias.requires_grad:
        sums.rows(layer.bias, gradient)


_FORMULAS: dict[type, Formula] = {
    nn.Linear: _linear,
    FrozenLinear: _linear,
    Conv1D: _conv1d,
    nn.LayerNorm: _layer_norm,
    Rescale: _rescale,
}
# By name, because importing every model family of transformers would take seconds.
_RMS_NORMS = {"LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "T5LayerNorm"}


def formula_for(layer: nn.Module) -> Formula | None:
    """The per-reader formula of a layer, or None. A subclass may compute otherwise: exact types."""
    kind = type(layer)
    if kind.__module__.startswith("transformers.models.") and kind.__name__ in _RMS_NORMS:
        return _rms_norm
    if kind is nn.LayerNorm and len(layer.normalized_shape) != 1:  # type: ignore[arg-type]
        return None
    return _FORMULAS.get(kind)


class Tap:
    """Stands in for the `forward` of one layer that owns trainable parameters.

    Args:
        name: the layer's name in the model.
        layer: a layer that `formula_for` knows.
        inbox: where gradients go.
    """

    def __init__(self, name: str, layer: nn.Module, inbox: Inbox) -> None:
        formula = formula_for(layer)
        assert formula is not None
        self.name, self.layer, self.inbox, self.formula = name, layer, inbox, formula
        self._forward = layer.forward
        self._trained = [p for p in layer.parameters(recurse=False) if p.requires_grad]

    @property
    def by_rows(self) -> bool:
        """Whether rows may have weights of their own: only where computing it again is cheap."""
        small = isinstance(self.layer, nn.Linear | Rescale)
        return small and all(p.requires_grad for p in self.layer.parameters(recurse=False))

    def __call__(self, x: Tensor) -> Tensor:
        """The layer's output; where autograd records, its gradient passes through the tap."""
        if not torch.is_grad_enabled():
            return self._forward(x)  # type: ignore[no-any-return]
        with _constant(self._trained):
            rows = self.inbox.rows
            y = rows.computed(self.layer, self._forward, x) if rows else self._forward(x)
        return _Tapped.apply(y, x, self, *self._trained)  # type: ignore[no-untyped-call, no-any-return]


@contextmanager
def _constant(parameters: list[nn.Parameter]) -> Iterator[None]:
    """Autograd takes the parameters for constants, so it computes no summed gradient for them."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


class _Tapped(torch.autograd.Function):
    """Identity. The parameters are inputs so that backward runs when nothing else needs it."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, tap: Tap, *trained: Tensor) -> Tensor:
        ctx.tap, ctx.inputs = tap, 3 + len(trained)
        ctx.save_for_backward(x)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        tap: Tap = ctx.tap
        tap.formula(tap.layer, x, gradient, tap.inbox.take(tap.name, gradient))
        return (gradient, *[None] * (ctx.inputs - 1))
