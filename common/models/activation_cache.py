"""What the frozen part of a model made of texts, kept between steps and rounds.

Invariants:
    * Activations are readers' data: they stay in memory, bounded in bytes, and are never written.
    * What is given for a text is what `FrozenTrunk.run` makes of it, kept or not, to the last bit
      where the machine's kernels treat all rows alike: a batch's company decides nothing.

Example: `trunk.outputs(ActivationCache().get(trunk, ["Cup final"]))` is `outputs` of `trunk.run`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Hashable, Iterable
from contextlib import suppress

from torch import Tensor

from presspool.common.models.frozen_trunk import FrozenTrunk


class ActivationCache:
    """What a trunk made of texts, kept in memory.

    Args:
        capacity: bytes; when they are used up, further texts are run anew each time. Samples are
            drawn at random, so there is nothing to gain from throwing out old texts for new ones.
    """

    def __init__(self, capacity: int = 1 << 30) -> None:
        self._capacity, self._used, self._full = capacity, 0, False
        self._key: Hashable = None
        self._kept: dict[str, Tensor] = {}

    @property
    def texts(self) -> list[str]:
        """The texts that are kept."""
        return list(self._kept)

    def forget(self, texts: Iterable[str]) -> None:
        """Keep these texts no longer."""
        for text in texts:
            self._used -= self._kept.pop(text).nbytes
            self._full = False

    def length(self, trunk: FrozenTrunk, text: str) -> int:
        """The length of a text's activation; arguments as for `get`."""
        self._serve(trunk)
        if text in self._kept:
            return trunk.length(self._kept[text])
        return 1 if trunk.pools else len(trunk.tokens(text))

    def get(self, trunk: FrozenTrunk, texts: list[str]) -> list[Tensor]:
        """The activations of the texts, run now where they are not kept.

        Args:
            trunk: of a model whose frozen part has not changed since the last call; one with
                another frozen part empties the cache.
            texts: in any order, also more than once.
        """
        self._serve(trunk)
        missing = self._missing(texts)
        fresh = dict(zip(missing, trunk.run(missing), strict=True)) if missing else {}
        for text, activation in fresh.items():
            self._keep(text, activation)
        return [self._kept[text] if text in self._kept else fresh[text] for text in texts]

    def run_ahead(self, trunk: FrozenTrunk, texts: Iterable[str]) -> None:
        """Run what is not kept of many texts in full batches, as long as there is room for it.

        A few texts of several lengths, which `get` is asked for, fill no batch of any length. What
        cannot be run is left for `get`, which says why.

        Args:
            trunk: as for `get`.
            texts: likewise.
        """
        self._serve(trunk)
        if self._full:
            return
        before = self._used
        rows = {text: ids for text in self._missing(texts) for ids in _tokens(trunk, text)}
        missing = list(rows)
        for batch in trunk.shapes.batches([len(ids) for ids in rows.values()]):
            some = [missing[place] for place in batch]
            with suppress(Exception):
                made = trunk.run_tokens([rows[text] for text in some])
                if not all(self._keep(*one) for one in zip(some, made, strict=True)):
                    break
        if self._used > before:
            _give_back()

    def _missing(self, texts: Iterable[str]) -> list[str]:
        return [text for text in dict.fromkeys(texts) if text not in self._kept]

    def _keep(self, text: str, activation: Tensor) -> bool:
        """Whether there is room for it."""
        if self._used + activation.nbytes > self._capacity:
            self._full = True
            return False
        self._kept[text] = activation.cpu()
        self._used += activation.nbytes
        return True

    def _serve(self, trunk: FrozenTrunk) -> None:
        if trunk.key != self._key:
            self._key, self._kept, self._used, self._full = trunk.key, {}, 0, False


def _give_back() -> None:
    """Let the system have memory that is free again, where C's library is GNU's.

    What is kept is small and lies between what a pass needs for a moment, so that the heap of a
    worker with many outlets would be free for the most part and yet only grow.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _tokens(trunk: FrozenTrunk, text: str) -> list[Tensor]:
    """A text's ids; nothing of one that cannot be read."""
    with suppress(Exception):
        return [trunk.tokens(text)]
    return []
