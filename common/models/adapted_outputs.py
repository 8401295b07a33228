"""What a model says of public or own records with the adapter that it holds, batch by batch.

Whoever judges an adapter and whoever uses it computes here, so that an editor gets the very answers
that a run was measured by.

Invariant: nothing is trained, and what is computed stays in memory.

Example: `AdaptedOutputs(build(contract), contract).predictions(records)[0].answer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from presspool.common.contract.contract import Contract
from presspool.common.contract.contract_schema import UNSURE
from presspool.common.models.frozen_trunk import ActivationCache, FrozenTrunk

if TYPE_CHECKING:
    from presspool.common.tasks.task import Task

AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model says of one record.

    Attributes:
        answer: a label, or what the model writes; `UNSURE` in place of one that is not given.
        probabilities: of each label, in the contract's order; empty where the model writes.
    """

    answer: str
    probabilities: Mapping[str, float] = field(default_factory=dict)


class AdaptedOutputs:
    """A contract's model at work.

    Args:
        model: the contract's, moved to the GPU where there is one; what it holds is what is used.
        contract: says model and task.
        activations: kept from earlier records, if any.
        unsure_up_to: answers that are no surer are not given; None gives all.
    """

    def __init__(
        self,
        model: nn.Module,
        contract: Contract,
        activations: ActivationCache | None = None,
        *,
        unsure_up_to: float | None = None,
    ) -> None:
        self._unsure_up_to = unsure_up_to
        model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self._trunk = FrozenTrunk(model, contract)
        self._activations = ActivationCache() if activations is None else activations

    @property
    def task(self) -> Task[Any]:
        """The contract's, which took the model."""
        return self._trunk.task

    def batches(self, records: pa.Table) -> Iterator[tuple[NDArray[np.int64], pa.Table, Tensor]]:
        """Where some records stand, the records, and what the model says of them."""
        texts: list[str] = self.task.texts(records).to_pylist()
        # Similar lengths together: fuller batches, same scores.
        order = np.argsort([len(text) for text in texts], kind="stable")
        for start in range(0, len(order), AT_ONCE):
            some = order[start : start + AT_ONCE]
            found = self._activations.get(self._trunk, [texts[i] for i in some.tolist()])
            for batch in self._trunk.batches(found):
                outputs = self._trunk.outputs([found[place] for place in batch])[: len(batch)]
                yield some[batch], records.take(some[batch]), outputs

    @torch.inference_mode()
    def predictions(self, records: pa.Table) -> list[Prediction]:
        """The answer to each record, in their order; only the task's `inputs` need be there."""
        if (written := self.task.write(records)) is not None:
            return [Prediction(answer=answer) for answer in written]
        found = dict[int, Prediction]()
        for places, some, outputs in self.batches(records):
            answers = self._given(self.task.predict(outputs, some), outputs)
            said = zip(answers, self.task.probabilities(outputs), strict=True)
            made = (Prediction(answer=answer, probabilities=chances) for answer, chances in said)
            found |= zip(places.tolist(), made, strict=True)
        return [found[i] for i in range(len(found))]

    def _given(self, answers: list[str], outputs: Tensor) -> list[str]:
        """The answers, without those that are not sure enough."""
        if self._unsure_up_to is None:
            return answers
        sure = self.task.sureness(outputs).tolist()
        # What is not a number is not sure either.
        pairs = zip(answers, sure, strict=True)
        return [answer if how > self._unsure_up_to else UNSURE for answer, how in pairs]
