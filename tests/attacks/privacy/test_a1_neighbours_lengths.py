"""A.1: a contract and an adapter that let one reader's long text move everybody else.

A hostile coordinator asks for alpha = 16000 and sends an adapter of norm 505. Where a batch is as
wide as its longest text, one long text moves the rounding of every other record's forward pass,
which such an adapter amplifies until clipped gradients point elsewhere: the sum moves by several C.
Here the other readers' rows must stay the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tests.fakes.instruments.detectors import (
    WORDS,
    Bench,
    clipped_sum,
    everyone,
    made_readers,
    subset,
    train,
)

from presspool.client.data.readers import Readers
from presspool.client.engine.optimizer import ReaderOptimizer
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.models.adapters import norm
from presspool.common.models.base_model import resolve
from presspool.common.models.catalogue import DEFAULT_ID
from presspool.common.tasks.classification import labelled

OTHERS, ADAPTER_NORM, ALPHA = 31, 505.0, 16_000
SHORT = made_readers(OTHERS, seed=3)


def hostile(body: dict[str, Any], folder: Path, size: float) -> Bench:
    contract = parse_contract(body).replace(task={"max_length": 64}, adapter={"alpha": ALPHA})
    bench = Bench.of(contract, folder)
    grown = size / norm(bench.state)
    for array in bench.state.values():
        array *= np.float32(grown)
    return bench


@pytest.fixture(scope="module")
def bench(contract_body: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return hostile(contract_body, tmp_path_factory.mktemp("bench"), ADAPTER_NORM)


def with_one_more(words: list[int], place: int = 0) -> Readers:
    """The short texts' readers and one more, with records of so many words."""
    texts = [" ".join(WORDS[(i + j) % len(WORDS)] for j in range(n)) for i, n in enumerate(words)]
    both = Readers(
        table=pa.concat_tables([SHORT.table, labelled(texts, [0] * len(words))]),
        offsets=np.append(SHORT.offsets, SHORT.records + len(words)),
    )
    return subset(both, [*range(place), OTHERS, *range(place, OTHERS)])


@contextmanager
def rows_seen() -> Iterator[set[bytes]]:
    """The bytes of every reader's whole row that the optimiser is given."""
    rows, accumulate = set[bytes](), ReaderOptimizer.accumulate

    def watched(self: ReaderOptimizer) -> None:
        flat = torch.cat([p.grad_sample.flatten(1) for p in self.params], dim=1)
        rows.update(row.numpy().tobytes() for row in flat)
        accumulate(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReaderOptimizer, "accumulate", watched)
        yield rows


def rows_of(bench: Bench, readers: Readers, contract: Contract) -> set[bytes]:
    with rows_seen() as rows:
        train(bench, readers, contract=contract)
    return rows


@pytest.mark.parametrize("unit", ["reader", "record"])
@pytest.mark.parametrize(
    ("words", "place"), [([62], 0), ([40], 31), ([30, 2, 62, 9], 7), ([62] * 4, 16)], ids=str
)
def test_nobody_elses_row_moves(bench: Bench, words: list[int], place: int, unit: str) -> None:
    contract = everyone(bench.contract, unit=unit)
    readers = with_one_more(words, place)
    theirs = 1 if unit == "reader" else len(words)
    added = rows_of(bench, readers, contract) - rows_of(bench, SHORT, contract)
    assert len(added) <= theirs
    moved = clipped_sum(bench, readers, contract) - clipped_sum(bench, SHORT, contract)
    assert np.linalg.norm(moved) <= theirs * contract.plan.sensitivity * (1 + 1e-4)


@pytest.mark.soak
@pytest.mark.parametrize("size", [20.0, 100.0, ADAPTER_NORM])
def test_the_sum_of_a_deep_model_moves_by_one_clip_norm(
    contract_body: dict[str, Any], tmp_path: Path, size: float
) -> None:
    """Six layers amplify: padded to the longest text, the sum moved by 2.3 C among 12 readers."""
    found = resolve(DEFAULT_ID, weights=None, tokenizer=None)
    model = {"id": DEFAULT_ID, "weights": found.weights, "tokenizer": found.tokenizer}
    bench = hostile(contract_body | {"model": model}, tmp_path, size)
    contract = everyone(bench.contract, unit="record")
    few, one_more = subset(SHORT, range(12)), subset(with_one_more([60]), range(13))
    moved = clipped_sum(bench, one_more, contract) - clipped_sum(bench, few, contract)
    assert np.linalg.norm(moved) <= contract.plan.sensitivity * (1 + 1e-4)
