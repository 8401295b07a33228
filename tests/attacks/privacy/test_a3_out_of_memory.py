"""A.3: memory that runs out for one reader's sake decided whether an update appears.

One reader with k records of `max_length` tokens made one batch of them all; and what failed while
the step's sum was added up took the whole round with it. Here a reader's records are computed in
pieces of a public size, and a reader who cannot be added is left out alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.attacks.privacy.test_a1_neighbours_lengths import rows_of
from tests.fakes.instruments.detectors import (
    Bench,
    clipped_sum,
    everyone,
    subset,
    train,
    watching,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from presspool.client.data.readers import Readers
from presspool.client.engine.optimizer import ReaderOptimizer
from presspool.common.contract.contract import parse_contract
from presspool.common.tasks.classification import labelled

LONGEST = 32


@pytest.fixture(scope="module")
def bench(contract_body: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    contract = parse_contract(contract_body).replace(task={"max_length": LONGEST})
    return Bench.of(contract, tmp_path_factory.mktemp("bench"))


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the bytes of the largest tensor that any operation made."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes: int = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.numel() * tensor.element_size())
        return made


def largest_tensor(bench: Bench, records: int) -> int:
    """Bytes, in a step of one reader with so many records of the greatest length."""
    texts = [
        " ".join(["goal", "vote", "bank"][i % 3] for _ in range(LONGEST)) for i in range(records)
    ]
    reader = Readers(table=labelled(texts, [0] * records), offsets=np.array([0, records]))
    contract = everyone(bench.contract, records_per_reader=256)
    with Largest() as seen:
        train(bench, reader, contract=contract)
    return int(seen.bytes)


def test_a_readers_many_long_records_need_no_more_memory_than_a_few(bench: Bench) -> None:
    few, many = (largest_tensor(bench, records) for records in (16, 256))
    assert many == few


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory")])
@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("unit", ["reader", "record"])
def test_what_fails_while_it_is_added_leaves_out_one_reader(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception, where: str, unit: str
) -> None:
    contract = everyone(bench.contract, unit=unit, clip={"adapter": 0.1, "head": 0.4})
    lost = subset(bench.readers, [4])
    others = subset(bench.readers, [i for i in range(12) if i != 4])
    theirs = rows_of(bench, lost, contract)
    expected = clipped_sum(bench, others, contract)
    add = ReaderOptimizer.clip_and_accumulate

    def failing(self: ReaderOptimizer) -> None:
        flat = torch.cat([p.grad_sample.flatten(1) for p in self.params], dim=1)
        if where == "after":
            add(self)
        if any(row.numpy().tobytes() in theirs for row in flat):
            raise error
        if where == "before":
            add(self)

    monkeypatch.setattr(ReaderOptimizer, "clip_and_accumulate", failing)
    with watching() as seen:
        train(bench, bench.readers, contract=contract.replace(privacy={"noise_multiplier": 0.5}))
    np.testing.assert_allclose(seen.sums[0], expected, atol=1e-5)
    assert len(seen.noised) == seen.optimizers[0].steps_taken == 1
    assert (seen.noised[0] != seen.sums[0]).all()
