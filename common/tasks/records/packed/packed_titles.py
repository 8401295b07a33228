"""Titles of a record of the task `recommendation`, one behind the other as one row of tokens.

Each title is tokenised alone, begins with the tokenizer's first special token and ends with its
last, and none is longer than the contract's `title_length`: `part_rows` tells by the ids where
each begins.

Invariants:
    * No text of a reader can write a special token, so no title can pretend to be two.
    * At most `CHARACTERS` a token are read of a title, however long it is.

Example: `titles.batch([titles.text(["Cup final", "Bank profit"])])["input_ids"]`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from presspool.common.tasks.records.packed import part_rows
from presspool.common.tasks.records.turns import CHARACTERS, never_written

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


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
        rows = [self._ids(json.loads(text)) for text in texts]
        return part_rows.batch(rows, self._tokenizer(), most=self._length)

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
        return part_rows.parts(ids, self._tokenizer(), most=self._length)
