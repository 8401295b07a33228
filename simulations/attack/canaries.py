"""Canary readers: made people whose presence at an outlet a fair coin decides.

A canary has one record: a few random words of the base model's vocabulary under a random label, so
that hardly anything else in the data resembles its gradient. Canaries stand beside an outlet's
readers; the contract's plan, its declared population among it, stays as it is.

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
from presspool.common.tasks.classification import labels_of

WORDS = 5
# A canary's reader id; a reader of this name at the outlet would only be one more reader.
PREFIX = "presspool-canary-"


@dataclass(frozen=True, kw_only=True, eq=False)
class Canaries:
    """All canaries of an attack, and who of them is in.

    Attributes:
        texts: one record each.
        labels: (canaries,) int64, index into the contract's labels.
        included: (canaries,) bool, the coins.
    """

    texts: tuple[str, ...]
    labels: NDArray[np.int64]
    included: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.texts)

    def table(self, labels: Sequence[str]) -> pa.Table:
        """The included canaries' records: string columns reader, text and label."""
        inside = np.flatnonzero(self.included)
        columns = {
            "reader": [f"{PREFIX}{i:05d}" for i in inside],
            "text": [self.texts[i] for i in inside],
            "label": [labels[self.labels[i]] for i in inside],
        }
        return pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns]))


def plant(contract: Contract, count: int, random: SecureRandom) -> Canaries:
    """Make canaries and flip their coins.

    Args:
        contract: whose vocabulary and labels.
        count: m.
        random: the attacker's own generator.
    """
    words = vocabulary(contract)
    picks = (random.uniform(count * WORDS) * len(words)).astype(np.int64).reshape(count, WORDS)
    return Canaries(
        texts=tuple(" ".join(words[i] for i in row) for row in picks),
        # Never label 0, which a malicious coordinator's adapter gives to everybody.
        labels=1 + (random.uniform(count) * (len(labels_of(contract)) - 1)).astype(np.int64),
        included=random.bernoulli(count, 0.5),
    )


def vocabulary(contract: Contract) -> list[str]:
    """Whole lower-case words that are one token each, sorted."""
    special = set(tokenizer(contract.model).all_special_tokens)
    found = [w for w in tokenizer(contract.model).get_vocab() if w not in special]
    plain = sorted(w for w in found if w.isascii() and w.isalpha() and w.islower() and len(w) > 2)
    return plain or sorted(found)
