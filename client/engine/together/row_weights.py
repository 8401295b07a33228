"""Adapters of several outlets at once: every row of a batch is computed with its own outlet's.

The frozen product is everybody's. Where a layer's branch is a product with a trained matrix, each
row has a product with its own (`of`). A small layer that trains as a whole is computed for all rows
with each outlet's weights, and each row keeps what its own outlet's made of it (`Tap`'s layers):
the shapes, and so the bits, are those of an outlet alone.

Invariant: a row's numbers hang on that row and its own outlet's adapter alone; not even a product
of zero and another's infinity gets into it.

Example: `with inbox.rows_of(RowWeights(stacks, seat_of)): …` around a pass forth and back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Stacks = Mapping[Tensor, Tensor]
"""From a model's trained parameter to (seats, *its shape): what each seat has in its place."""


class RowWeights:
    """Whose weights each row of a batch has.

    Args:
        stacks: of all that trains.
        seat_of: (rows,) int64, the seat of each row.
    """

    def __init__(self, stacks: Stacks, seat_of: Tensor) -> None:
        self._stacks, self._seat_of = stacks, seat_of

    def of(self, parameter: Tensor) -> Tensor:
        """Each row's own, (rows, *shape); what does not train is everybody's, as it is."""
        stack = self._stacks.get(parameter)
        if stack is None:
            return parameter
        return stack[self._seat_of.to(stack.device)].requires_grad_()

    def computed(self, layer: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """What a layer says of x, (rows, ...), each row with its own weights."""
        return _Computed.apply(x, layer, forward, self)  # type: ignore[no-untyped-call, no-any-return]

    def each(self, layer: nn.Module, call: Callable[[], Tensor]) -> Tensor:
        """Call with every seat's weights in the layer's place; of each, its own rows' results."""
        found: Tensor | None = None
        for seat in sorted(set(self._seat_of.tolist())):
            with _holding(layer, {p: stack[seat] for p, stack in self._stacks.items()}):
                said = call()
            mine = (self._seat_of == seat).to(said.device).view(-1, *[1] * (said.dim() - 1))
            found = said if found is None else torch.where(mine, said, found)
        assert found is not None  # a batch has a row
        return found


class _Computed(torch.autograd.Function):
    """Inputs x, the layer, its forward, the rows' weights; gradients flow to x alone."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, layer: nn.Module, forward: Callable[[Tensor], Tensor], rows: RowWeights
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.layer, ctx.forward_of, ctx.rows = layer, forward, rows
        return rows.each(layer, lambda: forward(x))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        if not ctx.needs_input_grad[0]:
            return None, None, None, None
        (x,) = ctx.saved_tensors
        x = x.detach().requires_grad_()

        def pulled() -> Tensor:
            with torch.enable_grad():
                said = ctx.forward_of(x)
            found: Tensor = torch.autograd.grad(said, x, g)[0]
            return found

        return ctx.rows.each(ctx.layer, pulled), None, None, None


@contextmanager
def _holding(layer: nn.Module, weights: Mapping[Tensor, Tensor]) -> Iterator[None]:
    """Constants in the place of a layer's own trained parameters."""
    own: dict[str, Any] = dict(layer._parameters)
    for name, parameter in own.items():
        if parameter is not None and parameter in weights:
            layer._parameters[name] = weights[parameter]  # type: ignore[assignment]
    try:
        yield
    finally:
        layer._parameters.update(own)


def stacked(trained: Mapping[str, nn.Parameter], seats: Sequence[Mapping[str, Tensor]]) -> Stacks:
    """The stacks of some seats' parameters, by name, for a model's trained ones."""
    return {p: torch.stack([seat[name].detach() for seat in seats]) for name, p in trained.items()}


def times(x: Tensor, weight: Tensor) -> Tensor:
    """X Wᵀ, (rows, ..., outputs), of a W for all rows or of one for each."""
    if weight.dim() == 2:
        return torch.nn.functional.linear(x, weight)
    return torch.bmm(x.reshape(len(x), -1, x.shape[-1]), weight.mT).view(*x.shape[:-1], -1)


def add_product(y: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Y + left · right in the place of y.

    Args:
        y: (rows, ..., outputs), contiguous.
        left: (rows, ..., rank).
        right: (rank, outputs) for all rows, or (rows, rank, outputs).
    """
    if right.dim() == 2:
        y.view(-1, y.shape[-1]).addmm_(left.reshape(-1, left.shape[-1]), right)
    else:
        rows = len(right)
        y.view(rows, -1, y.shape[-1]).baddbmm_(left.reshape(rows, -1, left.shape[-1]), right)
    return y
