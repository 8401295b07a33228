"""Texts of the task `fill-mask` as tokens, and which of them are hidden.

Which are follows from the text's own tokens and a public seed, by SHAKE-256. So what is read and
what is wanted agree wherever a record is computed, what the frozen layers make of it can be kept,
and what it contributes hangs on that record, the adapter and public numbers alone. A draw that an
outlet kept secret would hide nothing that clipping and noise do not: the bound holds for each way
of hiding. It would be one more thing that no test and no self-test could know.

Invariants:
    * A text has the same hidden tokens in every step, at every outlet and in every company.
    * No text of a reader can write one of the tokenizer's special tokens; only whoever asks for
      suggestions writes the mask.
    * At most `CHARACTERS` a token are read of a text, however long it is.

Example:
    >>> hidden([101, 7592, 2088, 102], [1, 2], share=0.15, seed=0)
    [1]
    >>> most_hidden(48, 0.15), most_hidden(2, 0.15)
    (7, 1)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from presspool.common.tasks.records.turns import CHARACTERS

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor


class Hidden(NamedTuple):
    """A text's tokens, and the places of some of them, in order."""

    ids: list[int]
    places: list[int]


class HiddenTokens:
    """What an encoder reads of texts.

    Args:
        share: of a text's tokens, how many are hidden; one at least.
        seed: another number hides other tokens.
        max_length: tokens of a text, at most.
        tokenizer: gives the base model's; only asked once there is something to tokenise.
    """

    def __init__(
        self, *, share: float, seed: int, max_length: int, tokenizer: Callable[[], Any]
    ) -> None:
        self._share, self._seed, self._tokenizer = share, seed, tokenizer
        self._length, self._most = max_length, CHARACTERS * max_length

    def texts(self, column: pa.Array) -> pa.Array:
        """The part of each text that could be read at most, `large_string` (records,)."""
        import pyarrow as pa
        import pyarrow.compute as pc

        return pc.utf8_slice_codeunits(column.cast(pa.large_string()).fill_null(""), 0, self._most)

    def of(self, texts: list[str]) -> list[Hidden]:
        """Each text's tokens as they are, and where some are hidden; none where all are unknown."""
        if not texts:
            return []
        found = self._read(texts, split_special_tokens=True, return_special_tokens_mask=True)
        each = zip(found["input_ids"], found["special_tokens_mask"], strict=True)
        return [self._drawn(*row) for row in each]

    def _drawn(self, ids: list[int], added: list[int]) -> Hidden:
        unknown = self._tokenizer().unk_token_id
        pairs = enumerate(zip(ids, added, strict=True))
        own = [place for place, (token, extra) in pairs if not extra and token != unknown]
        return Hidden(ids, hidden(ids, own, share=self._share, seed=self._seed))

    def batch(self, texts: list[str]) -> dict[str, Tensor]:
        """Ids with the mask at hidden places, and attention mask, padded on the right."""
        from torch import ones_like, tensor
        from torch.nn.utils.rnn import pad_sequence

        rows = []
        for ids, places in self.of(texts):
            row = tensor(ids)
            row[places] = self._tokenizer().mask_token_id
            rows.append(row)
        filling = float(self._tokenizer().pad_token_id)
        return {
            "input_ids": pad_sequence(rows, batch_first=True, padding_value=filling),
            "attention_mask": pad_sequence([ones_like(row) for row in rows], batch_first=True),
        }

    def targets(self, texts: list[str], width: int) -> tuple[Tensor, Tensor]:
        """Where hidden tokens are, and which they are, in a batch of a width.

        Returns:
            Twice (texts, `most_hidden` of the width) int64; behind a text's own, place 0 with a
            target that does not count.
        """
        import torch

        from presspool.common.models.token_losses import UNCOUNTED

        places = torch.zeros((len(texts), most_hidden(width, self._share)), dtype=torch.int64)
        targets = torch.full_like(places, UNCOUNTED)
        for row, (ids, drawn) in enumerate(self.of(texts)):
            # Where made records fill a batch up, one may be longer than the batch is wide.
            for column, place in enumerate([p for p in drawn if p < width][: places.shape[1]]):
                places[row, column], targets[row, column] = place, ids[place]
        return places, targets

    def shown(self, texts: list[str]) -> list[tuple[str, str]]:
        """Each text with the mask written where tokens are hidden, and what stood there."""
        spans = self._read(texts, split_special_tokens=True, return_offsets_mapping=True)
        found = zip(texts, self.of(texts), spans["offset_mapping"], strict=True)
        return [self._written(text, [where[p] for p in each.places]) for text, each, where in found]

    def _written(self, text: str, spans: Sequence[tuple[int, int]]) -> tuple[str, str]:
        shown = text
        for start, end in reversed(spans):
            shown = shown[:start] + self._tokenizer().mask_token + shown[end:]
        return shown, "; ".join(text[start:end] for start, end in spans)

    def blanks(self, text: str) -> Hidden:
        """The tokens of a text that asks for suggestions, and where it holds the mask."""
        (ids,) = self._read([text[: self._most]])["input_ids"]
        mask = self._tokenizer().mask_token_id
        return Hidden(ids, [place for place, token in enumerate(ids) if token == mask])

    def _read(self, texts: list[str], **more: bool) -> Any:
        limit = self._length
        return self._tokenizer()(texts, truncation=True, max_length=limit, verbose=False, **more)


def hidden(ids: Sequence[int], own: Sequence[int], *, share: float, seed: int) -> list[int]:
    """The places that are hidden, in order: the first of `own` by a stream over the tokens.

    All of them are behind the mask; without the one in five that BERT leaves or swaps, models learn
    as much (Wettig, Gao, Zhong & Chen 2023, "Should You Mask 15% in Masked Language Modeling?").

    Args:
        ids: all tokens of a text.
        own: places of those that may be hidden.
        share: of `own`, how many are.
        seed: public.
    """
    import numpy as np

    stream = hashlib.shake_256(f"presspool/fill-mask/v1\0{seed}\0".encode())
    stream.update(np.asarray(ids, "<u4").tobytes())
    order = np.frombuffer(stream.digest(8 * len(own)), "<u8").argsort(kind="stable").tolist()
    return sorted(own[place] for place in order[: most_hidden(len(own), share)])


def most_hidden(tokens: int, share: float) -> int:
    """How many of so many tokens are hidden: the share, rounded down, but one at least."""
    return max(1, math.floor(share * tokens))
