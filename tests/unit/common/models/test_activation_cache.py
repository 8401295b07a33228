"""What frozen layers made of texts: run once, in full batches, and nothing kept too long."""

from __future__ import annotations

import ctypes
import platform
from typing import Any

import psutil
import pytest
import torch
from tests.conftest import WORDS

from presspool.common.contract.contract import Contract
from presspool.common.models.activation_cache import ActivationCache
from presspool.common.models.frozen_trunk import FrozenTrunk
from presspool.common.models.models import build

WORD_LIST = [word for topic in WORDS.values() for word in topic]


RAGGED = [" ".join(WORD_LIST[:words]) + f" {seed}" for seed in range(12) for words in (1, 17, 9)]


def trunk_of(contract: Contract, **adapter: Any) -> FrozenTrunk:
    contract = contract.replace(adapter=adapter, task={"max_length": 40})
    return FrozenTrunk(build(contract).eval(), contract)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that a trunk runs, in order."""
    right, texts = FrozenTrunk.run, list[str]()

    def run(self: FrozenTrunk, batch: list[str]) -> list[torch.Tensor]:
        texts.extend(batch)
        return right(self, batch)

    monkeypatch.setattr(FrozenTrunk, "run", run)
    return texts


def test_a_text_is_run_once(contract: Contract, ran: list[str]) -> None:
    trunk = trunk_of(contract, layers=1)
    cache = ActivationCache()
    first = cache.get(trunk, ["goal", "bank", "goal"])
    again = cache.get(trunk, ["bank", "vote", "goal"])
    assert ran == ["goal", "bank", "vote"]
    assert torch.equal(first[0], first[2])
    assert torch.equal(first[0], again[2])
    torch.testing.assert_close(first[1], trunk.run(["bank"])[0])


def test_beyond_its_capacity_texts_are_run_anew(contract: Contract, ran: list[str]) -> None:
    trunk = trunk_of(contract, layers=1)
    size = trunk.run([WORD_LIST[0]])[0].nbytes
    ran.clear()
    cache = ActivationCache(capacity=2 * size)
    for _ in range(2):
        assert len(cache.get(trunk, WORD_LIST[:5])) == 5
    assert len(ran) == 5 + 3


def test_another_model_does_not_get_what_the_first_one_made(contract: Contract) -> None:
    trunk = trunk_of(contract, layers=1)
    head = trunk_of(contract, method="head")
    cache = ActivationCache()
    cache.get(trunk, WORD_LIST[:2])
    assert [row.dim() for row in cache.get(head, WORD_LIST[:2])] == [1, 1]
    assert [row.dim() for row in cache.get(trunk, WORD_LIST[:2])] == [2, 2]


# --- Ahead ---------------------------------------------------------------------------------------


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Records in each pass of the frozen layers, in order."""
    right, sizes = FrozenTrunk._run_batch, list[int]()

    def run(self: FrozenTrunk, ids: list[torch.Tensor]) -> list[torch.Tensor]:
        sizes.append(len(ids))
        return right(self, ids)

    monkeypatch.setattr(FrozenTrunk, "_run_batch", run)
    return sizes


@pytest.mark.parametrize("adapter", [{"method": "head"}, {"layers": 1}], ids=str)
def test_many_texts_fill_batches_and_are_what_each_is_alone(
    contract: Contract, adapter: dict[str, Any], batches: list[int]
) -> None:
    trunk, cache = trunk_of(contract, **adapter), ActivationCache()
    alone = [trunk.run([text])[0] for text in RAGGED]
    batches.clear()
    cache.run_ahead(trunk, [*RAGGED, *RAGGED[:5]])
    lengths = [len(trunk.tokens(text)) for text in RAGGED]
    assert len({trunk.shapes.width(length) for length in lengths}) > 1
    assert sorted(batches) == sorted(map(len, trunk.shapes.batches(lengths)))
    batches.clear()
    for text, row in zip(RAGGED, alone, strict=True):
        assert torch.equal(cache.get(trunk, [text])[0], row)
    cache.run_ahead(trunk, RAGGED)
    assert batches == []


def test_no_more_is_run_ahead_than_there_is_room_for(
    contract: Contract, batches: list[int]
) -> None:
    trunk = trunk_of(contract, method="head")
    size = trunk.run(RAGGED[:1])[0].nbytes
    batches.clear()
    cache = ActivationCache(capacity=10 * size)
    cache.run_ahead(trunk, RAGGED)
    assert len(cache.texts) == 10
    assert len(batches) == 2  # the second is that which does not fit
    assert torch.equal(cache.get(trunk, RAGGED)[-1], trunk.run(RAGGED[-1:])[0])
    batches.clear()
    cache.run_ahead(trunk, RAGGED)
    assert batches == []  # it is known to be full
    cache.forget(cache.texts[:1])
    cache.run_ahead(trunk, RAGGED)
    assert len(batches) == 1


def test_a_text_that_cannot_be_read_is_left_alone(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk, cache, right = trunk_of(contract, method="head"), ActivationCache(), FrozenTrunk.tokens

    def tokens(self: FrozenTrunk, text: str) -> torch.Tensor:
        if text == "broken":
            raise ValueError("no tokens")
        return right(self, text)

    monkeypatch.setattr(FrozenTrunk, "tokens", tokens)
    cache.run_ahead(trunk, ["goal", "broken", "bank"])
    assert cache.texts == ["goal", "bank"]
    with pytest.raises(ValueError, match="no tokens"):
        cache.get(trunk, ["broken"])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another heap than GNU's")
def test_memory_that_passes_needed_for_a_moment_is_given_back(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small rows that are kept lie between; without help the heap stays as large as it was."""
    right = FrozenTrunk._run_batch

    def run(self: FrozenTrunk, ids: list[torch.Tensor]) -> list[torch.Tensor]:
        rows, needed = list[torch.Tensor](), list[torch.Tensor]()
        for row in right(self, ids):
            needed += [torch.ones(25_000) for _ in range(60)]  # 6 MB
            rows.append(row.new_ones(5_000))  # 20 kB
        return rows

    trunk, cache, process = trunk_of(contract, method="head"), ActivationCache(), psutil.Process()
    trunk.run(RAGGED)  # whatever is loaded at first
    monkeypatch.setattr(FrozenTrunk, "_run_batch", run)
    ctypes.CDLL(None).malloc_trim(0)  # what is free already would hide it
    before = process.memory_info().rss
    cache.run_ahead(trunk, RAGGED)
    assert len(cache.texts) == len(RAGGED)
    assert process.memory_info().rss - before < 8 << 20
