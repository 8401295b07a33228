"""The sensitivity of a step, on samples that hypothesis draws, with the real engine.

Neighbours differ in one reader with all its records. Whatever the sample, its clipped sum moves by
at most S when a reader comes or goes, and the size of a micro-batch moves nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.instruments.detectors import (
    Bench,
    clipped_sum,
    everyone,
    made_readers,
    subset,
    watching,
)

from presspool.client.engine import training
from presspool.client.engine.compute import Compute
from presspool.common.contract.contract import parse_contract

SAMPLE = st.lists(st.integers(0, 29), unique=True, max_size=15)
CLIP = st.one_of(
    st.floats(1e-3, 2.0),
    st.fixed_dictionaries({"adapter": st.floats(1e-3, 0.1), "head": st.floats(1e-2, 1.0)}),
)
UNIT = st.sampled_from(["reader", "record"])
READERS = made_readers(30, seed=7)


@pytest.fixture(scope="module")
def bench(contract_body: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench.of(parse_contract(contract_body), tmp_path_factory.mktemp("bench"))


def check_neighbours(bench: Bench, sample: list[int], data: st.DataObject, clip: Any) -> None:
    """‖S(D) − S(D′)‖ ≤ S (1 + 1e-5) for a sample and the same with one more reader."""
    added = data.draw(st.sampled_from(sorted(set(range(30)) - set(sample))), label="added")
    place = data.draw(st.integers(0, len(sample)), label="place")
    contract = everyone(bench.contract, clip=clip)
    less = clipped_sum(bench, subset(READERS, sample), contract)
    more = clipped_sum(bench, subset(READERS, [*sample[:place], added, *sample[place:]]), contract)
    assert np.linalg.norm(more - less) <= contract.plan.sensitivity * (1 + 1e-5)


@given(sample=SAMPLE, data=st.data(), clip=CLIP)
@settings(max_examples=40, deadline=None)
def test_neighbouring_samples(
    bench: Bench, sample: list[int], data: st.DataObject, clip: Any
) -> None:
    check_neighbours(bench, sample, data, clip)


@pytest.mark.soak
@given(sample=SAMPLE, data=st.data(), clip=CLIP)
@settings(max_examples=10_000, deadline=None)
def test_neighbouring_samples_at_length(
    bench: Bench, sample: list[int], data: st.DataObject, clip: Any
) -> None:
    check_neighbours(bench, sample, data, clip)


@given(sample=SAMPLE, size=st.integers(1, 16), unit=UNIT)
@settings(max_examples=20, deadline=None)
def test_micro_batches_move_nothing(bench: Bench, sample: list[int], size: int, unit: str) -> None:
    contract = everyone(bench.contract, unit=unit)
    readers = subset(READERS, sample)
    whole = clipped_sum(bench, readers, contract)
    with watching() as seen:
        training.train_round(
            bench.model,
            bench.state,
            readers,
            contract,
            bench.work(),
            Compute(device="cpu", tokens=size),
        )
    np.testing.assert_allclose(seen.sums[0], whole, atol=1e-5)
