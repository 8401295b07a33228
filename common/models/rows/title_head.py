"""The head of the task `recommendation`: two numbers beside each title's vector.

Example:
    >>> head = TitleHead(hidden=3, titles=2)
    >>> head(torch.ones(1, 6)).shape, head.weigh(torch.ones(1, 3))
    (torch.Size([1, 2, 5]), tensor([[0., 0.]], grad_fn=<MmBackward0>))
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TitleHead(nn.Module):
    """Lets vectors pass and adds, of each, how much it weighs in a history and how it appeals.

    Args:
        hidden: numbers of a vector.
        titles: vectors of a record.

    Attributes:
        weigh: the two trained vectors, at zero.
    """

    def __init__(self, hidden: int, titles: int) -> None:
        super().__init__()
        self._titles = titles
        self.weigh = nn.Linear(hidden, 2, bias=False)
        nn.init.zeros_(self.weigh.weight)

    def forward(self, features: Tensor) -> Tensor:
        """(records, titles * hidden) to (records, titles, hidden + 2)."""
        vectors = features.reshape(*features.shape[:-1], self._titles, -1)
        return torch.cat([vectors, self.weigh(vectors)], -1)
