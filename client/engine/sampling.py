"""Who is in a step: Poisson sampling of readers, and at most k of each one's records.

Every reader is in a step with probability q, independently of all others and of all other steps;
that is what the privacy event says, so shuffling, fixed-size batches and skipped empty samples are
all wrong here. An empty sample is a normal result.

Source: Poisson subsampling, Abadi et al. 2016 §3; user-level sampling, McMahan et al. 2018 §3.

Example:
    >>> offsets = np.array([0, 3, 4])
    >>> random = SecureRandom.deterministic(1)
    >>> sample = draw(offsets, rate=1.0, records_per_reader=2, random=random)
    >>> sample.readers, sample.reader_of.tolist()
    (2, [0, 0, 1])
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from presspool.client.engine.randomness import SecureRandom

Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The records of one step, those of a reader next to each other.

    Attributes:
        records: (records,) indices of records.
        reader_of: (records,) position of each record's reader in the sample, non-decreasing.
        readers: how many readers were drawn.
    """

    records: Integers
    reader_of: Integers
    readers: int

    @cached_property
    def records_of_readers(self) -> Integers:
        """(records,) how many records each record's reader has in the sample."""
        return np.bincount(self.reader_of, minlength=self.readers)[self.reader_of]

    def split(self, readers: int) -> Iterator[Sample]:
        """Parts of at most `readers` whole readers each, in order; none for an empty sample."""
        for first in range(0, self.readers, readers):
            inside = (self.reader_of >= first) & (self.reader_of < first + readers)
            yield Sample(
                records=self.records[inside],
                reader_of=self.reader_of[inside] - first,
                readers=min(readers, self.readers - first),
            )


def draw(
    offsets: Integers, *, rate: float, records_per_reader: int, random: SecureRandom
) -> Sample:
    """Poisson-sample readers and pick at most k records of each, uniformly without replacement.

    Args:
        offsets: (readers + 1,) int64; the records of reader i are offsets[i] to offsets[i + 1].
        rate: q.
        records_per_reader: k.
        random: the outlet's secret stream.
    """
    chosen = np.flatnonzero(random.bernoulli(len(offsets) - 1, rate))
    picks = [_pick(offsets[i], offsets[i + 1], records_per_reader, random) for i in chosen]
    sizes = [len(pick) for pick in picks]
    return Sample(
        records=np.concatenate([np.empty(0, np.int64), *picks]),
        reader_of=np.repeat(np.arange(len(picks), dtype=np.int64), sizes),
        readers=len(picks),
    )


def _pick(start: int, stop: int, k: int, random: SecureRandom) -> Integers:
    count = int(stop - start)
    if count <= k:
        return np.arange(start, stop, dtype=np.int64)
    # The k smallest of independent keys are a uniform k-subset.
    return np.sort(np.argpartition(random.uniform(count), k)[:k]) + start
