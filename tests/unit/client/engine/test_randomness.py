"""The outlet's secret stream: uniform, fresh in every process, reproducible only on request."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from scipy import stats
from tests.fakes.instruments.detectors import in_a_fork

from presspool.client.engine.randomness import SecureRandom


def test_words_are_the_chacha20_stream_of_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    key = bytes(range(32))
    monkeypatch.setattr("os.urandom", lambda size: key[:size])
    random = SecureRandom()
    stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
    expected = np.frombuffer(stream.update(bytes(64)), "<u8")
    # RFC 8439's block function is what cryptography runs; drawing in pieces changes nothing.
    drawn = np.concatenate([random.words(1), random.words(0), random.words(7)])
    np.testing.assert_array_equal(drawn, expected)


def test_a_fresh_stream_has_a_key_of_its_own() -> None:
    first, second = SecureRandom(), SecureRandom()
    assert not first.reproducible
    assert set(first.words(100).tolist()).isdisjoint(second.words(100).tolist())


def test_two_processes_forked_at_the_same_instant_draw_different_words() -> None:
    random = SecureRandom()
    random.words(3)
    children = {in_a_fork(lambda: random.words(4).tobytes()) for _ in range(2)}
    assert len(children) == 2
    assert random.words(4).tobytes() not in children


def test_every_kind_of_draw_is_fresh_in_a_fork() -> None:
    random = SecureRandom()
    child = in_a_fork(lambda: random.uniform(8).tobytes())
    assert child != random.uniform(8).tobytes()
    child = in_a_fork(lambda: random.bernoulli(128, 0.5).tobytes())
    assert child != random.bernoulli(128, 0.5).tobytes()


def test_a_deterministic_stream_is_the_same_in_a_fork() -> None:
    random = SecureRandom.deterministic(1, "north-post", 1)
    child = in_a_fork(lambda: random.words(4).tobytes())
    assert child == random.words(4).tobytes()


def test_deterministic_streams_reproduce() -> None:
    streams = [SecureRandom.deterministic(7, "north-post", 1) for _ in range(2)]
    assert all(stream.reproducible for stream in streams)
    assert streams[0].words(50).tolist() == streams[1].words(50).tolist()


@pytest.mark.parametrize(
    "other", [(8, "north-post", 1), (7, "south-echo", 1), (7, "north-post", 2), (7, "north-post")]
)
def test_deterministic_streams_differ_by_seed_outlet_and_round(other: tuple[int | str]) -> None:
    words = SecureRandom.deterministic(7, "north-post", 1).words(100)
    assert set(words.tolist()).isdisjoint(SecureRandom.deterministic(*other).words(100).tolist())


def test_parts_of_a_seed_do_not_run_together() -> None:
    streams = [SecureRandom.deterministic(*seed) for seed in ((1, 23), (12, 3), (123,))]
    assert len({stream.words(1).tobytes() for stream in streams}) == 3


def test_uniforms_are_uniform_and_use_53_bits() -> None:
    values = SecureRandom.deterministic("uniform").uniform(100_000)
    assert values.dtype == np.float64
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 4 / np.sqrt(len(values))
    steps = values * 2.0**53
    assert (steps == np.floor(steps)).all()
    assert np.mean(steps % 2) == pytest.approx(0.5, abs=0.01)  # the last bit is used


@pytest.mark.parametrize("probability", [1e-9, 0.048, 0.5, 1.0])
def test_coins_have_their_probability(probability: float) -> None:
    coins = SecureRandom.deterministic("coins", 1).bernoulli(50_000, probability)
    assert coins.dtype == np.bool_
    assert stats.binomtest(int(coins.sum()), len(coins), probability).pvalue > 1e-3
    assert (probability < 1) != coins.all()
