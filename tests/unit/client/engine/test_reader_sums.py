"""Sums per reader against a loop over records, for every way in which readers can fill a batch."""

import contextlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from presspool.client.engine.reader_sums import Inbox, IsolationProof, ReaderSums
from presspool.common.base.errors import EngineError

COUNTS = st.lists(st.integers(0, 3), min_size=1, max_size=7).filter(any)


def by_loop(counts: list[int], per_record: Tensor) -> Tensor:
    rows, start = [], 0
    for count in counts:
        rows.append(per_record[start : start + count].sum(0))
        start += count
    return torch.stack(rows)


@settings(max_examples=100, deadline=None)
@given(counts=COUNTS, tokens=st.sampled_from([(), (1,), (4,), (2, 3)]), wide=st.booleans())
def test_outer_products_are_summed_per_reader(
    counts: list[int], tokens: tuple[int, ...], wide: bool
) -> None:
    left = torch.randn(sum(counts), *tokens, 5 if wide else 2)
    right = torch.randn(sum(counts), *tokens, 3)
    parameter, sums = torch.zeros(left.shape[-1], 3), ReaderSums(counts)
    sums.outer(parameter, left, right)
    each = torch.stack(
        [a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, 3) for a, b in zip(left, right, strict=True)]
    )
    got = sums.of(parameter)
    assert got is not None
    assert got.is_contiguous()
    torch.testing.assert_close(got, by_loop(counts, each), atol=1e-5, rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(counts=COUNTS, tokens=st.sampled_from([(), (4,), (2, 3)]))
def test_rows_are_summed_per_reader_and_calls_add_up(
    counts: list[int], tokens: tuple[int, ...]
) -> None:
    values = torch.randn(sum(counts), *tokens, 3)
    parameter, sums = torch.zeros(3), ReaderSums(counts)
    assert sums.of(parameter) is None
    sums.rows(parameter, values)
    sums.rows(parameter, 2 * values)
    got = sums.of(parameter)
    assert got is not None
    expected = by_loop(counts, 3 * values.flatten(1, -2).sum(1) if tokens else 3 * values)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_readers_with_equally_many_records_need_no_memory_per_record() -> None:
    left, right = torch.randn(8, 16, 4), torch.randn(8, 16, 64)
    shapes = []
    original = torch.bmm

    def spy(a: Tensor, b: Tensor, *, out: Tensor) -> Tensor:
        shapes.append((tuple(a.shape), tuple(b.shape), tuple(out.shape)))
        return original(a, b, out=out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "bmm", spy)
        ReaderSums([2, 2, 2, 2]).outer(torch.zeros(4, 64), left, right)
    assert shapes == [((4, 4, 32), (4, 32, 64), (4, 4, 64))]  # one product: 4 rows, not 8


def test_half_precision_is_summed_in_float32() -> None:
    ones = torch.ones(2, 1, 1, dtype=torch.bfloat16)
    parameter, sums = torch.zeros(1, 1), ReaderSums([2])
    for value in (256.0, 1.0):  # 257 is not a bfloat16
        sums.outer(parameter, ones[:, :, :] * value / 2, ones)
    got = sums.of(parameter)
    assert got is not None
    assert got.item() == 257.0


@pytest.mark.parametrize("shape", [(2, 4), (4,), (6, 2, 4)])
def test_a_gradient_without_the_records_in_front_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(EngineError, match=r"encoder\.query"):
        ReaderSums([2, 1]).take("encoder.query", torch.zeros(shape))


def test_the_proof_of_isolation_wants_every_second_record_silent() -> None:
    proof = IsolationProof([1, 1, 1, 1])
    gradient = torch.zeros(4, 5)
    gradient[[0, 2]] = 1.0
    proof.take("layer", gradient)
    gradient[3, 0] = float("nan")  # zero times a record's own infinity: no proof of mixing
    proof.take("layer", gradient)
    gradient[3, 4] = 1e-30
    with pytest.raises(EngineError, match="mixed"):
        proof.take("layer", gradient)


def test_an_inbox_is_closed_again_after_an_error() -> None:
    inbox, sums = Inbox(), ReaderSums([1])
    with contextlib.suppress(ZeroDivisionError), inbox.receiving(sums):
        assert inbox.take("layer", torch.zeros(1, 1)) is sums
        raise ZeroDivisionError
    with pytest.raises(EngineError, match="outside the engine"):
        inbox.take("layer", torch.zeros(1, 1))
