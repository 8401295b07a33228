"""One outlet's seat in a pass that several outlets of a worker share.

A seat holds all that is an outlet's own while a round is trained: its records, its adapter, and the
optimiser that clips, sums and noises with its own secret stream. The model that computes is
everybody's: it holds the adapter of the seats whose records are in it. A real outlet trains alone:
its pass has one seat.

Invariants:
    * Nothing that one seat draws, sums or releases can be seen in another.
    * A row goes to the seat whose reader it is of, and to no other.

Example: `Lot.of([(seat, sample)]).table()` are the sample's records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from presspool.client.data.readers import Readers
from presspool.client.engine.optimizer import ReaderOptimizer
from presspool.client.engine.sampling import Integers, Sample


@dataclass(frozen=True, kw_only=True, eq=False)
class Seat:
    """What is one outlet's own in a pass.

    Attributes:
        parameters: its adapter, by name, in the order of the rows that it is given.
        optimizer: over exactly these; what it takes or refuses, it does whole.
        readers: its records.
    """

    parameters: Mapping[str, nn.Parameter]
    optimizer: ReaderOptimizer
    readers: Readers

    def accumulate(self, rows: Sequence[Tensor]) -> None:
        """Clip and sum whole rows; after an error the sum is what it was before.

        Args:
            rows: (readers, *shape) of each parameter.
        """
        optimizer = self.optimizer
        sums = [p.summed_grad for p in optimizer.params]
        for p, row in zip(self.parameters.values(), rows, strict=True):
            p.grad_sample = row  # type: ignore[attr-defined]
        try:
            optimizer.accumulate()
        except Exception:
            for p, total in zip(optimizer.params, sums, strict=True):
                p.summed_grad = total
            # Opacus would take the signal that is still waiting for that of a later step.
            optimizer._step_skip_queue.clear()
            raise

    @torch.no_grad()
    def put(self, trained: Mapping[str, nn.Parameter]) -> None:
        """Have a model's trained parameters, of the same names, compute with this adapter."""
        for name, parameter in trained.items():
            parameter.copy_(self.parameters[name])

    def state(self) -> dict[str, NDArray[np.float32]]:
        """A copy of its adapter."""
        return {
            name: p.detach().to("cpu", copy=True).float().numpy()
            for name, p in self.parameters.items()
        }

    def noised(self) -> dict[str, NDArray[Any]]:
        """The last step's noised sums, int64 in steps of the grid."""
        own = {
            id(p): sums for p, sums in zip(self.optimizer.params, self.optimizer.noisy, strict=True)
        }
        return {name: own[id(p)].view_as(p).cpu().numpy() for name, p in self.parameters.items()}


Drawn = tuple[Seat, Sample]
"""Whom an outlet has drawn for a step."""


@dataclass(frozen=True, kw_only=True)
class Lot:
    """The samples of several seats, one after another, as one.

    Attributes:
        seats: whose samples they are.
        sample: all of them; a record's index is one of its own seat's records.
        seat_of: (readers,) position of each reader's seat, non-decreasing.
    """

    seats: Sequence[Seat]
    sample: Sample
    seat_of: Integers

    @classmethod
    def of(cls, drawn: Sequence[Drawn]) -> Lot:
        """One sample of all."""
        samples = [sample for _, sample in drawn]
        counts = np.array([sample.readers for sample in samples], np.int64)
        before = np.cumsum(counts) - counts
        none = np.empty(0, np.int64)
        readers = [s.reader_of + first for s, first in zip(samples, before, strict=True)]
        return cls(
            seats=[seat for seat, _ in drawn],
            sample=Sample(
                records=np.concatenate([none, *(s.records for s in samples)]),
                reader_of=np.concatenate([none, *readers]),
                readers=int(counts.sum()),
            ),
            seat_of=np.repeat(np.arange(len(drawn), dtype=np.int64), counts),
        )

    def split(self, readers: int) -> Iterator[Lot]:
        """Parts of at most `readers` whole readers each, in order; none of an empty sample."""
        for number, part in enumerate(self.sample.split(readers)):
            first = number * readers
            seat_of = self.seat_of[first : first + readers]
            yield Lot(seats=self.seats, sample=part, seat_of=seat_of)

    def table(self) -> pa.Table:
        """The records, in the order of the sample."""
        everybody, none = (
            self.by_seat(self.sample.reader_of),
            self.seats[0].readers.table.slice(0, 0),
        )
        tables = [seat.readers.take(self.sample.records[mine]) for seat, mine in everybody]
        return pa.concat_tables(tables).combine_chunks() if tables else none  # rows are soon taken

    def by_seat(self, readers: Integers) -> Iterator[tuple[Seat, Integers]]:
        """Each seat that has some of the readers, with the places of its own among them."""
        seat_of = self.seat_of[readers]
        for number in np.unique(seat_of):
            yield self.seats[number], np.flatnonzero(seat_of == number)
