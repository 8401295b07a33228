"""What is remembered of the records that an adapter was asked about: running sums, in memory alone.

Of each record go into the sums its label (one of the contract's, or "unsure"), how long it is (one
of a few public classes of tokens) and its mean state; then the record is gone. Older records count
less: after `half_life` more records, half.

Invariants:
    * A sketch has as many numbers as there are labels, classes and dimensions, however many records
      it saw, and holds no record; nobody writes it anywhere.
    * It depends on records in their order, and not on how they were put together to batches.

Example:
    >>> running = RunningSum(half_life=1.0)
    >>> running.add(np.array([[0.0], [3.0]]))
    >>> running.mean.tolist(), round(running.records, 2)
    ([2.0], 1.8)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from presspool.server.serving.shelf.reading import Seen

EDGES = (8, 16, 32, 64, 128, 256)
"""Tokens up to which a record is of a class of lengths; one more class is above them."""
Rows = NDArray[np.float64]


class RunningSum:
    """A weighted sum of rows in which the past fades.

    Args:
        half_life: records after which one counts half; infinite where none fades.
    """

    def __init__(self, half_life: float) -> None:
        self._keep = 0.5 ** (1 / half_life)
        self._total: Rows = np.zeros(1)
        self._weight = self._squares = 0.0

    def add(self, rows: Rows) -> None:
        """Take in some records, (records, numbers), the oldest first."""
        weights = self._keep ** np.arange(len(rows) - 1, -1, -1)
        faded = self._keep ** len(rows)
        self._total = faded * self._total + weights @ rows
        self._weight = faded * self._weight + weights.sum()
        self._squares = faded**2 * self._squares + (weights**2).sum()

    @property
    def mean(self) -> Rows:
        """Of all records, the newest most; asked only where there are any."""
        return self._total / self._weight

    @property
    def records(self) -> float:
        """How many records of equal weight would tell as much (Kish 1965); 0 for none."""
        return float(self._weight**2 / self._squares) if self._squares else 0.0


class DriftSketch:
    """Running sums of one adapter's records.

    Args:
        labels: that are counted; empty for an adapter that gives none.
        half_life: as `RunningSum`.

    Attributes:
        labels: shares of them,
        lengths: shares of classes of tokens, and
        states: mean and mean square of each dimension, side by side.
    """

    def __init__(self, labels: Sequence[str], half_life: float) -> None:
        self._places = {label: place for place, label in enumerate(labels)}
        self.labels, self.lengths = RunningSum(half_life), RunningSum(half_life)
        self.states = RunningSum(half_life)

    def add(self, seen: Seen) -> None:
        """Take in what passed the adapter."""
        said = [place for one in seen.answers if (place := self._places.get(one)) is not None]
        classes = np.searchsorted(EDGES, seen.lengths)
        self.lengths.add(np.eye(len(EDGES) + 1)[classes])
        if said:
            self.labels.add(np.eye(len(self._places))[said])
        if seen.states is not None:
            # What is no number says nothing, and would for ever be all that is left.
            whole = seen.states[np.isfinite(seen.states).all(1)]
            if len(whole):
                self.states.add(np.hstack([whole, whole**2]))
