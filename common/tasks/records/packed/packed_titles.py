"""Titles of a record of the task `recommendation`, one behind the other as one row of tokens.

Each title is tokenised alone, begins with the tokenizer's first special token and ends with its
last; so where a title begins is told by the ids. No title is longer than the contract's
`title_length`: where ids that nobody's titles gave go on for longer, made ones say, another begins.

Invariants:
    * No text of a reader can write a special token, so no title can pretend to be two.
    * At most `CHARACTERS` a token are read of a title, however long it is.

Example:
    >>> numbered([101, 7592, 102, 101, 2088, 102], first=101, most=24)
    [1, 1, 1, 2, 2, 2]
    >>> numbered([7, 7, 7, 7, 7], first=101, most=2)
    [1, 1, 2, 2, 3]
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from presspool.common.base.errors import ModelError
from presspool.common.tasks.records.turns import CHARACTERS, never_written

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
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


class PackedTitles:
    """What an encoder reads of lists of titles.

    Args:
        title_length: tokens of a title, at most.
        tokenizer: gives the base model's; only asked once there is something to tokenise.
    """

    def __init__(self, *, title_length: int, tokenizer: Callable[[], Any]) -> None:
        self._length, self._tokenizer = title_length, tokenizer

    def text(self, titles: Sequence[str]) -> str:
        """Of each title as much as could be read at most, as a JSON list."""
        most = CHARACTERS * self._length
        read = [title[:most] for title in titles]
        return json.dumps(read, ensure_ascii=False, separators=(",", ":"))

    def batch(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Ids, and numbers of titles for a mask, padded on the right, of what `text` gave."""
        from torch import tensor
        from torch.nn.utils.rnn import pad_sequence

        rows = [tensor(self._ids(json.loads(text))) for text in texts]
        filling = float(self._tokenizer().pad_token_id)
        return {
            "input_ids": pad_sequence(rows, batch_first=True, padding_value=filling),
            "attention_mask": pad_sequence([self.parts(row) for row in rows], batch_first=True),
        }

    def _ids(self, titles: list[str]) -> list[int]:
        found = self._read(titles, truncation=True, max_length=self._length)
        return [token for title in found for token in title]

    def lengths(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Untruncated length of all titles together in tokens, (texts,)."""
        import numpy as np

        each = (self._read(json.loads(text), truncation=False) for text in texts)
        return np.array([sum(map(len, titles)) for titles in each], np.int64)

    def _read(self, titles: list[str], **more: Any) -> list[list[int]]:
        if not titles:
            return []
        read = self._tokenizer()(
            titles,
            split_special_tokens=True,
            return_special_tokens_mask=True,
            verbose=False,
            **more,
        )
        each = zip(read["input_ids"], read["special_tokens_mask"], strict=True)
        never = never_written(self._tokenizer())
        return [
            [token for token, added in zip(*row, strict=True) if added or token not in never]
            for row in each
        ]

    def parts(self, ids: Tensor) -> Tensor:
        """The number of each token's title, as `Task.parts`."""
        first = self._tokenizer().cls_token_id
        found = numbered(ids.tolist(), first=first, most=self._length)
        return ids.new_tensor(found)
