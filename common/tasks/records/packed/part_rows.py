"""Rows of tokens that are several texts: where each begins, told by the ids, and a batch of them.

Each text, a title or a window, begins with the tokenizer's first special token. None is longer than
the contract says: where ids that nobody's texts gave go on for longer, made ones say, another one
begins.

Example:
    >>> numbered([101, 7592, 102, 101, 2088, 102], first=101, most=24)
    [1, 1, 1, 2, 2, 2]
    >>> numbered([7, 7, 7, 7, 7], first=101, most=2)
    [1, 1, 2, 2, 3]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from presspool.common.base.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor


def numbered(ids: Sequence[int], *, first: int, most: int) -> list[int]:
    """Of each token the number of its title, or of its window, from 1.

    Args:
        ids: of a record.
        first: the id that a title, or a window, begins with.
        most: tokens of one.
    """
    numbers, length = list[int](), most
    for token in ids:
        begins = token == first or length == most
        length = 1 if begins else length + 1
        numbers.append(begins + (numbers[-1] if numbers else 0))
    return numbers


def require_first_token(tokenizer: Any) -> None:
    """Raises `ModelError` for a tokenizer that puts nothing of its own before a text."""
    if tokenizer.cls_token_id is None:
        raise ModelError(
            "a tokenizer without a first special token",
            where="[model] tokenizer_config.json",
            expected="cls_token",
            got="none",
            advice="use another base model: a BERT or RoBERTa, say",
        )


def parts(ids: Tensor, tokenizer: Any, *, most: int) -> Tensor:
    """The number of each token's text, as `Task.parts`; `most` as for `numbered`."""
    return ids.new_tensor(numbered(ids.tolist(), first=tokenizer.cls_token_id, most=most))


def batch(rows: Sequence[Sequence[int]], tokenizer: Any, *, most: int) -> dict[str, Tensor]:
    """Ids of each record, and numbers of their texts for a mask, padded on the right."""
    from torch import tensor
    from torch.nn.utils.rnn import pad_sequence

    ids = [tensor(row) for row in rows]
    filling = float(tokenizer.pad_token_id)
    mask = [parts(row, tokenizer, most=most) for row in ids]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=filling),
        "attention_mask": pad_sequence(mask, batch_first=True),
    }
