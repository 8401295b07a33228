"""The clipped gradients of one step's sample, in batches of public shapes.

Readers come in groups of a public size. A group's records are sorted into batches by their own
lengths (`presspool.common.models.batch_shapes`); the gradient of each record is a row of its batch
and is added to its reader's row. When all of a group's records are in, the rows are whole: they are
clipped and summed.

Invariants:
    * A reader's row depends on that reader's records, the adapter and public numbers alone, to the
      last bit: a record's gradient does not know its neighbours, and a reader's records are added
      one after another, narrow ones first, in the order in which the reader has them.
    * A loss is a record's own, weighted with one by the number of its reader's records before
      anything is summed; a mean over a batch would let one reader's length change another's.
    * Memory is bounded by public numbers: no reader, whatever the records, needs more than others.
    * Nothing is raised for what is in a record: a batch that fails is done again record by record,
      each among filling, and the record that cannot be computed is left out; likewise a reader.

Example: `StepGradients(engine, optimizer, trunk, readers, contract, compute).add(sample)`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from presspool.client.data.readers import Readers
from presspool.client.engine.compute import Compute
from presspool.client.engine.optimizer import ReaderOptimizer
from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.client.engine.sampling import Sample
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
        optimizer: clips and sums the readers' rows; what it takes or refuses, it does whole.
        trunk: the contract's model.
        readers: the outlet's records.
        contract: the frozen contract.
        compute: how much at a time, and the cache.
    """

    def __init__(
        self,
        engine: ReaderGradients,
        optimizer: ReaderOptimizer,
        trunk: FrozenTrunk,
        readers: Readers,
        contract: Contract,
        compute: Compute,
    ) -> None:
        self._engine, self._optimizer, self._trunk = engine, optimizer, trunk
        self._readers, self._compute = readers, compute
        # A reader of one record at most is whole with its batch: nothing has to wait for others.
        self._one_each = contract.plan.records_per_reader == 1 or contract.plan.unit == "record"
        # A group, and its rows, are as large as public numbers say, whoever is drawn.
        population = math.ceil(optimizer.expected_batch_size / contract.plan.sampling_rate)
        self._group = min(compute.readers_at_once(optimizer.params), max(1, population))
        self._rows = [] if self._one_each else self._zeros()

    def add(self, sample: Sample) -> None:
        """Add the sample's clipped gradients to the step's sum."""
        for group in [sample] if self._one_each else sample.split(self._group):
            self._add_group(group)

    def rehearse(self) -> None:
        """Clip and sum a whole group of empty rows, to see that the memory is there."""
        if not self._one_each:
            whole = np.arange(self._group)
            self._accumulate([rows[whole] for rows in self._rows])

    def _add_group(self, group: Sample) -> None:
        table = self._readers.take(group.records)
        texts = self._texts(table)
        lengths = [self._length(text) for text in texts]
        known = [place for place, length in enumerate(lengths) if length]
        for rows in self._rows:
            rows[: group.readers] = 0.0
        for batch in self._trunk.shapes.batches([lengths[place] for place in known]):
            places = np.array(known)[batch]
            _each(places, lambda some: self._add_batch(group, table, texts, some))
        if self._rows:
            everybody = np.arange(group.readers)
            _each(everybody, lambda some: self._accumulate([r[some] for r in self._rows]))

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
            return self._compute.activations.length(self._trunk, text) if text else 0
        except Exception:
            log.exception("a record cannot be read and is left out")
            return 0

    def _add_batch(self, group: Sample, table: pa.Table, texts: list[str], places: Places) -> None:
        """Compute the records at some places of a group, and add them to their readers' rows."""
        with self._compute.autocast():
            some = [texts[place] for place in places]
            activations = self._compute.activations.get(self._trunk, some)
            losses = record_losses(self._trunk, activations, table.take(places))
        weights = torch.zeros(len(losses))
        weights[: len(places)] = torch.from_numpy(1.0 / group.records_of_readers[places])
        each = torch.arange(len(losses), device=losses.device)
        self._engine.backward(losses * weights.to(losses.device), each, len(losses))
        gradients = [p.grad_sample[: len(places)] for p in self._optimizer.params]
        if self._one_each:
            self._accumulate(gradients)
        else:
            add_rows(self._rows, gradients, group.reader_of[places])

    def _zeros(self) -> list[Tensor]:
        """A row for each reader of a group, of each parameter: (readers, *shape) float32."""
        return [
            p.new_zeros((self._group, *p.shape), dtype=torch.float32)
            for p in self._optimizer.params
        ]

    def _accumulate(self, rows: Sequence[Tensor]) -> None:
        """Clip and sum whole rows; after an error the sum is what it was before."""
        optimizer = self._optimizer
        sums = [p.summed_grad for p in optimizer.params]
        for p, row in zip(optimizer.params, rows, strict=True):
            p.grad_sample = row
        try:
            optimizer.accumulate()
        except Exception:
            for p, total in zip(optimizer.params, sums, strict=True):
                p.summed_grad = total
            # Opacus would take the signal that is still waiting for that of a later step.
            optimizer._step_skip_queue.clear()
            raise


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
    turn = [int((reader_of[:place] == reader).sum()) for place, reader in enumerate(reader_of)]
    try:
        for number in range(max(turn) + 1):
            chosen = np.flatnonzero(np.array(turn) == number)
            readers = torch.from_numpy(reader_of[chosen])
            for total, gradient in zip(rows, gradients, strict=True):
                total.index_add_(0, readers.to(total.device), gradient[chosen])
    except Exception:
        for total, old in zip(rows, before, strict=True):
            total[touched] = old
        raise
