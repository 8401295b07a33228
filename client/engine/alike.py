"""Proof before training that a record is computed alike whatever stands beside it.

Promised is that a reader's row depends on that reader's records, the adapter and public numbers
alone, to the last bit. Shapes are public (`presspool.common.models.batch_shapes`); what is left to
see is that this machine's kernels treat every row of a batch alike, and that the batches fit into
its memory. Both are tried on made records, under the very adapter that came in, before any budget
is reserved: of each width a record alone among filling, and again in every second row of a batch of
strangers of all lengths, must have the same gradient. A contract is tried with the shortest and the
longest record of each width in all rows, a further adapter of it with one of them in half the rows.

Where kernels do not treat rows alike, a batch is one record from then on, which has no neighbours.
Where memory runs out, batches are halved, down to one record and one reader. Both follow from made
records and last as long as the process; one adapter is tried once.

The proof reads no reader's record, so its outcome says nothing about any.

Example: `prove_alike(model, state, contract, compute)` returns None, or raises `SelfTestError`.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from presspool.client.data.readers import nobody
from presspool.client.engine.compute import Compute
from presspool.client.engine.randomness import SecureRandom
from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.client.engine.step_gradients import StepGradients, record_losses
from presspool.client.engine.together.row_weights import RowWeights, stacked
from presspool.client.engine.together.seat import Seat
from presspool.client.engine.training import RoundWork, private_optimizer
from presspool.common.base.errors import SelfTestError
from presspool.common.contract.contract import Contract
from presspool.common.models.adapters import State, digest, load, trainable
from presspool.common.models.frozen_trunk import FrozenTrunk

log = logging.getLogger(__name__)

Record = tuple[Tensor, int]
"""Token ids, and which of the made records gives what is to be said."""


def prove_alike(model: nn.Module, state: State, contract: Contract, compute: Compute) -> None:
    """Try the contract's batches on made records, and make them smaller where that is needed.

    Args:
        model: the contract's; holds `state` afterwards.
        state: the adapter that came in.
        contract: the frozen contract.
        compute: what training will use.

    Raises:
        SelfTestError: a single record of the greatest length does not fit into memory, or this
            machine computes one record in two ways.
    """
    received, known = (contract.digest, digest(state)), compute.proved
    if received == known:
        return
    whole = known is None or known[0] != contract.digest
    load(model, state)
    compute.prepare(model)
    while not _fits(model, contract, compute):
        if compute.activations.texts:  # how much readers' texts have made of them decides nothing
            compute.activations.forget(compute.activations.texts)
            continue
        if not compute.halve(contract.task.max_length, list(trainable(model).values())):
            raise SelfTestError(
                "one record of the greatest length does not fit into memory",
                where="[task] max_length",
                got=contract.task.max_length,
                advice="free memory, or agree on a smaller model, rank or max_length",
            )
    if not _alike(model, contract, compute, whole=whole):
        log.warning("this machine computes the rows of a batch differently: one row a batch")
        compute.tokens, compute.by_rows = 1, None
    if compute.tokens == 1 and not _alike(model, contract, compute, whole=whole):
        raise SelfTestError(
            "one made record, computed twice, has two gradients",
            expected="the same bits each time",
            advice="do not train on this machine; report it",
        )
    compute.proved = received


def _fits(model: nn.Module, contract: Contract, compute: Compute) -> bool:
    """Whether memory holds a batch of each width beside the rows of a whole group of readers."""
    trunk = compute.trunk(model, contract)
    population = max(contract.outlets.values())
    work = RoundWork(round=1, turn=1, population=population, random=SecureRandom())
    parameters = trainable(model)
    optimizer = private_optimizer(parameters, contract, work, steps_before=0)
    seat = Seat(parameters=parameters, optimizer=optimizer, readers=nobody(trunk.task))
    made = _Made(trunk)
    try:
        with ReaderGradients(model) as engine:
            step = StepGradients(engine, trunk, contract, compute, population=population)
            for width in trunk.shapes.widths:
                longest = width if width == trunk.shapes.max_length else width - 1
                batch = made.records([longest] * trunk.shapes.rows(width))
                _gradients(engine, trunk, made.said(batch), batch, compute)
            if rows := step.rehearse():
                seat.accumulate(rows)
    except (MemoryError, RuntimeError):
        log.warning("memory ran out on made records", exc_info=True)
        return False
    finally:
        for parameter in optimizer.params:
            parameter.summed_grad = None
    return True


def _alike(model: nn.Module, contract: Contract, compute: Compute, *, whole: bool) -> bool:
    trunk = compute.trunk(model, contract)
    made = _Made(trunk)
    with ReaderGradients(model) as engine:
        for number, (shortest, longest) in enumerate(made.ranges()):
            for length in {shortest, longest} if whole else {(shortest, longest)[number % 2]}:
                (subject,) = made.records([length])
                said = made.said([subject])
                alone = _gradients(engine, trunk, said, [subject], compute)
                for first in (0, 1) if whole else (number % 2,):
                    rows, crowd = made.crowd(subject, shortest, longest, first=first)
                    said = made.said(crowd)
                    if not _same(_gradients(engine, trunk, said, crowd, compute), rows, alone):
                        return False
    return True


def try_rows(model: nn.Module, state: State, contract: Contract, compute: Compute) -> None:
    """Try whether rows with an adapter each are what they are where all have the same one.

    Only outlets of a simulation share batches after their first step; where this machine's kernels
    do not give them the same bits, they take further steps one after another.

    Args:
        model: the contract's; holds `state` afterwards.
        state: the adapter that came in.
        contract: the frozen contract.
        compute: learns the outcome; one contract is tried once.
    """
    if compute.by_rows is not None and compute.by_rows[0] == contract.digest:
        return
    load(model, state)
    compute.prepare(model)
    try:
        with ReaderGradients(model) as engine:
            trunk = compute.trunk(model, contract)
            same = engine.by_rows and _alike_by_rows(engine, trunk, compute)
    except (MemoryError, RuntimeError):  # as in `_fits`; here it is a matter of speed alone
        log.warning("outlets take later steps one after another", exc_info=True)
        same = False
    compute.by_rows = contract.digest, same


def _alike_by_rows(engine: ReaderGradients, trunk: FrozenTrunk, compute: Compute) -> bool:
    made, own = _Made(trunk), {name: p.detach() for name, p in engine.trained.items()}
    strange = [{n: made.moved(p, size) for n, p in own.items()} for size in (0.01, 1.0)]
    stacks = stacked(engine.trained, [own, *strange])
    for number, (shortest, longest) in enumerate(made.ranges()):
        (subject,) = made.records([(shortest, longest)[number % 2]])
        alone = _gradients(engine, trunk, made.said([subject]), [subject], compute)
        for first in (0, 1):
            rows, crowd = made.crowd(subject, shortest, longest, first=first)
            seat_of = 1 + torch.arange(len(crowd)) // 2 % 2
            seat_of[rows] = 0
            with engine.rows_of(RowWeights(stacks, seat_of)):
                found = _gradients(engine, trunk, made.said(crowd), crowd, compute)
            if not _same(found, rows, alone):
                return False
    return True


class _Made:
    """Made records of any length: random ids, the same in each process."""

    def __init__(self, trunk: FrozenTrunk) -> None:
        self._trunk, self._shapes, self._vocabulary = trunk, trunk.shapes, trunk.vocabulary
        self._words = dict[int, int]()
        self._random = SecureRandom.deterministic("alike")

    def ranges(self) -> Iterator[tuple[int, int]]:
        """The least and the greatest length of each width; `max_length` has batches of its own."""
        shortest = 1
        for width in self._shapes.widths:
            if shortest < width:
                yield shortest, width - 1
            shortest = width
        yield self._shapes.max_length, self._shapes.max_length

    def records(self, lengths: Sequence[int]) -> list[Record]:
        """A record of each length."""
        return [(self._ids(length), number) for number, length in enumerate(lengths)]

    def said(self, batch: Sequence[Record]) -> pa.Table:
        """What a batch's records say: about as much as its width holds.

        Of places behind the last token that counts a causal model's gradient knows nothing.
        """
        width = self._shapes.width(len(batch[0][0]))
        if width not in self._words:
            counts = range(1, width + 1)
            self._words[width] = max(1, bisect_left(counts, 1, key=lambda n: self._wider(n, width)))
        numbers = [number for _, number in batch]
        return self._trunk.task.made([self._words[width]] * (1 + max(numbers))).take(numbers)

    def _wider(self, words: int, width: int) -> bool:
        """Whether made records of so many words, the first few of them, have more tokens."""
        task = self._trunk.task
        texts = task.texts(task.made([words] * min(8, self._shapes.rows(width)))).to_pylist()
        return max(len(self._trunk.tokens(text)) for text in texts) > width

    def _ids(self, length: int) -> Tensor:
        words = self._random.words(length) % np.uint64(self._vocabulary)
        return torch.from_numpy(words.astype(np.int64))

    def moved(self, weights: Tensor, size: float) -> Tensor:
        """Other weights of the same shape."""
        words = self._random.words(weights.numel()).astype(np.float64) * 2.0**-63 - 1.0
        return weights + size * torch.from_numpy(words).view_as(weights).to(weights)

    def crowd(
        self, subject: Record, shortest: int, longest: int, *, first: int
    ) -> tuple[slice, list[Record]]:
        """A full batch: the subject in every second row, strangers of any length in the others."""
        rows = self._shapes.rows(self._shapes.width(len(subject[0])))
        spread = self._random.words(rows) % np.uint64(longest - shortest + 1)
        batch = self.records([shortest + int(more) for more in spread])
        # Of pooled records a batch may have more rows than this one had where it was pooled.
        mine = slice(min(first, rows - 1), rows, 2)
        batch[mine] = [subject] * len(batch[mine])
        return mine, batch


def _gradients(
    engine: ReaderGradients,
    trunk: FrozenTrunk,
    said: pa.Table,
    batch: Sequence[Record],
    compute: Compute,
) -> list[Tensor]:
    """Each trained tensor's (rows, ...) gradients of a batch and its filling."""
    with compute.autocast():
        activations = trunk.run_tokens([ids for ids, _ in batch])
        losses = record_losses(trunk, activations, said)
    engine.backward(losses, torch.arange(len(losses), device=losses.device), len(losses))
    return engine.gradients


def _same(crowd: Sequence[Tensor], rows: slice, alone: Sequence[Tensor]) -> bool:
    """Whether all those rows of a crowd are the first row alone, bit by bit; NaN is like NaN."""
    return all(
        torch.allclose(many[rows], one[:1].expand_as(many[rows]), rtol=0, atol=0, equal_nan=True)
        for many, one in zip(crowd, alone, strict=True)
    )
