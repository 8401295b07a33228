"""Records that are several texts in one row of tokens, of which none sees another.

A record that is a list of titles is still one row of a batch, one loss and one clipped unit. Its
titles stand one behind the other, numbered from 1 where they stand (`Task.parts`). A token attends
to those of its own number alone, and positions start anew with each title, so that the encoder
makes of a title what it would make of it alone.

Invariants:
    * What stands in one part changes nothing in another: masked weights are zeros.
    * Every token attends to something, to itself at least, padding (number 0) to padding.

Example:
    >>> positions(torch.tensor([[1, 1, 1, 2, 2, 0]]))
    tensor([[0, 1, 2, 0, 1, 0]])
    >>> (apart(torch.tensor([[1, 2, 2, 0]])) == 0).int()[0, 0]
    tensor([[1, 0, 0, 0],
            [0, 1, 1, 0],
            [0, 1, 1, 0],
            [0, 0, 0, 1]], dtype=torch.int32)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_COUNTING_FROM_PADDING = ("roberta", "xlm-roberta")


def apart(parts: Tensor) -> Tensor:
    """What is added to attention's scores, (rows, 1, tokens, tokens) float32.

    Args:
        parts: (rows, tokens) int64, the number of each token's part; 0 for padding.
    """
    other = parts.unsqueeze(1) != parts.unsqueeze(2)
    least = torch.finfo(torch.float32).min
    return torch.zeros(other.shape, device=parts.device).masked_fill(other, least).unsqueeze(1)


def positions(parts: Tensor) -> Tensor:
    """Each token's place in its own part, (rows, tokens) int64, from 0; 0 for padding."""
    places = torch.arange(parts.shape[1], device=parts.device).expand_as(parts)
    begins = torch.ones_like(parts, dtype=torch.bool)
    begins[:, 1:] = parts[:, 1:] != parts[:, :-1]
    first = places.where(begins, places.new_zeros(())).cummax(1).values
    return (places - first) * (parts > 0)


def told(parts: Tensor, config: Any) -> dict[str, Tensor]:
    """What an encoder is told of its tokens beside their ids; `config` is the encoder's."""
    return {"attention_mask": apart(parts), "position_ids": positions(parts) + first(config)}


def first(config: Any) -> int:
    """The position of a text's first token: some models have those before it for padding."""
    counting = config.model_type in _COUNTING_FROM_PADDING
    return config.pad_token_id + 1 if counting else 0
