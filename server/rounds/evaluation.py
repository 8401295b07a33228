"""How well the pool's adapter does on a public held-out file at the coordinator.

Only public data is ever evaluated: a metric on readers' data would be a release that nobody
charged. What the frozen layers make of the file's records is computed once and used after every
round. A large file is read whole before the first round and after the last; the rounds between are
measured on `BETWEEN` of its records, always the same ones, spread evenly over it. What a model
writes itself is asked of `WRITTEN` of them, and not between rounds: it takes a pass a token.

Example: `Evaluation(contract, EvaluationData(data=path).records(contract)).scores(state)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from presspool.common.base.foreign_text import one_line
from presspool.common.contract.contract import Contract
from presspool.common.models.adapted_outputs import AdaptedOutputs
from presspool.common.models.adapters import State, load
from presspool.common.models.frozen_trunk import ActivationCache
from presspool.common.models.models import build
from presspool.common.runs.results import WritingSample
from presspool.common.tasks.task import Judged, Task


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How well an adapter does on the held-out file.

    Attributes:
        metrics: the task's, by name; empty where nothing was measured, None where one cannot be.
    """

    metrics: Mapping[str, float | None] = field(default_factory=dict)


BETWEEN, WRITTEN, SHOWN = 1000, 64, 10
NOT_MEASURED = Scores()


def spread(records: int, most: int) -> NDArray[np.int64]:
    """Places of at most so many of a file's records, spread evenly."""
    count = min(most, records)
    return np.arange(count) * records // max(1, count)


class Evaluation:
    """A contract's model, judged on a held-out file.

    Args:
        contract: says model and task.
        held_out: the file's records, as the task parses them.
        activations: kept from earlier evaluations, if any.
        model: the contract's, where one is built already; holds other states afterwards.
    """

    def __init__(
        self,
        contract: Contract,
        held_out: pa.Table,
        activations: ActivationCache | None = None,
        *,
        model: nn.Module | None = None,
    ) -> None:
        self._model = build(contract) if model is None else model
        self._outputs = AdaptedOutputs(self._model, contract, activations)
        self._held_out = held_out

    @property
    def task(self) -> Task[Any]:
        """The contract's, which took the model."""
        return self._outputs.task

    @torch.inference_mode()
    def scores(self, state: State, *, between: bool = False, writes: bool = True) -> Scores:
        """The task's metrics of an adapter state.

        Args:
            state: the adapter.
            between: on some of the records only (`spread`), and nothing is written.
            writes: whether the model is asked to write, if it does; its other metrics need it not.
        """
        held_out = self._held_out
        if between:
            held_out = held_out.take(spread(len(held_out), BETWEEN))
        whole = self._judged(state, held_out)
        written = self._written(held_out) if writes and not between else None
        if written is not None:
            whole["written"] = written
        return Scores(metrics=self.task.score(whole, held_out))

    @torch.inference_mode()
    def judged(self, state: State) -> Judged:
        """What the task's metrics need of each record of an adapter's outputs."""
        return self._judged(state, self._held_out)

    def _judged(self, state: State, held_out: pa.Table) -> dict[str, NDArray[Any]]:
        load(self._model, state)
        order, parts = [], list[Judged]()
        for indices, records, outputs in self._outputs.batches(held_out):
            order.append(indices)
            judged = self.task.judge(outputs, records)
            parts.append({name: values.cpu().numpy() for name, values in judged.items()})
        back = np.argsort(np.concatenate(order))
        return {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}

    def _written(self, held_out: pa.Table) -> NDArray[np.object_] | None:
        """What the model writes, (records,) str, None of most; None if it writes nothing."""
        places = spread(len(held_out), WRITTEN)
        answers = self.task.write(self.task.begun(held_out.take(places)))
        if answers is None:
            return None
        whole = np.full(len(held_out), None, object)
        whole[places] = answers
        return whole

    @torch.inference_mode()
    def samples(self, before: State, after: State) -> tuple[WritingSample, ...]:
        """What the model writes under either adapter, for a few records; none if it does not."""
        task, few = self.task, self._held_out.take(spread(len(self._held_out), SHOWN))
        written = []
        for state in (before, after):
            load(self._model, state)
            written.append(task.write(task.begun(few)))
        return tuple(
            WritingSample(asked=asked, answer=answer, before=first, after=last)
            for asked, answer, first, last in (
                map(one_line, (*about, *answers))
                for about, *answers in zip(
                    task.asked(few), *(some or () for some in written), strict=False
                )
            )
        )

    def predictions(self, state: State) -> list[str]:
        """The adapter's answer to each record, in the order of the file."""
        load(self._model, state)
        return [said.answer for said in self._outputs.predictions(self._held_out)]
