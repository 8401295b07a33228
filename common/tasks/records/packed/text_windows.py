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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from presspool.common.tasks.records.packed.packed_titles import numbered, require_first_token
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
    for number, tokens in enumerate(windows):
        last = len(tokens) - 1
        for word, place in first_tokens(words, tokens):
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
    """Reads texts in windows.

    Attributes:
        window: tokens of one, at most.
        most: tokens of a text's windows together, at most.
        tokenizer: gives the base model's.
    """

    window: int
    most: int
    tokenizer: Callable[[], Any]

    def check(self) -> None:
        """Raises `ModelError` for a tokenizer that puts nothing of its own before a text."""
        require_first_token(self.tokenizer())

    def batch(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Ids, and numbers of windows for a mask, padded on the right."""
        from torch import tensor
        from torch.nn.utils.rnn import pad_sequence

        rows = [
            tensor([i for one in self._fitting(own) for i in one.ids]) for own in self._of(texts)
        ]
        filling = float(self.tokenizer().pad_token_id)
        return {
            "input_ids": pad_sequence(rows, batch_first=True, padding_value=filling),
            "attention_mask": pad_sequence([self.parts(row) for row in rows], batch_first=True),
        }

    def parts(self, ids: Tensor) -> Tensor:
        """The number of each token's window, as `Task.parts`."""
        first = self.tokenizer().cls_token_id
        return ids.new_tensor(numbered(ids.tolist(), first=first, most=self.window))

    def lengths(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Tokens of all windows of each text together, (texts,)."""
        import numpy as np

        each = [sum(len(one.ids) for one in own) for own in self._of(texts, whole=True)]
        return np.array(each, np.int64)

    def places(self, texts: Sequence[str], words: Sequence[Words]) -> list[Places]:
        """Where each text's words stand in its row."""
        return [
            words_in_windows(mine, [one.offsets for one in self._fitting(own)], of=len(own))
            for mine, own in zip(words, self._of(texts), strict=True)
        ]

    def _fitting(self, windows: Sequence[_Window]) -> list[_Window]:
        """The first ones, as many as fit whole; one at least."""
        found, tokens = list[_Window](), 0
        for one in windows:
            tokens += len(one.ids)
            if tokens > self.most:
                break
            found.append(one)
        return found

    def _of(self, texts: Sequence[str], *, whole: bool = False) -> list[list[_Window]]:
        """The windows of each text, or of as much of it as could be read at most."""
        if not texts:
            return []
        most = None if whole else CHARACTERS * self.most
        read = self.tokenizer()(
            [text[:most] for text in texts],
            truncation=True,
            max_length=self.window,
            stride=self.window // OVERLAP,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            split_special_tokens=True,
            verbose=False,
        )
        never, found = never_written(self.tokenizer()), list[list[_Window]]([] for _ in texts)
        fields = (
            "overflow_to_sample_mapping",
            "input_ids",
            "offset_mapping",
            "special_tokens_mask",
        )
        for text, ids, offsets, added in zip(*(read[name] for name in fields), strict=True):
            kept = [at for at, i in enumerate(ids) if added[at] or i not in never]
            found[text].append(
                _Window(ids=[ids[at] for at in kept], offsets=[offsets[at] for at in kept])
            )
        return found
