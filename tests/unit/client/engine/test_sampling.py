"""Poisson samples of readers, and uniform subsets of their records."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from tests.fakes.instruments.detectors import check_poisson

from presspool.client.engine.randomness import SecureRandom
from presspool.client.engine.sampling import Sample, draw


def offsets_of(*sizes: int) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def coins(readers: int, rate: float, steps: int, *seed: int | str) -> NDArray[np.bool_]:
    """(steps, readers): who was drawn, by `draw` itself."""
    random = SecureRandom.deterministic(*seed)
    inside = np.zeros((steps, readers), bool)
    for row in inside:
        sample = draw(np.arange(readers + 1), rate=rate, records_per_reader=1, random=random)
        row[sample.records] = True
    return inside


@pytest.mark.parametrize(("readers", "rate"), [(60, 0.05), (40, 0.5), (25, 0.9)])
def test_samples_are_independent_coins(readers: int, rate: float) -> None:
    check_poisson(coins(readers, rate, 2000, "coins", readers), rate)


def test_sample_sizes_follow_the_binomial() -> None:
    sizes = coins(10, 0.3, 3000, "sizes").sum(1)
    seen = np.bincount(sizes, minlength=11)
    expected = stats.binom.pmf(np.arange(11), 10, 0.3) * 3000
    tail = expected < 5
    assert (
        stats.chisquare(
            [*seen[~tail], seen[tail].sum()], [*expected[~tail], expected[tail].sum()]
        ).pvalue
        > 1e-3
    )


def test_the_statistics_reject_wrong_rates_and_shuffles() -> None:
    inside = coins(40, 0.25, 2000, "wrong")
    with pytest.raises(AssertionError):
        check_poisson(inside, 0.26)
    epochs = np.zeros((2000, 40), bool)
    order = np.concatenate([np.random.default_rng(i).permutation(40) for i in range(500)])
    np.put_along_axis(epochs, order.reshape(2000, 10), True, axis=1)
    with pytest.raises(AssertionError):
        check_poisson(epochs, 0.25)


def test_an_empty_sample_is_a_normal_result() -> None:
    random = SecureRandom.deterministic(1)
    sample = draw(offsets_of(2, 3), rate=1e-12, records_per_reader=2, random=random)
    assert (sample.readers, len(sample.records), len(sample.reader_of)) == (0, 0, 0)
    assert sample.records.dtype == sample.reader_of.dtype == np.int64
    assert list(sample.split(4)) == []
    nobody = draw(offsets_of(), rate=1.0, records_per_reader=2, random=random)
    assert nobody.readers == 0
    empties = coins(5, 0.2, 400, "empty").sum(1) == 0
    assert stats.binomtest(int(empties.sum()), 400, 0.8**5).pvalue > 1e-3


def test_at_rate_one_everybody_is_in_with_at_most_k_records() -> None:
    sample = draw(
        offsets_of(1, 4, 2, 9),
        rate=1.0,
        records_per_reader=3,
        random=SecureRandom.deterministic(1),
    )
    assert sample.readers == 4
    assert np.bincount(sample.reader_of).tolist() == [1, 3, 2, 3]
    owners = np.searchsorted(offsets_of(1, 4, 2, 9), sample.records, side="right") - 1
    assert owners.tolist() == sample.reader_of.tolist()
    assert len(set(sample.records.tolist())) == len(sample.records)


def test_k_records_are_a_uniform_subset() -> None:
    random = SecureRandom.deterministic("subset")
    drawn = Counter(
        tuple(draw(offsets_of(5), rate=1.0, records_per_reader=2, random=random).records.tolist())
        for _ in range(3000)
    )
    pairs = list(combinations(range(5), 2))
    assert set(drawn) == set(pairs)
    assert stats.chisquare([drawn[pair] for pair in pairs]).pvalue > 1e-3


def test_a_readers_records_are_drawn_anew_each_step() -> None:
    random = SecureRandom.deterministic("anew")
    draws = [
        draw(offsets_of(100), rate=1.0, records_per_reader=3, random=random).records.tolist()
        for _ in range(20)
    ]
    assert len({tuple(records) for records in draws}) == 20


def test_another_reader_does_not_change_who_is_sampled() -> None:
    """Coins are drawn before records: the number of records moves nobody's coin of this step."""
    few, many = (
        draw(sizes, rate=0.5, records_per_reader=2, random=SecureRandom.deterministic(4))
        for sizes in (offsets_of(*[1] * 30), offsets_of(*[9] * 30))
    )
    owners = np.searchsorted(offsets_of(*[9] * 30), many.records, side="right") - 1
    assert few.records.tolist() == sorted(set(owners.tolist()))


def test_split_gives_whole_readers_in_order() -> None:
    sample = Sample(
        records=np.array([5, 6, 9, 11, 12, 13]), reader_of=np.array([0, 0, 1, 2, 2, 2]), readers=3
    )
    parts = list(sample.split(2))
    assert [part.records.tolist() for part in parts] == [[5, 6, 9], [11, 12, 13]]
    assert [part.reader_of.tolist() for part in parts] == [[0, 0, 1], [0, 0, 0]]
    assert [part.readers for part in parts] == [2, 1]
