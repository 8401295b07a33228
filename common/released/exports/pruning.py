"""Magnitude pruning: of every matrix the share of numbers that are nearest to zero becomes zero.

Matrices are those of linear layers that are written: of a folded model all of its layers', of an
adapter alone its own; embeddings, biases, norms and heads stay.

Invariant: which numbers go depends on the weights alone.

Source: Han et al., "Learning both weights and connections for efficient neural networks", NeurIPS
2015, section 3, without the training that follows there: it would cost privacy.

Example:
    >>> from torch import tensor
    >>> weight = tensor([[0.5, -2.0], [3.0, -0.25]])
    >>> prune([weight], 0.5)
    >>> weight.tolist()
    [[0.0, -2.0], [3.0, 0.0]]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from presspool.common.models.adapters import group_of
from presspool.common.released.exports.likeness import Difference, compare
from presspool.common.released.exports.placed import Placed
from presspool.common.released.exports.public_texts import PublicTexts

SHARES = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))


@dataclass(frozen=True, kw_only=True)
class PrunedRow:
    """One line of the table.

    Attributes:
        share: of every matrix's numbers that are zero.
        score: the task's first measure.
        same: share of answers that are the original's.
    """

    share: float
    score: float | None
    same: float


def matrices(placed: Placed) -> list[Tensor]:
    """What is pruned."""
    if not placed.folds:
        own = placed.model.named_parameters()
        return [p.data for name, p in own if "lora_" in name and p.dim() == 2]
    layers: Any = placed.headed.named_modules()
    return [
        layer.weight.data
        for name, layer in layers
        if type(layer).__name__ in ("Linear", "FrozenLinear", "Conv1D")
        and group_of(f"{name}.weight") != "head"
    ]


def prune(weights: Iterable[Tensor], share: float) -> None:
    """Set the smallest numbers of each matrix to zero, in place.

    Args:
        weights: of each its own share goes.
        share: in [0, 1).
    """
    for weight in weights:
        count = int(share * weight.numel())
        if count:
            places = weight.abs().flatten().topk(count, largest=False).indices
            weight.view(-1)[places] = 0.0


def table(
    original: Placed,
    placed: Placed,
    texts: PublicTexts,
    advance: Callable[[], None] = lambda: None,
) -> tuple[Difference, tuple[PrunedRow, ...]]:
    """How well the model does at every share of `SHARES`; `placed` is as it was afterwards.

    Args:
        original: the adapter, unchanged.
        placed: the same as it will be written.
        texts: public ones, with their answers.
        advance: told of each text and share, one turn more than `SHARES`.

    Returns:
        How far `placed` itself is from the original, and the table.
    """
    whole = compare(original, placed, texts, advance)
    rows = [PrunedRow(share=0.0, score=whole.after, same=whole.same)]
    weights = matrices(placed)
    kept = [weight.clone() for weight in weights]
    for share in SHARES:
        prune(weights, share)
        found = compare(original, placed, texts, advance)
        rows.append(PrunedRow(share=share, score=found.after, same=found.same))
        for weight, before in zip(weights, kept, strict=True):
            weight.copy_(before)
    return whole, tuple(rows)
