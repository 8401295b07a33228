"""Every method on every architecture and task: exact gradients a reader, or refused by its name.

The oracle takes one record at a time through the model without the engine, by autograd alone. Where
PEFT computes the layer, its own forward pass is what the oracle runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tests.fakes.instruments.hostile_pairs import (
    HIDES,
    LABELS,
    TARGETS,
    WRITES,
    Bases,
    made_bases,
    offered,
)
from torch import Tensor, nn

from presspool.client.engine.alike import prove_alike
from presspool.client.engine.compute import Compute
from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.client.engine.selftest import prove
from presspool.client.engine.step_gradients import record_losses
from presspool.common.base.errors import ContractError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.doors import METHODS
from presspool.common.models.adapters import load, read, trainable
from presspool.common.models.frozen_trunk import FrozenTrunk
from presspool.common.models.models import build

LABELLED: tuple[dict[str, Any], ...] = (
    *({"kind": kind, "labels": list(LABELS)} for kind in ("classification", "tagging")),
    {"kind": "ad-response", "context": {"device": list(LABELS)}, "kept_unclicked": 0.5},
)
WINDOWED: dict[str, Any] = {
    "kind": "tagging",
    "labels": list(LABELS),
    "max_length": 48,
    "window": 16,
}
WORK: dict[str, tuple[dict[str, Any], ...]] = {
    "bert": (*LABELLED, WINDOWED),
    "gpt2": LABELLED,
    "llama": LABELLED,
    WRITES: ({"kind": "generation"}, {"kind": "generation", "format": "prompt"}),
    HIDES: ({"kind": "fill-mask"},),
}
CASES = [
    (name, family, at)
    for name in METHODS.names
    for family in WORK
    for at in range(len(WORK[family]))
]
READERS = [0, 0, 1, 2, 2, 2]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    return made_bases(tmp_path_factory.mktemp("bases"))


def contract_of(bases: Bases, name: str, family: str, at: int = 0) -> Contract:
    kind = {WRITES: "llama", HIDES: "bert"}.get(family, family)
    targets = [t for t in TARGETS[kind] if t != "key"]
    return parse_contract(
        {
            "name": "exact",
            "model": {"id": dict(bases)[family]},
            "task": {"max_length": 16} | WORK[family][at],
            "adapter": {"method": name, "rank": 2, "alpha": 4, "targets": targets},
            "federation": {"rounds": 2, "local_steps": 1},
            "outlets": {"north-post": 30, "south-echo": 20},
            "privacy": {"noise_multiplier": 1.0, "clip": 1.0, "sampling_rate": 0.5},
            "optimizer": {"learning_rate": 0.5},
        }
    )


def with_state(contract: Contract) -> nn.Module:
    """The model near its start, and nowhere at it: at zero some gradients would rightly be zero."""
    model, rng = build(contract).eval(), np.random.default_rng(5)
    moved = {n: a + 0.2 * rng.standard_normal(a.shape) for n, a in read(model).items()}
    load(model, {name: array.astype(np.float32) for name, array in moved.items()})
    return model


def by_engine(model: nn.Module, contract: Contract, rows: pa.Table) -> dict[str, Tensor]:
    """Readers' means over batches of public shapes, filled up with made records."""
    trunk, counts = FrozenTrunk(model, contract), np.bincount(READERS)
    sums = {n: torch.zeros(len(counts), *p.shape) for n, p in trainable(model).items()}
    with ReaderGradients(model) as engine:
        for places, losses in batches(trunk, rows):
            readers = [READERS[place] for place in places]
            own = [READERS.index(reader) for reader in readers]  # a row of the engine's a reader
            order = sorted(set(own))
            filling = [len(order)] * (len(losses) - len(places))
            reader_of = [order.index(one) for one in own] + filling
            engine.backward(losses, torch.tensor(reader_of), len(order) + 1)
            for name, parameter in trainable(model).items():
                found: Tensor = parameter.grad_sample  # type: ignore[attr-defined]
                for row, first in enumerate(order):
                    share = own.count(first) / counts[READERS[first]]
                    sums[name][READERS[first]] += found[row] * share
    return sums


def one_at_a_time(model: nn.Module, contract: Contract, rows: pa.Table) -> dict[str, Tensor]:
    trunk, parameters = FrozenTrunk(model, contract), trainable(model)
    counts = np.bincount(READERS)
    sums = {name: torch.zeros(len(counts), *p.shape) for name, p in parameters.items()}
    for place, reader in enumerate(READERS):
        ((_, losses),) = batches(trunk, rows.slice(place, 1))
        found = torch.autograd.grad(losses[0], list(parameters.values()))
        for name, gradient in zip(sums, found, strict=True):
            sums[name][reader] += gradient / int(counts[reader])
    return sums


def batches(trunk: FrozenTrunk, rows: pa.Table) -> Iterator[tuple[list[int], Tensor]]:
    """Each batch's places in the rows, in their order, and its losses; filling comes last."""
    activations = trunk.run(trunk.task.texts(rows).to_pylist())
    for unordered in trunk.batches(activations):
        places = sorted(unordered)
        yield places, record_losses(trunk, [activations[i] for i in places], rows.take(places))


def assert_alike(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """To float32's rounding: from an oracle in float64 either is off by up to 2e-5."""
    assert got.keys() == expected.keys()
    for name, rows in expected.items():
        largest = rows.flatten(1).norm(dim=1).max()
        assert largest > 1e-7, f"{name}: nothing to compare"
        error = (got[name] - rows).flatten(1).norm(dim=1).max()
        assert error <= 5e-5 * largest, f"{name}: {error / largest:.1e}"


@pytest.mark.parametrize(("name", "family", "at"), CASES)
def test_a_readers_gradient_is_exact_or_the_method_is_refused(
    name: str, family: str, at: int, bases: Bases
) -> None:
    if not offered(name, family):
        with pytest.raises(ContractError, match=r"have no biases|trains the head alone") as caught:
            build(contract_of(bases, name, family, at))
        assert name in str(caught.value)
        return
    contract = contract_of(bases, name, family, at)
    model = with_state(contract)
    trunk = FrozenTrunk(model, contract)
    rows = trunk.task.made([3, 5, 4, 5, 3, 4])
    assert_alike(by_engine(model, contract, rows), one_at_a_time(model, contract, rows))


@pytest.mark.parametrize(
    ("name", "family"), [(n, f) for n, f, at in CASES if at == 0 and offered(n, f)]
)
def test_the_engines_own_proofs_hold(name: str, family: str, bases: Bases) -> None:
    contract = contract_of(bases, name, family)
    model = build(contract)
    prove(model, contract)
    prove_alike(model, read(model), contract, Compute(device="cpu", tokens=128))
