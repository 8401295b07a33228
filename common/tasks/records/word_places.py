"""Where a record's words stand among the tokens that the model reads.

A word stands at its first token: the first one that has some of its characters and is no other
word's. A word may have none: one of signs that the tokenizer drops, one that a token shares with
the word before it, or one behind `max_length`.

Invariant: where words stand depends on the record, the table and the tokenizer alone.

Example:
    >>> first_tokens([(0, 6), (6, 7), (8, 11)], [(0, 0), (0, 2), (2, 6), (6, 7), (8, 11), (0, 0)])
    [(0, 1), (1, 3), (2, 4)]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from presspool.common.base.errors import ModelError
from presspool.common.tasks.records.tagged_words import Words, read

if TYPE_CHECKING:
    import pyarrow as pa

    from presspool.common.tasks.records.packed.text_windows import TextWindows

Places = list[tuple[int, int]]
"""Of each word that has one, in order: its number, and its first token's, both from 0."""
Offsets = Sequence[tuple[int, int]]
"""Of each token the characters that it is of; a special one has none."""


def first_tokens(words: Words, tokens: Offsets, begin: int = 0) -> Places:
    """Where words stand.

    Args:
        words: their characters, in order.
        tokens: theirs, likewise; a special token has none.
        begin: words before this one have none of them.
    """
    found, word = Places(), begin
    for place, (start, end) in enumerate(tokens):
        while start < end and word < len(words) and words[word][1] <= start:
            word += 1  # no token has any of it
        if start < end and word < len(words) and words[word][0] < end:
            found.append((word, place))
            word += 1
    return found


@dataclass(frozen=True, kw_only=True)
class WordPlaces:
    """Reads a task's records.

    Attributes:
        column: the records' column that the model reads, "tokens" or "text".
        max_length: tokens that are read.
        tokenizer: gives the base model's.
        windows: in which long texts are read, if they are.
    """

    column: str
    max_length: int
    tokenizer: Callable[[], Any]
    windows: TextWindows | None = None

    def check(self) -> None:
        """Raises `ModelError` for a tokenizer that does not say of which characters tokens are."""
        if not self.tokenizer().is_fast:
            raise ModelError(
                "a tokenizer that does not say where in a text its tokens are",
                where="[model] id",
                expected="one with a tokenizer.json",
                got=type(self.tokenizer()).__name__,
            )

    def read(self, records: pa.Table) -> list[tuple[str, Words]]:
        """Each record's text as the model reads it, and its words."""
        return [read(said, self.column) for said in records[self.column].to_pylist()]

    def of(self, records: pa.Table) -> list[Places]:
        """Where each record's words stand."""
        found = self.read(records)
        if not found:
            return []
        if self.windows is not None:
            return self.windows.places(*zip(*found, strict=True))
        tokens = self.tokenizer()(
            [text for text, _ in found],
            truncation=True,
            max_length=self.max_length,
            return_offsets_mapping=True,
        )["offset_mapping"]
        return [first_tokens(words, own) for (_, words), own in zip(found, tokens, strict=True)]
