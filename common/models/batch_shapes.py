"""The shapes in which records are computed: public, whatever the records are.

Floating point is not associative: a matrix product of another shape adds in another order, and a
batch that is padded to its longest text lets one reader's text move the rounding of everybody's
numbers, which a hostile contract amplifies (adapter × alpha / rank) to many times the clip norm.
So a record is padded to a width that depends on its own tokens and the contract's `max_length`
alone, and a batch of a width always has the same number of rows, the free ones filled.

Records of `max_length` tokens have batches of their own: transformers leaves the attention mask out
of a batch in which nothing is padded, which is another computation. So in every batch either no
row is padded or every row is.

Example:
    >>> shapes = BatchShapes(max_length=64, tokens=128)
    >>> shapes.widths, [shapes.rows(width) for width in shapes.widths]
    ((16, 24, 32, 48, 64), [8, 4, 4, 2, 2])
    >>> [shapes.width(tokens) for tokens in (1, 15, 16, 63, 64)]
    [16, 16, 24, 64, 64]
    >>> shapes.batches([9, 20, 64, 30, 3, 50, 64])
    [[0, 4], [1], [3], [5], [2, 6]]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count

NARROWEST = 16
TOKENS, ROWS = {"cpu": 1024, "cuda": 8192}, {"cpu": 8, "cuda": 64}
"""Of a batch, at most. A CPU gains little from more, and free rows cost as much as used ones."""


@dataclass(frozen=True, kw_only=True)
class BatchShapes:
    """The batches of one contract on one device.

    Attributes:
        max_length: tokens that a record has at most.
        tokens: of a batch, padding included; a wider record has its batch alone.
        most_rows: of a batch, where something else than its tokens bounds them.
    """

    max_length: int
    tokens: int = TOKENS["cpu"]
    most_rows: int = ROWS["cpu"]

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """16, 24, 32, 48, 64, 96 and so on below `max_length`, and `max_length`."""
        doubled = (NARROWEST * 2**i for i in count())
        steps = (width for low in doubled for width in (low, low * 3 // 2))
        below = []
        while (width := next(steps)) < self.max_length:
            below.append(width)
        return (*below, self.max_length)

    def width(self, tokens: int) -> int:
        """What a record of so many tokens is padded to: more than them, below `max_length`."""
        return next((width for width in self.widths if width > tokens), self.max_length)

    def rows(self, width: int) -> int:
        """Rows of every batch of a width: a power of two.

        Matrix products of, say, 10 rows on two threads were seen to add two of the rows in another
        order than the rest; of 8 or 16 rows they were not.
        """
        most = max(1, min(self.most_rows, self.tokens // width))
        return 1 << (most.bit_length() - 1)

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Places of the records of each batch, narrow batches first, records in their order.

        Args:
            lengths: tokens of each record.
        """
        alike: dict[tuple[int, bool], list[int]] = {}
        for place, length in enumerate(lengths):
            alike.setdefault((self.width(length), length == self.max_length), []).append(place)
        return [
            places[start : start + self.rows(width)]
            for (width, _), places in sorted(alike.items())
            for start in range(0, len(places), self.rows(width))
        ]
