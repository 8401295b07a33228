"""The proof that rows do not know their neighbours, and what follows where they do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.fakes.instruments.detectors import Bench
from torch import Tensor

from presspool.client.engine import alike
from presspool.client.engine.alike import prove_alike
from presspool.client.engine.compute import Compute
from presspool.common.base.errors import SelfTestError
from presspool.common.contract.contract import parse_contract
from presspool.common.models.adapters import trainable
from presspool.common.models.batch_shapes import BatchShapes
from presspool.common.models.frozen_trunk import FrozenTrunk
from presspool.common.models.models import build


@pytest.fixture(scope="module")
def bench(contract_body: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    contract = parse_contract(contract_body).replace(task={"max_length": 40})
    return Bench.of(contract, tmp_path_factory.mktemp("bench"))


def proved(bench: Bench, compute: Compute | None = None) -> Compute:
    compute = compute or Compute(device="cpu", tokens=128)
    prove_alike(bench.model, bench.state, bench.contract, compute)
    return compute


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e30])
def test_this_machine_computes_rows_alike(bench: Bench, scale: float) -> None:
    state = {name: np.float32(scale) * array for name, array in bench.state.items()}
    compute = Compute(device="cpu", tokens=128)
    prove_alike(bench.model, state, bench.contract, compute)
    assert (compute.tokens, compute.gradient_bytes) == (128, Compute.gradient_bytes)


@pytest.mark.parametrize("spoilt", ["last", "neighbours", "padding", "even", "odd", "mixed"])
def test_rows_that_are_not_alike_are_computed_one_by_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, spoilt: str
) -> None:
    right = FrozenTrunk.outputs

    def outputs(self: FrozenTrunk, activations: list[Tensor]) -> Tensor:
        found = right(self, activations)
        if spoilt == "last":
            return found * (1 + 1e-6 * (torch.arange(len(found)) == len(found) - 1)[:, None])
        if spoilt == "neighbours":
            return found + 1e-6 * found.detach().mean(0)
        if spoilt in ("even", "odd") and len(found) > 2:
            rows = torch.arange(len(found)) % 2 == (spoilt == "odd")
            return found * (1 + 1e-6 * (rows & (torch.arange(len(found)) > 1)))[:, None]
        if spoilt == "mixed":
            return found * (1 + 1e-6 * (len({len(row) for row in activations}) > 1))
        return found * (1 + 1e-6 * (len(activations) < len(found)))

    monkeypatch.setattr(FrozenTrunk, "outputs", outputs)
    assert proved(bench).tokens == 1


@pytest.mark.parametrize("form", ["text", "prompt", "chat"])
def test_rows_of_a_causal_model_are_tried_to_their_end(
    contract_body: dict[str, Any],
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
) -> None:
    """What stands behind the last token that counts has no gradient, and would pass unseen."""
    task = {"kind": "generation", "format": form, "max_length": 64}
    adapter = {"rank": 2, "alpha": 4, "targets": ["q_proj"]}
    made = {"model": {"id": str(tiny_llama)}, "task": task, "adapter": adapter}
    contract = parse_contract(contract_body | made)
    model = build(contract)
    state = {name: 0.1 + np.zeros(p.shape, np.float32) for name, p in trainable(model).items()}
    right = FrozenTrunk.outputs

    def outputs(self: FrozenTrunk, activations: list[Tensor]) -> Tensor:
        found = right(self, activations)
        late = torch.arange(found.shape[1]) >= 52
        late = late & (torch.arange(len(found)) > 0)[:, None]
        return found * (1 + 1e-3 * late[..., None])

    for spoilt, tokens in ((False, 128), (True, 1)):
        compute = Compute(device="cpu", tokens=128)
        if spoilt:
            monkeypatch.setattr(FrozenTrunk, "outputs", outputs)
        prove_alike(model, state, contract, compute)
        assert compute.tokens == tokens


def test_a_machine_that_never_computes_the_same_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = FrozenTrunk.outputs

    def outputs(self: FrozenTrunk, activations: list[Tensor]) -> Tensor:
        return right(self, activations) * (1 + 1e-3 * torch.rand(()))

    monkeypatch.setattr(FrozenTrunk, "outputs", outputs)
    with pytest.raises(SelfTestError, match="two gradients"):
        proved(bench)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError()], ids=repr)
@pytest.mark.parametrize(("most", "tokens"), [(2, 128), (1, 64), (0, None)])
def test_batches_are_halved_until_memory_holds_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception, most: int, tokens: int | None
) -> None:
    right = FrozenTrunk.outputs

    def outputs(self: FrozenTrunk, activations: list[Tensor]) -> Tensor:
        if len(activations[0]) == 40 and self.shapes.rows(40) > most:
            raise error
        return right(self, activations)

    monkeypatch.setattr(FrozenTrunk, "outputs", outputs)
    if tokens is None:
        with pytest.raises(SelfTestError, match="does not fit into memory"):
            proved(bench)
    else:
        assert proved(bench).tokens == tokens


def test_one_adapter_is_tried_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = proved(bench)
    monkeypatch.setattr(alike, "_fits", None)
    proved(bench, compute)


@dataclass(frozen=True)
class Drawn:
    """All that made records ask of a trunk."""

    shapes: BatchShapes
    vocabulary: int = 100


def test_a_crowd_is_full_and_has_its_subject_in_every_second_row() -> None:
    shapes = BatchShapes(max_length=64, tokens=256)
    made = alike._Made(Drawn(shapes))  # type: ignore[arg-type]
    ranges = list(made.ranges())
    assert [length for low, high in ranges for length in range(low, high + 1)] == [*range(1, 65)]
    for shortest, longest in ranges:
        width = shapes.width(shortest)
        assert shapes.width(longest) == width
        (subject,), stood, lengths = made.records([longest]), set(), set()
        for first in 100 * (0, 1):
            rows, crowd = made.crowd(subject, shortest, longest, first=first)
            assert len(crowd) == shapes.rows(width)
            mine = {n for n, record in enumerate(crowd) if record is subject}
            assert mine == set(range(len(crowd))[rows])
            assert mine == set(range(min(first, len(crowd) - 1), len(crowd), 2))
            strangers = [record for n, record in enumerate(crowd) if n not in mine]
            assert len({number for _, number in strangers}) == len(strangers)
            lengths |= {len(ids) for ids, _ in strangers}
            stood |= mine
        assert stood == set(range(shapes.rows(width)))
        assert lengths == set(range(shortest, longest + 1))  # strangers are of all of them
