"""A frozen layer and its LoRA branch as one function, with gradients per reader.

PEFT computes ``W x + b + s * B(A(dropout(x)))`` as six operations, each of which autograd
records, and each gradient of which is summed over the batch. `FusedLora` computes the same
value as three matrix products, keeps of the branch only ``u = s * x Aᵀ`` (rank numbers a
token), gives autograd nothing for A and B, and delivers per reader (Hu et al. 2021, section 4.1,
differentiated)::

    dA = s * (g B)ᵀ x        dB = gᵀ u        dx = g W + s * (g B) A

A frozen A needs no x in backward, a frozen B no u; neither is then stored.

Invariants:
- The value equals PEFT's up to the order of float additions, or PEFT's own forward runs: with
  active dropout, a merged or disabled adapter, extra arguments, or differing dtypes. PEFT's
  forward calls `lora_A` and `lora_B`, whose taps then deliver: slower, never wrong.
- Whatever backward needs is saved through autograd, so checkpointing may recompute it.

Example:
    >>> reason = unsupported_lora(torch.nn.Linear(2, 2))  # not a LoRA layer: nothing to object to
    >>> reason is None
    True
"""

from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from presspool.client.engine.reader_sums import Inbox
from presspool.common.models.frozen_product import FrozenLinear, product


def unsupported_lora(layer: Any) -> str | None:
    """Why a module is a LoRA layer that cannot be trained per reader, or None.

    Returns:
        A reason, in a few words; None for other modules and for LoRA layers that are supported.
    """
    if not isinstance(layer, LoraLayer):
        return None
    if type(layer) is not LoraLinear:
        return f"LoRA of kind {type(layer).__name__}; only linear layers and Conv1D are supported"
    if layer.lora_variant:
        return "a LoRA variant (DoRA and the like), whose gradient is not that of plain LoRA"
    if layer.merged:
        return "the adapter is merged into the base weight; unmerge it first"
    if len(layer.active_adapters) != 1:
        return "several adapters are active; activate one"
    return None


def fusable(layer: Any) -> bool:
    """Whether the layer is a LoRA layer over a frozen weight that the fused function computes."""
    return (
        type(layer) is LoraLinear
        and type(layer.base_layer) in (nn.Linear, FrozenLinear, Conv1D)
        and not layer.base_layer.weight.requires_grad
        and layer.active_adapters[0] in layer.lora_A
    )


class FusedLora:
    """Stands in for the `forward` of one PEFT LoRA layer.

    Args:
        name: the layer's name in the model.
        layer: a layer that is `fusable`.
        inbox: where gradients go.
    """

    def __init__(self, name: str, layer: Any, inbox: Inbox) -> None:
        self._adapter = adapter = layer.active_adapters[0]
        self.name, self.layer, self.inbox = name, layer, inbox
        self.base, self.a, self.b = layer.base_layer, layer.lora_A[adapter], layer.lora_B[adapter]
        self.outputs_first = isinstance(self.base, nn.Linear)
        self.scaling = float(layer.scaling[adapter])
        self._forward, self._dropout = layer.forward, layer.lora_dropout[adapter]

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's output, (records, ..., features)."""
        dtype = self._dtype(x)
        if args or kwargs or dtype is None or not self._is_plain():
            return self._forward(x, *args, **kwargs)  # type: ignore[no-any-return]
        tensors = (
            x,
            self.base.weight,
            self.a.weight,
            self.b.weight,
            self.base.bias,
            self.b.bias,
        )
        cast = (None if t is None else t.to(dtype) for t in tensors)
        return _FusedLora.apply(*cast, self)  # type: ignore[no-untyped-call, no-any-return]

    def _dtype(self, x: Tensor) -> torch.dtype | None:
        """The one dtype that PEFT would compute everything in, or None if there are several."""
        device = x.device.type
        if torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
        same = x.dtype == self.base.weight.dtype == self.a.weight.dtype
        return x.dtype if same else None

    def _is_plain(self) -> bool:
        layer = self.layer
        return (
            not layer.disable_adapters
            and not layer.merged
            and layer.active_adapters == [self._adapter]
            and (isinstance(self._dropout, nn.Identity) or not layer.training)
        )


class _FusedLora(torch.autograd.Function):
    """Inputs x, W, A, B, bias of W, bias of B, the layer; gradients flow to x alone."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        a: Tensor,
        b: Tensor,
        bias: Tensor | None,
        b_bias: Tensor | None,
        fused: FusedLora,
    ) -> Tensor:
        if b_bias is not None:
            b_bias = fused.scaling * b_bias
            bias = b_bias if bias is None else bias + b_bias
        y = product(x, weight if fused.outputs_first else weight.T, bias)
        u = F.linear(x, a).mul_(fused.scaling)
        y.view(-1, y.shape[-1]).addmm_(u.view(-1, u.shape[-1]), b.T)
        ctx.fused, ctx.x_shape = fused, x.shape
        _, _, keep_x, keep_u, *_ = ctx.needs_input_grad
        ctx.save_for_backward(x if keep_x else None, u if keep_u else None, weight, a, b)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, u, weight, a, b = ctx.saved_tensors
        fused: FusedLora = ctx.fused
        needs_x, _, needs_a, needs_b, needs_bias, needs_b_bias, _ = ctx.needs_input_grad
        sums = fused.inbox.take(fused.name, g)
        tokens = g.reshape(-1, g.shape[-1])
        dx = None
        if needs_x or needs_a:
            gu = (tokens @ b).mul_(fused.scaling)
        if needs_x:
            dx = product(tokens, weight.T if fused.outputs_first else weight)
            dx = dx.addmm_(gu, a).view(ctx.x_shape)
        if needs_a:
            sums.outer(fused.a.weight, gu.view(*g.shape[:-1], -1), x)
        if needs_b:
            sums.outer(fused.b.weight, g, u)
        if needs_bias:
            sums.rows(fused.base.bias, g)
        if needs_b_bias:
            sums.rows(fused.b.bias, fused.scaling * g)
        return dx, None, None, None, None, None, None
