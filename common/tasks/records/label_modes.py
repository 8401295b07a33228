"""What a record's labels are, and what a head's outputs say of them; one class a mode.

* `Single`: one label a record; a logit a label, and their softmax.
* `Ordinal`: one of labels in an order; a logit a step, which says whether to go on from a label to
  the next (continuation ratios: McCullagh & Nelder 1989, section 5.2.5; as a network's loss: Shi,
  Cao & Raschka 2021, section 3). Each step's logit is counted from where all labels are as likely.
* `Multi`: any of the labels; a logit a label, each with a sigmoid of its own.

Invariants:
    * A record's loss hangs on its outputs, its labels and the contract's priors alone. Weights
      stand inside the loss, so that they are clipped with everything else.
    * A label that is rarer by the priors weighs more, and the mean weight of a record that is drawn
      by the priors is 1.

Example:
    >>> import pyarrow as pa
    >>> table = ClassificationTable(labels=("war", "sport"), mode="multi")
    >>> mode_of(table).parse(pa.array(["sport|war", "none", "cup"], pa.large_string())).to_pylist()
    ['war|sport', 'none', None]
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from presspool.common.tasks.records.label_table import BETWEEN, NONE, ClassificationTable

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor


class LabelMode(ABC):
    """One table's labels.

    Attributes:
        table: as given.
        outputs: how many the head has.
    """

    def __init__(self, table: ClassificationTable) -> None:
        self.table, self.outputs = table, len(table.labels)
        self._index = {label: i for i, label in enumerate(table.labels)}

    # --- Records ---------------------------------------------------------------------------------

    def parse(self, written: pa.Array) -> pa.Array:
        """What is kept of what a file has, null where no label is; the label's index, int64.

        Args:
            written: `large_string`, (records,).
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        known = pa.array(self.table.labels, pa.large_string())
        return pc.index_in(written, value_set=known).cast(pa.int64())

    def unknown(self, value: str) -> str:
        """The part of a value that is no label."""
        return value

    def named(self, numbers: Sequence[int]) -> pa.Array:
        """Records of one label each, by its number, as `parse` leaves them."""
        import pyarrow as pa

        return pa.array(numbers, pa.int64())

    def truth(self, kept: pa.ChunkedArray) -> Tensor:
        """The label of each record, (records,) int64; or which it has, (records, labels) bool."""
        import torch

        return torch.from_numpy(kept.to_numpy().copy())

    def counts(self, kept: pa.ChunkedArray) -> list[int]:
        """Records of each label."""
        found: list[int] = self.truth(kept).bincount(minlength=len(self.table.labels)).tolist()
        return found

    # --- Outputs ---------------------------------------------------------------------------------

    @abstractmethod
    def losses(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Each record's weighted loss in nats, (records,).

        Args:
            outputs: (records, `outputs`).
            truth: as `truth` gives it, beside them.
        """

    @abstractmethod
    def chances(self, outputs: Tensor) -> Tensor:
        """How likely each label is, (records, labels), in the outputs' precision."""

    @abstractmethod
    def said(self, outputs: Tensor) -> Tensor:
        """The answers, of the form of `truth`."""

    def answers(self, outputs: Tensor) -> list[str]:
        """The answers in words, as a file has labels."""
        return [self.table.labels[i] for i in self.said(outputs).tolist()]

    def sureness(self, chances: Tensor) -> Tensor:
        """How sure the whole answer to each record is, (records,)."""
        return chances.amax(1)


class Single(LabelMode):
    """One label a record."""

    def losses(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Cross-entropy, weighted by the label."""
        from torch import nn

        return nn.functional.nll_loss(
            self._log_chances(outputs), truth, weight=self._weights(outputs), reduction="none"
        )

    def _log_chances(self, outputs: Tensor) -> Tensor:
        return outputs.log_softmax(1)

    def _weights(self, like: Tensor) -> Tensor | None:
        """1 / (labels · prior) of each label; None where all weigh the same."""
        priors, count = self.table.priors, len(self.table.labels)
        return None if priors is None else like.new_tensor([1 / (count * p) for p in priors])

    def chances(self, outputs: Tensor) -> Tensor:
        """Softmax."""
        return outputs.softmax(1)

    def said(self, outputs: Tensor) -> Tensor:
        """The likeliest label."""
        return outputs.argmax(1)


class Ordinal(Single):
    """One of labels in an order."""

    def __init__(self, table: ClassificationTable) -> None:
        super().__init__(table)
        self.outputs -= 1

    def _log_chances(self, outputs: Tensor) -> Tensor:
        """To end at a label is to go on at each before it, and not at the label itself."""
        import torch
        from torch.nn.functional import logsigmoid, pad

        above = torch.arange(self.outputs, 0, -1, dtype=outputs.dtype, device=outputs.device)
        logits = outputs + above.log()
        reached = pad(logsigmoid(logits).cumsum(1), (1, 0))
        return reached + pad(logsigmoid(-logits), (0, 1))

    def chances(self, outputs: Tensor) -> Tensor:
        """Of each label, between those before and behind it."""
        return self._log_chances(outputs).exp()

    def said(self, outputs: Tensor) -> Tensor:
        """The likeliest label."""
        return self._log_chances(outputs).argmax(1)


class Multi(LabelMode):
    """Any of the labels, none too; what is kept names them in the contract's order."""

    def parse(self, written: pa.Array) -> pa.Array:
        """Labels with `BETWEEN` between them, or `NONE`, in order and each once."""
        import pyarrow as pa

        known = dict[str | None, str | None]()
        values = written.to_pylist()
        for value in {*values} - {None}:
            parts = self._parts(value)
            known[value] = None if parts is None else self._written(parts)
        return pa.array([known.get(value) for value in values], pa.large_string())

    def _parts(self, value: str) -> set[int] | None:
        if value.strip() == NONE:
            return set()
        found = {self._index.get(part.strip(), -1) for part in value.split(BETWEEN)}
        return None if -1 in found else found

    def _written(self, numbers: set[int]) -> str:
        return BETWEEN.join(self.table.labels[i] for i in sorted(numbers)) or NONE

    def unknown(self, value: str) -> str:
        """The first of several that is no label."""
        parts = (part.strip() for part in value.split(BETWEEN))
        return next((part for part in parts if part not in self._index), value)

    def named(self, numbers: Sequence[int]) -> pa.Array:
        """Each label's own name."""
        import pyarrow as pa

        return pa.array([self.table.labels[i] for i in numbers], pa.large_string())

    def truth(self, kept: pa.ChunkedArray) -> Tensor:
        """Which labels each record has."""
        import torch

        values = kept.to_pylist()
        has = torch.zeros(len(values), len(self.table.labels), dtype=torch.bool)
        for row, value in enumerate(values):
            if value != NONE:
                has[row, [self._index[label] for label in value.split(BETWEEN)]] = True
        return has

    def counts(self, kept: pa.ChunkedArray) -> list[int]:
        """Of a record with several labels, in each of them."""
        found: list[int] = self.truth(kept).sum(0).tolist()
        return found

    def losses(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """The sum over all labels of each one's cross-entropy, weighted by whether it is there."""
        from torch import nn

        each = nn.functional.binary_cross_entropy_with_logits(
            outputs, truth.to(outputs.dtype), weight=self._weights(outputs, truth), reduction="none"
        )
        return each.sum(1)

    def _weights(self, like: Tensor, truth: Tensor) -> Tensor | None:
        """1 / (2 · prior) of a label that is there, 1 / (2 · (1 - prior)) of one that is not."""
        priors = self.table.priors
        if priors is None:
            return None
        there = like.new_tensor([1 / (2 * p) for p in priors])
        return there.where(truth, like.new_tensor([1 / (2 * (1 - p)) for p in priors]))

    def chances(self, outputs: Tensor) -> Tensor:
        """Sigmoids."""
        return outputs.sigmoid()

    def said(self, outputs: Tensor) -> Tensor:
        """Every label that is likelier there than not."""
        return outputs > 0

    def answers(self, outputs: Tensor) -> list[str]:
        """The labels that are said, or `NONE`."""
        return [
            self._written({i for i, there in enumerate(row) if there})
            for row in self.said(outputs).tolist()
        ]

    def sureness(self, chances: Tensor) -> Tensor:
        """That of the label it is least sure of: an answer is right as a whole."""
        return chances.maximum(1 - chances).amin(1)


MODES: Mapping[str, type[LabelMode]] = {"single": Single, "multi": Multi, "ordinal": Ordinal}


def mode_of(table: Any) -> LabelMode:
    """The mode that a table names."""
    return MODES[table.mode](table)
