"""The head of the task `recommendation`: what it makes of each title's vector.

A reader is a sum of titles' vectors, each with something of it turned another way, so that two
titles which are read by the same people need not be alike. Of a vector 32 public sums are turned,
the lowest cosine waves over its numbers, whose order means nothing: so many see nearly as much of a
vector as all do (Johnson & Lindenstrauss 1984), and a turn is 12 times fewer trained numbers.

Example:
    >>> head = TitleHead(hidden=3, titles=2)
    >>> head(torch.ones(1, 6)).shape, head.weigh(torch.ones(1, 3))
    (torch.Size([1, 2, 8]), tensor([[0., 0.]], grad_fn=<MmBackward0>))
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SUMS = 32


class TitleHead(nn.Module):
    """Lets vectors pass, and adds what each is to a reader, its weight there, and its appeal.

    Args:
        hidden: numbers of a vector.
        titles: vectors of a record.

    Attributes:
        turn: the trained turn of a vector's sums, at zero.
        weigh: the two trained vectors, at zero.
    """

    waves: Tensor

    def __init__(self, hidden: int, titles: int) -> None:
        super().__init__()
        self._titles = titles
        sums = min(SUMS, hidden - 1)
        self.register_buffer("waves", _waves(hidden, sums), persistent=False)
        self.turn = nn.Linear(sums, hidden, bias=False)
        self.weigh = nn.Linear(hidden, 2, bias=False)
        nn.init.zeros_(self.turn.weight)
        nn.init.zeros_(self.weigh.weight)

    def forward(self, features: Tensor) -> Tensor:
        """(records, titles * hidden) to (records, titles, 2 * hidden + 2)."""
        vectors = features.reshape(*features.shape[:-1], self._titles, -1)
        read = vectors + self.turn(vectors @ self.waves.to(vectors.dtype))
        return torch.cat([vectors, read, self.weigh(vectors)], -1)


def _waves(hidden: int, sums: int) -> Tensor:
    """Cosine waves, (hidden, sums), orthogonal, which keep a vector's length in the mean."""
    place = torch.arange(hidden, dtype=torch.float64) + 0.5
    turns = torch.outer(place, torch.arange(1, sums + 1)) * (math.pi / hidden)
    return (turns.cos() * math.sqrt(2 / sums)).float()
