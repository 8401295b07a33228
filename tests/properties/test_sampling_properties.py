"""Properties of sampling: whole readers, at most k records, parts that are a partition."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from presspool.client.engine.randomness import SecureRandom
from presspool.client.engine.sampling import draw

SIZES = st.lists(st.integers(1, 8), max_size=30)


@given(
    sizes=SIZES,
    rate=st.floats(1e-6, 1.0),
    k=st.integers(1, 10),
    seed=st.integers(),
    part=st.integers(1, 12),
)
@settings(max_examples=200, deadline=None)
def test_a_sample_and_its_parts(
    sizes: list[int], rate: float, k: int, seed: int, part: int
) -> None:
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    sample = draw(offsets, rate=rate, records_per_reader=k, random=SecureRandom.deterministic(seed))

    # Every reader drawn brings min(k, own) records, all of them its own and no record twice.
    owners = np.searchsorted(offsets, sample.records, side="right") - 1
    drawn = list(dict.fromkeys(owners.tolist()))
    assert len(drawn) == sample.readers
    assert drawn == sorted(drawn)
    counts = np.bincount(sample.reader_of, minlength=sample.readers)
    assert counts.tolist() == [min(k, sizes[reader]) for reader in drawn]
    assert [drawn[i] for i in sample.reader_of] == owners.tolist()
    assert len(set(sample.records.tolist())) == len(sample.records)

    # Its parts are the same readers in the same order, whole, and at most `part` of them each.
    parts = list(sample.split(part))
    assert [piece.readers for piece in parts[:-1]] == [part] * (len(parts) - 1)
    assert sum(piece.readers for piece in parts) == sample.readers
    assert [r for piece in parts for r in piece.records] == sample.records.tolist()
    assert all(
        sorted(set(piece.reader_of.tolist())) == list(range(piece.readers)) for piece in parts
    )


@given(sizes=SIZES, seed=st.integers(), parts=st.tuples(st.integers(1, 9), st.integers(1, 9)))
@settings(max_examples=50, deadline=None)
def test_parts_of_parts_are_parts(sizes: list[int], seed: int, parts: tuple[int, int]) -> None:
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    random = SecureRandom.deterministic(seed)
    sample = draw(offsets, rate=0.7, records_per_reader=3, random=random)
    records = [
        record
        for outer in sample.split(parts[0])
        for inner in outer.split(parts[1])
        for record in inner.records.tolist()
    ]
    assert records == sample.records.tolist()
