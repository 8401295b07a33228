"""Records that their own reader has already, exactly or nearly: found while a file is read.

Near is judged by shingles: runs of five characters of the text in lower case, white space evened
out. What is kept of a text are the smallest `SKETCH` hashes of its shingles (a bottom-k sketch);
the share that two texts have in common of the smallest of both together estimates their Jaccard
similarity, with a standard error of at most 1/16, and exactly where both have few shingles.

Invariants:
    * Whether a record is left out depends on its own reader's earlier records alone. Across
      readers nothing is compared: one reader's record would decide about another's, and the unit
      of privacy would be broken.
    * Work and memory of a reader are bounded: a text is compared with at most `MOST_KEPT` kept
      ones, over at most `MOST_CHARACTERS` of it.
    * Hashes are fixed: the same file leaves out the same records everywhere.

Source: Broder, "On the resemblance and containment of documents", 1997 (shingles, min-wise
sketches); Cohen & Kaplan, "Summarizing data using bottom-k sketches", PODC 2007.

Example:
    >>> own = OwnRepeats("near")
    >>> ids, texts = ["ann", "bob", "ann"], ["Cup final tonight!", "Cup final tonight!",
    ...                                      "CUP final  tonight"]
    >>> [own.repeats(who, text) for who, text in zip(ids, texts)]
    [False, False, True]
"""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from presspool.client.identity.care_table import Duplicates

NEAR = 0.8  # Jaccard similarity from which two texts are nearly the same
SHINGLE = 5  # characters
SKETCH = 64
MOST_KEPT = 256
MOST_CHARACTERS = 20_000

Sketch = NDArray[np.uint64]


class OwnRepeats:
    """What each reader has told already; one for one reading of a file.

    Args:
        how: "exact" for equal texts, "near" for similar ones as well.
    """

    def __init__(self, how: Duplicates) -> None:
        self._near = how == "near"
        self._told: defaultdict[str, set[bytes]] = defaultdict(set)
        self._sketches: defaultdict[tuple[str, str], list[Sketch]] = defaultdict(list)

    def repeats(self, reader: str, text: str, label: str = "") -> bool:
        """Whether this reader has such a record already; if not, it is remembered.

        Args:
            reader: whose record it is.
            text: all that it says but its label.
            label: two records are only alike under the same one.
        """
        exact = hashlib.sha256(f"{len(label)} {label}{text}".encode()).digest()[:16]
        told = self._told[reader]
        if exact in told:
            return True
        if self._near and self._similar(self._sketches[reader, label], text):
            return True
        told.add(exact)
        return False

    def _similar(self, kept: list[Sketch], text: str) -> bool:
        mine = sketch(text)
        if any(similarity(mine, other) >= NEAR for other in kept):
            return True
        if len(kept) < MOST_KEPT:
            kept.append(mine)
        return False


def sketch(text: str) -> Sketch:
    """The smallest hashes of a text's shingles, sorted, at most `SKETCH`; uint64."""
    even = " ".join(text[:MOST_CHARACTERS].casefold().split())
    codes = np.frombuffer(even.encode("utf-32-le"), np.uint32).astype(np.uint64)
    runs = max(1, len(codes) - SHINGLE + 1)
    mixed = np.zeros(runs, np.uint64)
    for place in range(min(SHINGLE, len(codes))):
        mixed = mixed * np.uint64(0x100000001B3) + codes[place : place + runs]
    return np.unique(_spread(mixed))[:SKETCH]


def similarity(one: Sketch, other: Sketch) -> float:
    """The estimated Jaccard similarity of the texts of two sketches."""
    both = np.union1d(one, other)[:SKETCH]
    common = np.intersect1d(one, other, assume_unique=True)
    return float(np.isin(both, common, assume_unique=True).mean())


def _spread(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer, so that near values get far hashes.

    Source: Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))
