"""How well the pool's adapter does on a public held-out file at the coordinator.

Only public data is ever evaluated: a metric on readers' data would be a release that nobody
charged. What the frozen layers make of the file's records is computed once and used after every
round. Of a large file each round is measured on `SAMPLE` of its records, always the same ones,
spread evenly over it, so that rounds can be compared; before the first round and after the last all
of it is measured as well, and that figure stands apart. What a model writes itself is asked of
`WRITTEN` of all records, and not between rounds: it takes a pass a token.

Example: `Evaluation(contract, EvaluationData(data=path).records(contract)).scores(state)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from presspool.common.base.foreign_text import visible
from presspool.common.contract.contract import Contract
from presspool.common.models.activation_cache import ActivationCache
from presspool.common.models.adapted_outputs import AdaptedOutputs
from presspool.common.models.adapters import State, digest, load, read
from presspool.common.models.models import build
from presspool.common.runs.results import WholeFile, WritingSample
from presspool.common.tasks.metric import Metric
from presspool.common.tasks.scores.answer_figures import AnswerFigures
from presspool.common.tasks.scores.writing_figures import WritingFigures
from presspool.common.tasks.task import Judged, Task


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How well an adapter does on the held-out file.

    Attributes:
        metrics: the task's, by name; empty where nothing was measured, None where one cannot be.
        whole: the same on every record, where `metrics` are of a sample and all was measured.
        records: how many records there are, where all were measured.
        sample: of how many of them `metrics` are.
    """

    metrics: Mapping[str, float | None] = field(default_factory=dict)
    whole: Mapping[str, float | None] | None = None
    records: int = 0
    sample: int = 0

    def of(self, measures: Sequence[Metric]) -> dict[str, Any]:
        """What a `RoundResult` says of them: a value, or None, for each metric of the task."""
        line = {metric.name: self.metrics.get(metric.name) for metric in measures}
        if self.whole is None:
            return {"metrics": line}
        figures = {name: self.whole.get(name) for name in line}
        whole = WholeFile(records=self.records, sample=self.sample, metrics=figures)
        return {"metrics": line, "whole": whole}


SAMPLE, WRITTEN, SHOWN = 1000, 64, 10
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
        self._last: tuple[State, Judged] | None = None
        self._texts = dict[str, NDArray[np.object_] | None]()

    @property
    def task(self) -> Task[Any]:
        """The contract's, which took the model."""
        return self._outputs.task

    @torch.inference_mode()
    def scores(self, state: State, *, writes: bool = True) -> Scores:
        """The task's metrics of an adapter state, on every record.

        Args:
            state: the adapter.
            writes: whether the model is asked to write, if it does; its other metrics need it not.
        """
        return self._scored(self._judged(state, self._held_out), writes=writes)

    @torch.inference_mode()
    def of_round(self, state: State, *, end: bool) -> Scores:
        """A round's metrics, on the sample that is the same in every round.

        Args:
            state: the adapter after the round.
            end: the first or the last of the run: every record is measured as well.
        """
        held_out, few = self._held_out, spread(len(self._held_out), SAMPLE)
        some = held_out.take(few)
        if not end:
            return Scores(metrics=self.task.score(self._judged(state, some), some))
        judged = self._judged(state, held_out)
        whole = self._scored(judged, writes=True)
        if len(few) == len(held_out):
            return whole
        part = {name: values[few] for name, values in judged.items()}
        line = self.task.score(part, some)
        return replace(whole, metrics=line, whole=whole.metrics, sample=len(few))

    def _scored(self, judged: dict[str, NDArray[Any]], *, writes: bool) -> Scores:
        written = self._written() if writes else None
        more = {} if written is None else {"written": written}
        size = len(self._held_out)
        metrics = self.task.score({**judged, **more}, self._held_out)
        return Scores(metrics=metrics, records=size, sample=size)

    @torch.inference_mode()
    def judged(self, state: State) -> Judged:
        """What the task's metrics need of each record of an adapter's outputs."""
        return self._judged(state, self._held_out)

    def _judged(self, state: State, held_out: pa.Table) -> dict[str, NDArray[Any]]:
        load(self._model, state)
        found = self._outputs.judged(held_out)
        if held_out is self._held_out:
            self._last = state, found
        return found

    @torch.inference_mode()
    def figures(self, state: State) -> AnswerFigures | None:
        """What the report says beside the metrics, of every record; None for most tasks."""
        last = self._last  # a run's last round has just been measured
        judged = last[1] if last and last[0] is state else self._judged(state, self._held_out)
        return self.task.figures(judged, self._held_out)

    @torch.inference_mode()
    def written(self, state: State) -> NDArray[np.object_] | None:
        """What the model writes under an adapter, (records,) str, None of all but `WRITTEN`."""
        load(self._model, state)
        return self._written()

    def _written(self) -> NDArray[np.object_] | None:
        """What the model writes, (records,) str, None of most; None if it writes nothing.

        A run's first and last adapter are asked twice: for their metrics, and to compare them.
        """
        adapter = digest(read(self._model))
        if adapter not in self._texts:
            places = spread(len(self._held_out), WRITTEN)
            answers = self.task.write(self.task.begun(self._held_out.take(places)))
            whole = np.full(len(self._held_out), None, object)
            whole[places] = answers
            self._texts[adapter] = None if answers is None else whole
        return self._texts[adapter]

    def compared(self, before: State, after: State) -> WritingFigures | None:
        """How two adapters' texts compare on the same `WRITTEN` records; None if none writes."""
        first, last = self.written(before), self.written(after)
        places = spread(len(self._held_out), WRITTEN)
        if first is None or last is None or not len(places):
            return None
        some = self._held_out.take(places)
        return self.task.compared(first[places].tolist(), last[places].tolist(), some)

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
                map(_lines, (*about, *answers))
                for about, *answers in zip(
                    task.asked(few), *(some or () for some in written), strict=False
                )
            )
        )

    def predictions(self, state: State) -> list[str]:
        """The adapter's answer to each record, in the order of the file."""
        load(self._model, state)
        return [said.answer for said in self._outputs.predictions(self._held_out)]


def _lines(text: str) -> str:
    """Text as it may be shown, in lines and nothing else that a terminal or a page obeys."""
    return visible("\n".join(text.expandtabs(4).splitlines()))
