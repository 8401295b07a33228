"""What frozen layers make of outlets' texts: in full batches for all, and seen by nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.fakes.instruments.detectors import WORDS, Bench

from presspool.client.data.readers import Readers
from presspool.client.engine.compute import Compute
from presspool.client.engine.randomness import SecureRandom
from presspool.client.engine.training import RoundWork, train_together
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.models.activation_cache import ActivationCache
from presspool.common.models.frozen_trunk import FrozenTrunk
from presspool.common.runs.run_file import freeze
from presspool.common.tasks.classification import labelled


@pytest.fixture
def contract(contract_body: dict[str, Any]) -> Contract:
    """Only the head trains, on every reader, with texts of any width."""
    changes = {"adapter": {"method": "head"}, "task": {"max_length": 40}}
    whole = {"privacy": {"sampling_rate": 1.0, "records_per_reader": 4}}
    return freeze(parse_contract(contract_body).replace(**changes, **whole), fetch=False)


@pytest.fixture
def bench(contract: Contract, tmp_path: Path) -> Bench:
    return Bench.of(contract, tmp_path)


def outlet(seed: int) -> Readers:
    """Nine readers of two texts each, short and long in turns; the first is every outlet's."""
    random = np.random.default_rng(seed)
    texts = [" ".join(random.choice(WORDS, (3, 26)[place % 2])) for place in range(17)]
    table = labelled(["the goal of the coach", *texts], random.integers(0, 3, 18))
    return Readers(table=table, offsets=np.arange(0, 19, 2))


def trained(
    bench: Bench, contract: Contract, seeds: list[int], compute: Compute | None = None
) -> list[dict[str, bytes]]:
    outlets = [(outlet(seed), _work(seed)) for seed in seeds]
    compute = compute or Compute(device="cpu")
    changes = train_together(bench.model, bench.state, outlets, contract, compute)
    assert all(isinstance(change, dict) for change in changes)
    return [{n: a.tobytes() for n, a in c.items()} for c in changes if isinstance(c, dict)]


def _work(seed: int) -> RoundWork:
    stream = SecureRandom.deterministic("frozen", seed)
    return RoundWork(round=1, turn=1, population=9, random=stream)


def test_each_text_is_run_once_in_batches_that_outlets_fill_together(
    bench: Bench, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, sizes = FrozenTrunk._run_batch, list[int]()

    def run(self: FrozenTrunk, ids: list[torch.Tensor]) -> list[torch.Tensor]:
        sizes.append(len(ids))
        return right(self, ids)

    compute = Compute(device="cpu")
    trunk = compute.trunk(bench.model, contract)
    texts = {t for seed in (1, 2, 3) for t in outlet(seed).table["text"].to_pylist()}
    batches = trunk.shapes.batches([len(trunk.tokens(text)) for text in texts])
    monkeypatch.setattr(FrozenTrunk, "_run_batch", run)
    trained(bench, contract, [1, 2, 3], compute)
    assert sum(sizes) == len(texts)
    assert sorted(sizes) == sorted(map(len, batches))


@pytest.mark.parametrize("capacity", [0, 2000, 1 << 30])
def test_neither_others_texts_nor_a_full_memory_move_a_byte(
    bench: Bench, contract: Contract, capacity: int
) -> None:
    alone = [trained(bench, contract, [seed])[0] for seed in (1, 2, 3)]
    compute = Compute(device="cpu", activations=ActivationCache(capacity))
    assert trained(bench, contract, [2, 3], compute) == alone[1:]
    assert trained(bench, contract, [1], compute) == alone[:1]
    assert trained(bench, contract, [3, 1, 2], compute) == [alone[2], *alone[:2]]


def test_a_text_that_cannot_be_read_is_missing_at_its_own_outlet_alone(
    bench: Bench, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, right = outlet(2).table["text"].to_pylist()[6], FrozenTrunk.tokens

    def tokens(self: FrozenTrunk, text: str) -> torch.Tensor:
        if text == bad:
            raise ValueError("no tokens")
        return right(self, text)

    whole = trained(bench, contract, [1, 2, 3])
    monkeypatch.setattr(FrozenTrunk, "tokens", tokens)
    found = trained(bench, contract, [1, 2, 3])
    assert found[1] == trained(bench, contract, [2])[0] != whole[1]
    assert [found[0], found[2]] == [whole[0], whole[2]]
