"""Canary readers: made people whose presence at an outlet a fair coin decides.

A canary has one record: a few random words of the base model's vocabulary, under a random label if
the task has labels, so that hardly anything else in the data resembles its gradient. Canaries stand
beside an outlet's readers; the contract's plan, its declared population among it, stays as it is.

Invariants:
    * The coins come from the attacker's own generator, never from the outlet's or the contract's.
    * Canaries are public: nothing about them is anybody's data.

Example: `plant(contract, 1000, SecureRandom())`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from presspool.client.engine.randomness import SecureRandom
from presspool.common.contract.contract import Contract
from presspool.common.models.models import tokenizer
from presspool.simulations.attack.tasks.attacked_task import attacked

WORDS = 5
# A canary's reader id; a reader of this name at the outlet would only be one more reader.
PREFIX = "presspool-canary-"


@dataclass(frozen=True, kw_only=True, eq=False)
class Canaries:
    """All canaries of an attack, and who of them is in.

    Attributes:
        texts: one record each.
        labels: (canaries,) int64, index into the contract's labels; zeros if it has none.
        included: (canaries,) bool, the coins.
    """

    texts: tuple[str, ...]
    labels: NDArray[np.int64]
    included: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def readers(self) -> list[str]:
        """The included canaries' ids."""
        return [f"{PREFIX}{i:05d}" for i in np.flatnonzero(self.included)]

    def table(self, labels: Sequence[str]) -> pa.Table:
        """The included canaries' records: string columns reader, text and label."""
        inside = np.flatnonzero(self.included)
        columns = {
            "reader": self.readers,
            "text": [self.texts[i] for i in inside],
            "label": [labels[self.labels[i]] for i in inside],
        }
        return pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns]))


def plant(contract: Contract, count: int, random: SecureRandom) -> Canaries:
    """Make canaries and flip their coins.

    Args:
        contract: whose vocabulary and task.
        count: m.
        random: the attacker's own generator.
    """
    task = attacked(contract)
    words = task.words()
    picks = (random.uniform(count * WORDS) * len(words)).astype(np.int64).reshape(count, WORDS)
    return Canaries(
        texts=tuple(" ".join(words[i] for i in row) for row in picks),
        labels=task.labels(random.uniform(count)),
        included=random.bernoulli(count, 0.5),
    )


def vocabulary(contract: Contract) -> list[str]:
    """Whole lower-case words that are one token each, sorted."""
    special = set(tokenizer(contract.model).all_special_tokens)
    found = [w for w in tokenizer(contract.model).get_vocab() if w not in special]
    return sorted(filter(is_plain, found)) or sorted(found)


def is_plain(word: str) -> bool:
    """Whether it looks like a word: three lower-case letters or more."""
    return word.isascii() and word.isalpha() and word.islower() and len(word) > 2
