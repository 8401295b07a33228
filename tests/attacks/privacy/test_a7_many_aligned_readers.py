"""A.7: however many readers are in a step, one more moves the sum by no more than C.

The attacker lines up 100,000 readers whose gradients point the same way. A float32 sum of them is
large, and each addition rounds it: one reader more moved it by 1.0076 C.
"""

from __future__ import annotations

import torch

from presspool.client.engine.optimizer import ReaderOptimizer
from presspool.client.engine.randomness import SecureRandom
from presspool.common.contract.privacy_plan import PrivacyPlan

READERS, CLIP = 100_000, 0.7


def summed(readers: int, batch: int, width: int) -> torch.Tensor:
    """The step's sum over readers who all push every coordinate the same way."""
    parameter = torch.nn.Parameter(torch.zeros(width))
    plan = PrivacyPlan(
        unit="reader",
        noise_multiplier=1.0,
        clip={"all": CLIP},
        sampling_rate=0.5,
        records_per_reader=1,
        steps=1,
        delta=1e-5,
    )
    optimizer = ReaderOptimizer(
        torch.optim.SGD([parameter], lr=1.0),
        plan=plan,
        groups={"all": [parameter]},
        population=READERS,
        random=SecureRandom(),
    )
    for first in range(0, readers, batch):
        rows = torch.full((min(batch, readers - first), width), 5.0)
        parameter.grad_sample = rows  # type: ignore[attr-defined]
        optimizer.accumulate()
    total: torch.Tensor = parameter.summed_grad  # type: ignore[attr-defined]
    return total


def test_one_reader_more_moves_the_sum_by_at_most_the_clip_norm_exactly() -> None:
    for width in (2, 30, 59):
        for batch in (1000, 100_000):
            whole, less = (summed(count, batch, width) for count in (READERS, READERS - 1))
            assert whole.dtype == torch.int64
            moved = [int(n) for n in whole - less]
            limit = int(CLIP / 2.0 ** (-1 - 40)) ** 2  # 0.7 is in [1/2, 1)
            assert sum(n * n for n in moved) <= limit


def test_the_order_and_the_size_of_micro_batches_change_nothing() -> None:
    sums = [summed(5000, batch, 30) for batch in (1, 7, 512, 5000)]
    assert all(torch.equal(total, sums[0]) for total in sums)
