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
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.layer import LoraLayer
from peft.tuners.lora.variants import DoraLinearVariant
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from presspool.client.engine.reader_sums import Inbox
from presspool.client.engine.together.row_weights import add_product, times
from presspool.common.base.errors import EngineError
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
    if not all(type(one) is DoraLinearVariant for one in layer.lora_variant.values()):
        return "a LoRA variant other than DoRA, whose gradient is not that of plain LoRA"
    if layer.lora_variant and not fusable(layer):
        return "DoRA beside a layer that is not a frozen linear one"
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
            return self._otherwise(x, *args, **kwargs)
        return self._computed(x, dtype)

    @property
    def by_rows(self) -> bool:
        """Whether rows may have weights of their own: all that trains are the two matrices."""
        biases = (self.base.bias, self.b.bias)
        return not any(bias is not None and bias.requires_grad for bias in biases)

    def _otherwise(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self._forward(x, *args, **kwargs)  # type: ignore[no-any-return]

    def _computed(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return self._product(x, dtype, self.base.bias)

    def _product(self, x: Tensor, dtype: torch.dtype, bias: Tensor | None) -> Tensor:
        """What layer and branch say together, beside the bias that is given."""
        a, b = self.a.weight, self.b.weight
        if self.inbox.rows is not None:
            a, b = self.inbox.rows.of(a), self.inbox.rows.of(b)
        tensors = (x, self.base.weight, a, b, bias, self.b.bias)
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
        u = times(x, a).mul_(fused.scaling)
        add_product(y, u, b.mT)
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
        g = tokens.view(g.shape)
        dx = None
        if needs_x or needs_a:
            gu = times(g, b.mT).mul_(fused.scaling)
        if needs_x:
            dx = product(tokens, weight.T if fused.outputs_first else weight).view(ctx.x_shape)
            dx = add_product(dx, gu, a)
        if needs_a:
            sums.outer(fused.a.weight, gu, x)
        if needs_b:
            sums.outer(fused.b.weight, g, u)
        if needs_bias:
            sums.rows(fused.base.bias, g)
        if needs_b_bias:
            sums.rows(fused.b.bias, fused.scaling * g)
        return dx, None, None, None, None, None, None


class FusedDora(FusedLora):
    """Stands in for the `forward` of one PEFT layer under DoRA; arguments as for `FusedLora`.

    The layer says c · (W x + s·B A x) + b, row by row, with c = m / ‖W + s·B A‖. The norm counts as
    a constant (Liu et al. 2024, section 4.3), and is one of frozen and trained weights alone: no
    record is in it. So A and B get what `FusedLora` gives them for the gradient c·g, and m gets

        dm = Σ g · (W x + s·B A x) / ‖W + s·B A‖

    Where the fused function cannot run, nothing trains: PEFT's own forward calls A and B with a
    unit matrix, whose rows are no records.
    """

    def __init__(self, name: str, layer: Any, inbox: Inbox) -> None:
        super().__init__(name, layer, inbox)
        self.magnitude = layer.lora_magnitude_vector[self._adapter]

    @property
    def by_rows(self) -> bool:
        """Not: each outlet's norm is one of a whole matrix of its own."""
        return False

    def _computed(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        product = self._product(x, dtype, None)
        bias: Tensor | None = self.base.bias
        parts = (product, self.magnitude.weight, self._norm().to(dtype), self)
        scaled: Tensor = _Magnitude.apply(*parts)  # type: ignore[no-untyped-call]
        if bias is not None:
            scaled = scaled + bias.to(dtype)
        return scaled

    def _otherwise(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if torch.is_grad_enabled():
            raise EngineError(
                "DoRA trains per reader without dropout and in one dtype only",
                where=self.name,
                expected="one active, unmerged adapter in the dtype of its layer",
            )
        return super()._otherwise(x, *args, **kwargs)

    @torch.no_grad()
    def _norm(self) -> Tensor:
        """‖W + s·B A‖ of every row, (outputs,)."""
        weight = self.base.weight if self.outputs_first else self.base.weight.T
        bent = weight + self.scaling * (self.b.weight @ self.a.weight)
        norm: Tensor = torch.linalg.vector_norm(bent, dim=1)
        return norm


class _Magnitude(torch.autograd.Function):
    """Inputs v, m, the norm, the layer; gradients flow to v."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, m: Tensor, norm: Tensor, fused: FusedDora) -> Tensor:
        ctx.fused = fused
        ctx.save_for_backward(v, m, norm)
        return v * (m / norm).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        v, m, norm = ctx.saved_tensors
        fused: FusedDora = ctx.fused
        if ctx.needs_input_grad[1]:
            fused.inbox.take(fused.name, g).rows(fused.magnitude.weight, g * v / norm)
        return g * (m / norm).to(g.dtype), None, None, None
