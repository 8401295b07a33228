"""Where factors take turns: what rests is not trained and not noised; the round alone decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tests.fakes.instruments.detectors import Bench, empty, train, watching
from torch import Tensor

from presspool.client.engine.alike import prove_alike
from presspool.client.engine.compute import FLOAT, Compute
from presspool.client.engine.randomness import SecureRandom
from presspool.client.engine.training import RoundWork, train_round
from presspool.common.base.errors import ContractError
from presspool.common.contract.contract import parse_contract
from presspool.common.models.adapters import trainable
from presspool.common.models.frozen_trunk import FrozenTrunk


@pytest.fixture(scope="module")
def bench(contract_body: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    turns = contract_body | {"adapter": contract_body["adapter"] | {"method": "rolora"}}
    return Bench.of(parse_contract(turns), tmp_path_factory.mktemp("bench"))


@pytest.mark.parametrize(
    ("number", "rests", "moves"), [(1, "lora_A", "lora_B"), (2, "lora_B", "lora_A")]
)
def test_one_factor_rests(bench: Bench, number: int, rests: str, moves: str) -> None:
    before = set(trainable(bench.model))
    for readers in (bench.readers, empty()):
        with watching() as seen:
            change = train(bench, readers, round=number)
        assert set(change) == set(bench.state) == before
        for name, array in change.items():
            assert array.shape == bench.state[name].shape
            assert array.dtype == np.float32
            assert array.any() == (rests not in name)
        numbers = sum(a.size for name, a in change.items() if rests not in name)
        assert all(noised.size == numbers for noised in seen.noised)
        assert any(moves in name for name in change)
    assert set(trainable(bench.model)) == before


def test_a_round_s_batches_have_the_shapes_that_were_proved(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With some of the numbers at rest more rows would fit, which nobody has tried."""
    numbers = sum(p.numel() for p in trainable(bench.model).values())
    compute = Compute(device="cpu", gradient_bytes=7 * FLOAT * numbers)
    right, rows = FrozenTrunk.outputs, list[int]()

    def outputs(self: FrozenTrunk, activations: Sequence[Tensor]) -> Tensor:
        found = right(self, activations)
        rows.append(len(found))
        return found

    monkeypatch.setattr(FrozenTrunk, "outputs", outputs)
    prove_alike(bench.model, bench.state, bench.contract, compute)
    proved = set(rows)
    assert max(proved) == 4
    for number in (1, 2):
        rows.clear()
        work = RoundWork(
            round=number, turn=number, population=40, random=SecureRandom.deterministic(number)
        )
        train_round(bench.model, bench.state, bench.readers, bench.contract, work, compute)
        assert rows
        assert {*rows} <= proved


def test_a_pool_that_shares_its_noise_is_refused(bench: Bench) -> None:
    pooled = {
        "federation": {"trust": "pooled", "local_steps": 1},
        "outlets": {f"outlet-{at}": 25 for at in range(4)},
        "pooled": {"colluders": 1, "dropouts": 0},
    }
    bench.contract.replace(adapter={"method": "fedit"}, **pooled)
    with pytest.raises(ContractError, match=r"federation.trust.*would rest"):
        bench.contract.replace(**pooled)


def test_a_coordinator_whose_memory_moves_what_rests_is_refused(bench: Bench) -> None:
    with pytest.raises(ContractError, match=r"server.name.*remembers"):
        bench.contract.replace(server={"name": "adam"})
