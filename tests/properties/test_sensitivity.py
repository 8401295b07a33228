"""Add or remove all records of one reader: the summed clipped gradient moves by at most S.

This is the one inequality that the noise is scaled to (DESIGN §3), so it is tried on the code that
trains: real architectures, the engine, the optimiser's clipping, ragged lengths, readers with
different numbers of records, micro-batches, samples that become empty.
"""

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from tests.fakes.tiny_models import FAMILIES, Batch, TinyModel, tiny_model
from torch import Tensor

from presspool.client.engine.optimizer import ReaderOptimizer
from presspool.client.engine.randomness import SecureRandom
from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.common.contract.privacy_plan import PrivacyPlan
from presspool.common.models.adapters import group_of, trainable

TOLERANCE = 1e-5
MOST_READERS, MOST_RECORDS, LONGEST = 5, 3, 12

Losses = Callable[[TinyModel, Batch], Tensor]


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """One model with engine and optimiser attached, which adds up clipped gradients."""

    tiny: TinyModel
    engine: ReaderGradients = field(repr=False)
    optimizer: ReaderOptimizer = field(repr=False)

    def clipped_sum(self, parts: list[tuple[Batch, list[int]]], losses: Losses) -> Tensor:
        """The step's sum over micro-batches, each with the number of records of its readers."""
        for p in self.optimizer.params:
            p.summed_grad = torch.zeros_like(p, dtype=torch.int64)
        for batch, counts in parts:
            reader_of = torch.repeat_interleave(torch.tensor(counts))
            self.engine.backward(losses(self.tiny, batch), reader_of, len(counts))
            self.optimizer.accumulate()
        whole = torch.cat([p.summed_grad.flatten() for p in self.optimizer.params])
        return whole.double() * self.optimizer.grid


@functools.cache
def trainer(family: str, clip: tuple[tuple[str, float], ...]) -> Trainer:
    tiny = tiny_model(family)
    parameters = trainable(tiny.model)
    plan = PrivacyPlan(
        unit="reader",
        noise_multiplier=1.0,
        clip=dict(clip),
        sampling_rate=0.1,
        records_per_reader=MOST_RECORDS,
        steps=1,
        delta=1e-5,
    )
    optimizer = ReaderOptimizer(
        torch.optim.SGD(parameters.values(), lr=0.0),
        plan=plan,
        groups={
            group: [p for name, p in parameters.items() if group in ("all", group_of(name))]
            for group in plan.clip
        },
        population=100,
        random=SecureRandom(),
    )
    return Trainer(tiny=tiny, engine=ReaderGradients(tiny.model), optimizer=optimizer)


def rows_of(batch: Batch, rows: list[int]) -> Batch:
    """Some records of a batch, padded to their own longest and no further."""
    picked = {name: value[rows] for name, value in batch.items()}
    width = int(picked["attention_mask"].sum(1).max())
    for name, value in picked.items():
        if value.dim() == 2 and value.shape[1] == batch["input_ids"].shape[1]:
            picked[name] = value[:, :width]
    return picked


def micro_batches(
    batch: Batch, counts: list[int], kept: list[int], dice: random.Random
) -> list[tuple[Batch, list[int]]]:
    """The kept readers' records, cut between readers at random places."""
    starts = [sum(counts[:reader]) for reader in range(len(counts))]
    parts, left = [], list(kept)
    while left:
        size = dice.randint(1, len(left))
        readers, left = left[:size], left[size:]
        rows = [starts[r] + i for r in readers for i in range(counts[r])]
        if rows:
            parts.append((rows_of(batch, rows), [counts[r] for r in readers]))
    return parts


def movement(seed: int, losses: Losses, families: tuple[str, ...] = FAMILIES) -> float:
    """‖S(D) − S(D′)‖ / S for one random pair of neighbours."""
    dice = random.Random(seed)
    family = dice.choice(families)
    split = family == "bert" and dice.random() < 0.5
    clip = (("adapter", 0.7), ("head", 0.2)) if split else (("all", 0.5),)
    with_whom = trainer(family, clip)
    counts = [dice.randint(1, MOST_RECORDS) for _ in range(dice.randint(1, MOST_READERS))]
    if dice.random() < 0.2:
        counts.append(0)  # sampled, but nothing usable was left of this reader
    lengths = [dice.randint(2, LONGEST) for _ in range(sum(counts))]
    batch = with_whom.tiny.batch(lengths, seed=seed)
    scale = 10 ** dice.uniform(-2, 2)  # gradients far below, around and far above the clip norm

    def scaled(tiny: TinyModel, part: Batch) -> Tensor:
        return scale * losses(tiny, part)

    readers = list(range(len(counts)))
    gone = dice.choice(readers)
    neighbours = (readers, [r for r in readers if r != gone])
    whole, less = (
        with_whom.clipped_sum(micro_batches(batch, counts, kept, dice), scaled)
        for kept in neighbours
    )
    return float((whole - less).norm() / with_whom.optimizer.plan.sensitivity)


def per_record(tiny: TinyModel, batch: Batch) -> Tensor:
    return tiny.losses(batch)


def token_mean(tiny: TinyModel, batch: Batch) -> Tensor:
    """The usual causal language model's loss, which averages over the tokens of the batch."""
    own = (batch["labels"][:, 1:] != -100).sum(1)
    return tiny.losses(batch) * own * len(own) / own.sum()


def test_removing_a_reader_moves_the_sum_by_at_most_its_clip_norm() -> None:
    moved = [movement(seed, per_record) for seed in range(300)]
    assert max(moved) <= 1 + TOLERANCE
    assert max(moved) > 1 - 1e-3, "no gradient was ever clipped: the test proves nothing"
    assert min(moved) < 0.5, "every gradient was clipped: the test proves little"


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_ten_thousand_neighbours() -> None:
    assert max(movement(seed, per_record) for seed in range(10_000)) <= 1 + TOLERANCE


@pytest.mark.parametrize(("losses", "holds"), [(per_record, True), (token_mean, False)])
def test_a_token_mean_over_the_batch_would_break_the_bound(losses: Losses, holds: bool) -> None:
    with_whom = trainer("llama", (("all", 0.5),))
    batch = with_whom.tiny.batch([3, 3, 3, 3, 12])
    for value in batch.values():  # four readers alike, whose changes do not cancel out
        value[1:4] = value[0]
    moved = []
    for scale in (0.01, 0.1, 0.3, 1.0, 3.0, 10.0):

        def scaled(tiny: TinyModel, part: Batch, scale: float = scale) -> Tensor:
            return scale * losses(tiny, part)

        whole = with_whom.clipped_sum([(batch, [1] * 5)], scaled)
        less = with_whom.clipped_sum([(rows_of(batch, [0, 1, 2, 3]), [1] * 4)], scaled)
        moved.append(float((whole - less).norm() / with_whom.optimizer.plan.sensitivity))
    assert (max(moved) <= 1 + TOLERANCE) == holds, moved


def test_clipping_records_instead_of_readers_would_break_the_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    genuine = ReaderGradients.backward

    def by_record(self: Any, losses: Tensor, reader_of: Tensor, readers: int) -> None:
        genuine(self, losses, torch.arange(len(losses)), len(losses))

    monkeypatch.setattr(ReaderGradients, "backward", by_record)
    assert max(movement(seed, per_record) for seed in range(60)) > 1.5


def test_a_mean_over_the_batch_before_clipping_would_break_the_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    genuine = ReaderGradients.backward

    def averaged(self: Any, losses: Tensor, reader_of: Tensor, readers: int) -> None:
        genuine(self, losses, torch.zeros_like(reader_of), 1)

    monkeypatch.setattr(ReaderGradients, "backward", averaged)
    assert max(movement(seed, per_record) for seed in range(60)) > 1.1
