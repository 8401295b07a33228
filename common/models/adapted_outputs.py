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
from presspool.common.models.activation_cache import ActivationCache
from presspool.common.models.frozen_trunk import FrozenTrunk

if TYPE_CHECKING:
    from presspool.common.tasks.task import Judged, Task

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

    Attributes:
        model: as given, for those who look inside.
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
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
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
    def judged(self, records: pa.Table) -> dict[str, NDArray[Any]]:
        """What the task's metrics need of each record, in their order; see `Task.judge`."""
        order: list[NDArray[np.int64]] = []
        parts: list[Judged] = []
        for places, some, outputs in self.batches(records):
            order.append(places)
            found = self.task.judge(outputs, some)
            parts.append({name: values.cpu().numpy() for name, values in found.items()})
        back = np.argsort(np.concatenate(order))
        return {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}

    @torch.inference_mode()
    def predictions(self, records: pa.Table) -> list[Prediction]:
        """The answer to each record, in their order; only the task's `inputs` need be there."""
        if (written := self.task.write(records)) is not None:
            return [Prediction(answer=answer) for answer in written]
        found = dict[int, Prediction]()
        for places, some, outputs in self.batches(records):
            found |= zip(
                places.tolist(), given(self.task, some, outputs, self._unsure_up_to), strict=True
            )
        return [found[i] for i in range(len(found))]


def given(
    task: Task[Any], records: pa.Table, outputs: Tensor, unsure_up_to: float | None
) -> list[Prediction]:
    """The answers that a head's outputs say, without those that are not sure enough.

    Args:
        task: reads them.
        records: of a batch.
        outputs: as many rows.
        unsure_up_to: answers that are no surer are not given; None gives all.
    """
    answers = task.predict(outputs, records)
    if unsure_up_to is not None:
        # What is not a number is not sure either.
        pairs = zip(answers, task.sureness(outputs).tolist(), strict=True)
        answers = [answer if how > unsure_up_to else UNSURE for answer, how in pairs]
    said = zip(answers, task.probabilities(outputs), strict=True)
    return [Prediction(answer=answer, probabilities=chances) for answer, chances in said]
