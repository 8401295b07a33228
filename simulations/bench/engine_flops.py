"""How much of a graphics processor's peak a training step uses: the model's work by time and peak.

Counted is what the step needs, whatever a contestant computes beside it: of each frozen weight of
a matrix 4 operations a token (forward, and the gradient of the input), of each trained one 6, and
of attention 12·T²·d a layer and record (Chowdhery et al. 2022, appendix B; its 6 a weight is 4
where no gradient of the weight is made). Activations that are made again do not count.

Example:
    >>> peak_of("NVIDIA H200") / 1e12, peak_of("a card of tomorrow")
    (989.0, None)
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from presspool.simulations.bench.engine_rows import ENCODERS, Row

# Dense bf16 with sums in float32, 10¹² operations a second, by the beginning of torch's name, the
# longer ones first. NVIDIA's data sheets of each card; half of what they say "with sparsity".
_PEAKS = {
    "NVIDIA H200 NVL": 835.5,
    "NVIDIA H200": 989.0,
    "NVIDIA H100 NVL": 835.5,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA H100": 989.0,
    "NVIDIA A100": 312.0,
    "NVIDIA L40S": 362.0,
    "NVIDIA L4": 121.0,
}


def peak_of(card: str) -> float | None:
    """Operations a second at most, or None where the table does not know the card."""
    whole = (peak for name, peak in _PEAKS.items() if re.match(rf"{name}(?!\w)", card))
    peak = None if "MIG" in card else next(whole, None)
    return None if peak is None else peak * 1e12


def step_flops(row: Row, trained: int) -> float:
    """Operations of one step.

    Args:
        row: its records' own lengths count, not what they are padded to.
        trained: numbers.
    """
    weights, layers, width = shape_of(row.model)
    tokens, squares = sum(row.lengths), sum(length**2 for length in row.lengths)
    return float((4 * weights + 6 * trained) * tokens + 12 * layers * width * squares)


@lru_cache
def shape_of(model: str) -> tuple[int, int, int]:
    """Weights of all matrices that tokens are multiplied by, layers, and width; nothing is made."""
    with torch.device("meta"):
        made: Any = ENCODERS[model]()
    weights = [m.weight.numel() for m in made.modules() if isinstance(m, (nn.Linear, Conv1D))]
    return sum(weights), made.config.num_hidden_layers, made.config.hidden_size
