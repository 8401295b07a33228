"""Long texts of the task `tagging`, read in windows: one row of tokens, whatever their number.

A text with more tokens than a window has is read in several, one behind the other, each with the
tokenizer's special tokens around it. A fourth of a window is the end of the one before, so that
a word at an edge is seen with what stands on either side of it: it is read in the window in which
it is further from where the text was cut.

Invariants:
    * A text that fits into one window is read as it would be without windows, but that a special
      token's name in it is signs like others.
    * A window that does not fit whole behind the others is not read.
    * So no text can pretend to begin a window.

Example:
    >>> windows = [[(0, 0), (0, 3), (4, 7), (8, 11), (0, 0)], [(0, 0), (8, 11), (12, 15), (0, 0)]]
    >>> words_in_windows([(0, 3), (4, 7), (8, 11), (12, 15)], windows, of=2)
    [(0, 1), (1, 2), (2, 3), (3, 7)]
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from presspool.common.tasks.records.packed import part_rows
from presspool.common.tasks.records.tagged_words import Words
from presspool.common.tasks.records.turns import CHARACTERS, never_written
from presspool.common.tasks.records.word_places import Offsets, Places, first_tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

OVERLAP = 4
"""One token in so many of a window is of the one before."""
NARROWEST = 16
"""Tokens of a window, at least: with fewer the special ones would be most of it."""


def words_in_windows(words: Words, windows: Sequence[Offsets], *, of: int) -> Places:
    """Where words stand in a row of windows.

    Args:
        words: as for `first_tokens`.
        windows: of each that is read, the characters of its tokens.
        of: windows that the whole text has.
    """
    best, before = dict[int, tuple[int, int, int]](), 0
    ends = [end for _, end in words]
    for number, tokens in enumerate(windows):
        last = len(tokens) - 1
        begin = bisect_right(ends, min((a for a, b in tokens if a < b), default=0))
        for word, place in first_tokens(words, tokens, begin):
            to_cuts = (place if number else last, last - place if number + 1 < of else last)
            found = (tokens[place][0], min(to_cuts), before + place)
            # In a window that begins within a word, the word's first token is another one.
            if word not in best or (found[0] == best[word][0] and found[1] > best[word][1]):
                best[word] = found
        before += len(tokens)
    return [(word, place) for word, (_, _, place) in sorted(best.items())]


@dataclass(frozen=True, kw_only=True)
class _Window:
    """One, special tokens included: ids, and of which characters each is."""

    ids: list[int]
    offsets: Offsets


@dataclass(frozen=True, kw_only=True)
class TextWindows:
    """Reads texts in windows, one text after another.

    Attributes:
        window: tokens of one, at most.
        most: tokens of a text's windows together, at most.
        tokenizer: gives the base model's.
    """

    window: int
    most: int
    tokenizer: Callable[[], Any]

    def batch(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Ids, and numbers of windows for a mask, padded on the right."""
        rows = [[i for one in self._read(text)[0] for i in one.ids] for text in texts]
        return part_rows.batch(rows, self.tokenizer(), most=self.window)

    def parts(self, ids: Tensor) -> Tensor:
        """The number of each token's window, as `Task.parts`."""
        return part_rows.parts(ids, self.tokenizer(), most=self.window)

    def lengths(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Tokens of all windows of each text together, (texts,)."""
        import numpy as np

        return np.array([sum(len(one.ids) for one in self._all(text)) for text in texts], np.int64)

    def places(self, texts: Sequence[str], words: Sequence[Words]) -> list[Places]:
        """Where each text's words stand in its row."""
        found = list[Places]()
        for text, own in zip(texts, words, strict=True):
            windows, count = self._read(text)
            found.append(words_in_windows(own, [one.offsets for one in windows], of=count))
        return found

    def _read(self, text: str) -> tuple[list[_Window], int]:
        """The first windows, as many as fit whole, and how many there are of what may count."""
        found, tokens, count = list[_Window](), 0, 0
        for one in self._all(text[: CHARACTERS * self.most]):
            tokens, count = tokens + len(one.ids), count + 1
            if tokens <= self.most:
                found.append(one)
        return found, count

    def _all(self, text: str) -> Iterator[_Window]:
        """The windows of a text, one at least."""
        never = never_written(self.tokenizer())
        for one in self._encodings(text):
            told = zip(one.ids, one.offsets, one.special_tokens_mask, strict=True)
            kept = [(i, place) for i, place, added in told if added or i not in never]
            yield _Window(ids=[i for i, _ in kept], offsets=[place for _, place in kept])

    def _encodings(self, text: str) -> Sequence[Any]:
        read = self.tokenizer()(
            [text],
            truncation=True,
            max_length=self.window,
            stride=self.window // OVERLAP,
            return_overflowing_tokens=True,
            split_special_tokens=True,
            verbose=False,
        )
        found: Sequence[Any] = read.encodings
        return found
