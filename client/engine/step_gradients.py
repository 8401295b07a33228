"""The clipped gradients of one step's samples, in batches of public shapes.

Readers come in groups of a public size, those of several outlets where these train in one pass
(`presspool.client.engine.together.seat`). A group's records are sorted into batches by their own
lengths (`presspool.common.models.batch_shapes`); the gradient of each record is a row of its batch
and is added to its reader's row. When all of a group's records are in, the rows are whole: each
outlet clips and sums those of its own readers.

Invariants:
    * What an outlet sums does not depend on who else is in the pass, to the last bit: neither does
      a row, and rows are counted in whole numbers, which add up in any order.
    * A reader's row depends on that reader's records, the adapter and public numbers alone, to the
      last bit: a record's gradient does not know its neighbours, and a reader's records are added
      one after another, narrow ones first, in the order in which the reader has them.
    * A loss is a record's own, weighted with one by the number of its reader's records before
      anything is summed; a mean over a batch would let one reader's length change another's.
    * Memory is bounded by public numbers: no reader, whatever the records, needs more than others.
    * Nothing is raised for what is in a record: a batch that fails is done again record by record,
      each among filling, and the record that cannot be computed is left out; likewise a reader.

Example: `StepGradients(engine, trunk, contract, compute, population=30).add([(seat, sample)])`.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from presspool.client.engine.compute import Compute
from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.client.engine.together.row_weights import RowWeights, Stacks, stacked
from presspool.client.engine.together.seat import Drawn, Lot
from presspool.common.contract.contract import Contract
from presspool.common.models.frozen_trunk import FrozenTrunk

log = logging.getLogger(__name__)

Places = NDArray[np.int64]


def record_losses(trunk: FrozenTrunk, activations: Sequence[Tensor], records: pa.Table) -> Tensor:
    """The task's loss of each record on its own, never a batch mean.

    Args:
        trunk: gives shapes and outputs.
        activations: of one of the trunk's `batches`.
        records: as many.

    Returns:
        (rows,) float32: the losses of the records, then those of the made records that fill up.
    """
    outputs, filled = trunk.outputs(activations), records.select(list(trunk.task.columns))
    if missing := len(outputs) - len(records):  # a table of no made records may have no types
        filling = trunk.task.made([1] * missing).select(filled.column_names)
        filled = pa.concat_tables([filled, filling])
    return trunk.task.losses(outputs, filled)


class StepGradients:
    """Turns samples into clipped sums.

    Args:
        engine: attached to the trunk's model.
        trunk: the contract's model.
        contract: the frozen contract.
        compute: how much at a time, and the cache.
        population: declared readers of all outlets of the pass together.
    """

    def __init__(
        self,
        engine: ReaderGradients,
        trunk: FrozenTrunk,
        contract: Contract,
        compute: Compute,
        *,
        population: int,
    ) -> None:
        self._engine, self._trunk, self._compute = engine, trunk, compute
        self._trained = list(engine.trained.values())
        # A reader of one record at most is whole with its batch: nothing has to wait for others.
        self._one_each = contract.plan.records_per_reader == 1 or contract.plan.unit == "record"
        # A group, and its rows, are as large as public numbers say, whoever is drawn.
        self._group = min(compute.readers_at_once(self._trained), max(1, population))
        self._rows = [] if self._one_each else self._zeros()
        self._stacks: Stacks | None = None

    def add(self, drawn: Sequence[Drawn], *, by_rows: bool = False) -> None:
        """Add the samples' clipped gradients to the sums of their seats.

        Args:
            drawn: of seats whose adapter is the one that the model holds.
            by_rows: each has its own instead, and each row is computed with its seat's.
        """
        whole = Lot.of(drawn)
        adapters = [seat.parameters for seat in whole.seats]
        self._stacks = stacked(self._engine.trained, adapters) if by_rows else None
        for lot in [whole] if self._one_each else whole.split(self._group):
            self._add_lot(lot)

    def rehearse(self) -> list[Tensor]:
        """A whole group of empty rows, to see that the memory is there to clip and sum them."""
        whole = np.arange(self._group)
        return [rows[whole] for rows in self._rows]

    def _add_lot(self, lot: Lot) -> None:
        table = lot.table()
        texts = self._texts(table)
        with self._compute.autocast():  # as below: a batch that trains fills no frozen one
            self._compute.activations.run_ahead(self._trunk, filter(None, texts))
        lengths = [self._length(text) for text in texts]
        known = np.flatnonzero(lengths)
        for rows in self._rows:
            rows[: lot.sample.readers] = 0.0
        for batch in self._trunk.shapes.batches([lengths[place] for place in known]):
            _each(known[batch], lambda some: self._add_batch(lot, table, texts, some))
        if self._rows:
            self._accumulate(lot, np.arange(lot.sample.readers), self._rows)

    def _texts(self, table: pa.Table) -> list[str]:
        """What the model reads of each record; "" of one whose text its task cannot make."""
        try:
            texts: list[str] = self._trunk.task.texts(table).to_pylist()
        except Exception:
            if len(table) < 2:
                log.exception("a record has no text and is left out")
                return [""] * len(table)
            return [self._texts(table.slice(place, 1))[0] for place in range(len(table))]
        return texts

    def _length(self, text: str) -> int:
        """Tokens of a text; 0 where there is none or it cannot be read."""
        try:
            with self._compute.autocast():
                return self._compute.activations.length(self._trunk, text) if text else 0
        except Exception:
            log.exception("a record cannot be read and is left out")
            return 0

    def _add_batch(self, lot: Lot, table: pa.Table, texts: list[str], places: Places) -> None:
        """Compute the records at some places of a lot, and add them to their readers' rows."""
        some = [texts[place] for place in places]
        with self._compute.autocast():  # as it was proved on made records
            activations = self._compute.activations.get(self._trunk, some)
        readers = lot.sample.reader_of[places]
        with self._engine.rows_of(self._row_weights(lot.seat_of[readers], activations)):
            with self._compute.autocast():
                losses = record_losses(self._trunk, activations, table.take(places))
            weights = torch.zeros(len(losses))
            weights[: len(places)] = torch.from_numpy(1.0 / lot.sample.records_of_readers[places])
            each = torch.arange(len(losses), device=losses.device)
            self._engine.backward(losses * weights.to(losses.device), each, len(losses))
        gradients = [p.grad_sample[: len(places)] for p in self._trained]  # type: ignore[attr-defined]
        if self._one_each:
            self._accumulate(lot, readers, gradients)
        else:
            add_rows(self._rows, gradients, readers)

    def _row_weights(self, seat_of: Places, activations: Sequence[Tensor]) -> RowWeights | None:
        """Of the rows of a batch; its filling is computed with the first row's weights."""
        if self._stacks is None:
            return None
        filled = np.full(self._trunk.rows(activations), seat_of[0])
        filled[: len(seat_of)] = seat_of
        return RowWeights(self._stacks, torch.from_numpy(filled))

    def _zeros(self) -> list[Tensor]:
        """A row for each reader of a group, of each parameter: (readers, *shape) float32."""
        return [p.new_zeros((self._group, *p.shape), dtype=torch.float32) for p in self._trained]

    @staticmethod
    def _accumulate(lot: Lot, readers: Places, rows: Sequence[Tensor]) -> None:
        """Let each outlet clip and sum the whole rows of its readers.

        Args:
            lot: has them.
            readers: (rows,) whose the rows are.
            rows: of each parameter.
        """
        for seat, mine in lot.by_seat(readers):
            _each(mine, lambda some, seat=seat: seat.accumulate([r[some] for r in rows]))  # type: ignore[misc]


def _each(places: Places, attempt: Callable[[Places], None]) -> None:
    """Attempt all at once, or one by one where that fails, leaving out what fails alone."""
    try:
        attempt(places)
    except Exception:
        if len(places) == 1:
            log.exception("a record or reader cannot be computed and is left out")
            return
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        for place in places:
            _each(np.array([place]), attempt)


def add_rows(rows: Sequence[Tensor], gradients: Sequence[Tensor], reader_of: Places) -> None:
    """Add each record's gradient to its reader's row, those of one reader one after another.

    In each turn a reader occurs once at most, so that the order of additions is that of the
    reader's records also where a device adds in parallel. After an error the rows are what they
    were before.
    """
    touched = np.unique(reader_of)
    before = [total[touched] for total in rows]
    turns = defaultdict[int, Iterator[int]](count)
    turn = np.array([next(turns[reader]) for reader in reader_of.tolist()])
    try:
        for number in range(turn.max() + 1):
            chosen = np.flatnonzero(turn == number)
            readers = torch.from_numpy(reader_of[chosen])
            for total, gradient in zip(rows, gradients, strict=True):
                total.index_add_(0, readers.to(total.device), gradient[chosen])
    except Exception:
        for total, old in zip(rows, before, strict=True):
            total[touched] = old
        raise
