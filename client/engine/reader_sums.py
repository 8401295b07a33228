"""What one backward pass collects: for every trained parameter, one row per reader.

A reader's records lie next to each other in a batch, so one matrix product over them gives the
reader's sum at once: where a reader has several records, no gradient per record is ever stored.

Invariants:
- Rows of different readers never meet: a reader's not-a-number stays in that reader's row.
- A gradient whose first dimension is not the records is refused.
- Sums are float32, whatever precision the layers computed in.

Example:
    >>> sums = ReaderSums([2, 1])                    # reader 0 has two records, reader 1 has one
    >>> weight = torch.nn.Parameter(torch.zeros(1, 2))
    >>> inputs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    >>> sums.outer(weight, torch.ones(3, 1), inputs)
    >>> sums.of(weight).squeeze(1)
    tensor([[1., 1.],
            [5., 5.]])
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from presspool.client.engine.together.row_weights import RowWeights
from presspool.common.base.errors import EngineError


@dataclass(frozen=True, kw_only=True)
class RowRun:
    """Neighbouring readers that have equally many records, so that a reshape groups them.

    Attributes:
        readers: their rows in a per-reader tensor.
        records: their rows in a per-record tensor.
        each: records per reader; may be 0.
    """

    readers: slice
    records: slice
    each: int

    def fold(self, per_record: Tensor) -> Tensor:
        """(records, ..., d) -> (readers of this run, records a reader x ..., d), without a copy."""
        rows = self.readers.stop - self.readers.start
        return per_record[self.records].reshape(rows, -1, per_record.shape[-1])


def _runs(counts: Sequence[int]) -> list[RowRun]:
    """The batch cut into as few runs as possible, readers without a record included."""
    runs, reader, record = [], 0, 0
    for each, group in groupby(counts):
        rows = len(list(group))
        readers, records = slice(reader, reader + rows), slice(record, record + rows * each)
        runs.append(RowRun(readers=readers, records=records, each=each))
        reader, record = readers.stop, records.stop
    return runs


class ReaderSums:
    """The per-reader sums of one backward pass, in float32.

    Args:
        counts: records of each reader, in the order of the batch; zeros allowed.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        self.readers, self.records = len(counts), sum(counts)
        self._runs = _runs(counts)
        self._sums: dict[Tensor, Tensor] = {}

    def take(self, where: str, gradient: Tensor) -> None:
        """Refuses a layer output whose first dimension cannot be the records.

        Args:
            where: name of the layer, for the message.
            gradient: (records, ..., features), of the loss with respect to the layer's output.

        Raises:
            EngineError: the first dimension has another size, or there is only one dimension.
        """
        if gradient.dim() < 2 or gradient.shape[0] != self.records:
            raise EngineError(
                "a trained layer does not have the records as its first dimension",
                where=where,
                expected=f"({self.records}, ..., features)",
                got=tuple(gradient.shape),
                advice="leave this layer out of the adapter's targets",
            )

    def outer(self, parameter: Tensor, left: Tensor, right: Tensor) -> None:
        """Adds, per reader, the sum over records and tokens of `left` times `right` transposed.

        Args:
            parameter: of shape (a, b), or any shape of a x b numbers.
            left: (records, ..., a).
            right: (records, ..., b).
        """
        flip = left.shape[-1] > right.shape[-1]  # the short side first: 3 times faster on a CPU
        rows, columns = (right, left) if flip else (left, right)
        out = rows.new_empty((self.readers, rows.shape[-1], columns.shape[-1]))
        for run in self._runs:
            if run.each:
                torch.bmm(run.fold(rows).mT, run.fold(columns), out=out[run.readers])
            else:
                out[run.readers].zero_()
        self._add(parameter, out.mT if flip else out)

    def rows(self, parameter: Tensor, per_token: Tensor) -> None:
        """Adds, per reader, the sum over records and tokens of `per_token`.

        Args:
            parameter: of shape (d,).
            per_token: (records, ..., d).
        """
        out = per_token.new_zeros((self.readers, per_token.shape[-1]))
        for run in self._runs:
            if run.each:
                out[run.readers] = run.fold(per_token).sum(1)
        self._add(parameter, out)

    def _add(self, parameter: Tensor, per_reader: Tensor) -> None:
        per_reader = per_reader.float().contiguous()
        known = self._sums.get(parameter)
        self._sums[parameter] = per_reader if known is None else known.add_(per_reader)

    def of(self, parameter: Tensor) -> Tensor | None:
        """(readers, *parameter.shape) float32, or None where nothing arrived."""
        return self._sums.get(parameter)


class IsolationProof(ReaderSums):
    """Takes a pass in which every second record has loss weight 0, and wants silence from those.

    Where a record's gradient depends on another record (batch statistics, a loss that compares
    records, a layer that is not batch-first although the sizes agree), one reader could move
    another reader's clipped gradient, and the clipping norm would bound nothing.
    """

    def take(self, where: str, gradient: Tensor) -> None:
        """As `ReaderSums.admit`, and the gradient of every second record must be exactly zero.

        Raises:
            EngineError: a record's gradient depends on another record.
        """
        super().take(where, gradient)
        # Not-a-number is no proof of mixing: zero times a record's own infinity makes one too.
        if gradient[1::2].nan_to_num(0.0, 0.0, 0.0).any():
            raise EngineError(
                "records of one batch are mixed: one record's loss reaches another record",
                where=where,
                expected="each record's loss to depend on that record alone",
                advice="no batch norms, no loss that compares or averages over records",
            )

    def outer(self, parameter: Tensor, left: Tensor, right: Tensor) -> None:
        """Takes nothing: a proof collects no gradient."""

    def rows(self, parameter: Tensor, per_token: Tensor) -> None:
        """Takes nothing: a proof collects no gradient."""


class Inbox:
    """Where the layers of one model deliver: the sums of the backward pass now running.

    Attributes:
        rows: whose weights each row has; None where all have the model's.
    """

    def __init__(self) -> None:
        self._sums: ReaderSums | None = None
        self.rows: RowWeights | None = None

    @contextmanager
    def rows_of(self, rows: RowWeights | None) -> Iterator[None]:
        """Has the layers compute each row with weights of its own inside the block."""
        self.rows = rows
        try:
            yield
        finally:
            self.rows = None

    @contextmanager
    def receiving(self, sums: ReaderSums) -> Iterator[None]:
        """Directs everything that arrives inside the block to `sums`."""
        self._sums = sums
        try:
            yield
        finally:
            self._sums = None

    def take(self, where: str, gradient: Tensor) -> ReaderSums:
        """The sums to write to, once they have admitted the layer's gradient.

        Raises:
            EngineError: no pass is running, or the gradient is refused.
        """
        if self._sums is None:
            raise EngineError(
                "a backward pass outside the engine",
                where=where,
                expected="ReaderGradients.backward(losses, ...)",
                got="a tensor's own backward()",
                advice="close the engine before training without per-reader gradients",
            )
        self._sums.take(where, gradient)
        return self._sums
