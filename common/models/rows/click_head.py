"""The head of the task `ad-response`: a number of the text, beside one for each value of context.

A linear head over a text's vector with one-hot context behind it adds the text's share, and for
each column the weight of its value. Which values a record has is known to its task alone, so the
head gives all these weights with every record, and the task picks: the same sum, and the same
gradient.

Example:
    >>> head = ClickHead(hidden=3, values=4)
    >>> head(torch.ones(2, 3)).shape
    torch.Size([2, 5])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ClickHead(nn.Module):
    """Two linear layers at zero.

    There is no bias: each record has one value of each column, so that their weights can say what
    a bias would, and a reader's clip norm is not shared with one.

    Args:
        hidden: numbers of a text's vector.
        values: of all columns of context together.

    Attributes:
        text: reads the vector.
        context: reads a one, so that its numbers are weights of values.
    """

    def __init__(self, hidden: int, values: int) -> None:
        super().__init__()
        self.text = nn.Linear(hidden, 1, bias=False)
        self.context = nn.Linear(1, values, bias=False)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        """(records, hidden) to (records, 1 + values)."""
        ones = features.new_ones((*features.shape[:-1], 1))
        return torch.cat([self.text(features), self.context(ones)], -1)
