"""Answers that are read off the base model's states: labels, entities, rankings and vectors.

Jobs of all adapters are one set of rows to the trunk; texts of adapters that spell them alike are
tokenised together.

Invariant: what a job gets is its own records' answers, in their order.

Example: `Reader(trunk).run([ReadJob(rows=1, adapter=adapter, records=records)])`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from presspool.common.contract.contract_schema import UNSURE
from presspool.common.models.adapted_outputs import Prediction
from presspool.common.tasks.task import mean_of_length_one
from presspool.server.serving.shelf.mixed_trunk import MixedTrunk, Pass, TrunkRow
from presspool.server.serving.shelf.served_adapter import TOKENISING, ServedAdapter, spelt
from presspool.server.serving.shelf.work_queue import QueuedJob


@dataclass(kw_only=True, eq=False)
class ReadJob(QueuedJob):
    """Records that an adapter is asked about.

    Attributes:
        adapter: whose head answers.
        records: with the task's `inputs`.
        vectors: whether the mean states are asked for, and not the answers.
    """

    adapter: ServedAdapter
    records: pa.Table
    vectors: bool = False


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a job gets.

    Attributes:
        said: a prediction, or a vector, of each record.
        tokens: that were read.
    """

    said: list[Any]
    tokens: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What passed an adapter in one go, without its texts.

    Attributes:
        adapter: which.
        answers: of the records that were answered, where answers are labels; the likeliest one in
            place of several.
        lengths: tokens of each record.
        states: their mean states of length one, (records, hidden); None where the adapter has a
            model of its own.
    """

    adapter: ServedAdapter
    answers: list[str]
    lengths: list[int]
    states: NDArray[np.float64] | None


@dataclass(kw_only=True, eq=False)
class _Sheet:
    """All records of one adapter that are asked the same way.

    Attributes:
        jobs: whose they are.
        records: of all jobs, one behind the other.
        texts: of each record.
        rows: of each record.
        said: of each record, in the end.
        means: states that were read, where somebody watches.
    """

    jobs: list[ReadJob]
    records: pa.Table
    texts: list[str]
    rows: list[TrunkRow] = field(default_factory=list)
    said: dict[int, Any] = field(default_factory=dict)
    means: dict[int, Tensor] | None = None

    @classmethod
    def of(cls, jobs: list[ReadJob], *, watched: bool) -> _Sheet:
        records = pa.concat_tables([job.records for job in jobs])
        return cls(
            jobs=jobs,
            records=records,
            texts=jobs[0].adapter.task.texts(records).to_pylist(),
            means={} if watched else None,
        )

    @property
    def adapter(self) -> ServedAdapter:
        return self.jobs[0].adapter

    def read(self, places: list[int], states: Tensor, mask: Tensor) -> None:
        """Read some records' states, (places, width, hidden)."""
        found: Sequence[Any]
        if self.means is not None:
            self.means |= zip(places, mean_of_length_one(states, mask > 0), strict=True)
        if self.jobs[0].vectors:
            found = mean_of_length_one(states, mask > 0).tolist()
        else:
            found = self.adapter.answers(states, mask, self.records.take(places))
        self.said |= zip(places, found, strict=True)

    def hand_out(self) -> None:
        start = 0
        for job in self.jobs:
            own = range(start, start := start + job.records.num_rows)
            tokens = sum(len(self.rows[i].ids) for i in own)
            job.future.set_result(Reading(said=[self.said[i] for i in own], tokens=tokens))

    @property
    def seen(self) -> Seen:
        """What may be remembered of it."""
        labels = not self.jobs[0].vectors and bool(self.adapter.task.options)
        means = [mean for _, mean in sorted((self.means or {}).items())]
        return Seen(
            adapter=self.adapter,
            answers=[_label(one) for _, one in sorted(self.said.items())] if labels else [],
            lengths=[len(row.ids) for row in self.rows],
            states=torch.stack(means).double().cpu().numpy() if means else None,
        )


class Reader:
    """Answers jobs with one trunk.

    Args:
        trunk: all adapters'.
        watch: told of what was answered, afterwards.
    """

    def __init__(self, trunk: MixedTrunk, watch: Callable[[Seen], None] | None = None) -> None:
        self._trunk, self._watch = trunk, watch

    @torch.inference_mode()
    def run(self, jobs: Sequence[ReadJob]) -> None:
        """Answer every job by its future."""
        alike = defaultdict[tuple[int, bool], list[ReadJob]](list)
        for job in jobs:
            alike[id(job.adapter), job.vectors].append(job)
        sheets = [_Sheet.of(some, watched=self._watch is not None) for some in alike.values()]
        _spell(sheets)
        for parted in (False, True):
            self._share([s for s in sheets if s.adapter.task.parted == parted], parted=parted)
        for sheet in sheets:
            sheet.hand_out()
        if self._watch is not None:
            for sheet in sheets:
                self._watch(sheet.seen)

    def _share(self, sheets: list[_Sheet], *, parted: bool) -> None:
        for sheet in sheets:
            if sheet.adapter.alone is not None:
                with TOKENISING:
                    found: list[Prediction] = sheet.adapter.alone.predictions(sheet.records)
                sheet.said = dict(enumerate(found))
        shared = [sheet for sheet in sheets if sheet.adapter.alone is None]
        places = [(sheet, place) for sheet in shared for place in range(len(sheet.rows))]
        rows = [sheet.rows[place] for sheet, place in places]
        for one in self._trunk.passes(rows, parted=parted):
            _read(one, places)


def _label(said: Prediction) -> str:
    known = said.probabilities
    if said.answer == UNSURE or said.answer in known:
        return said.answer
    return max(known, key=known.__getitem__)


def _read(one: Pass, places: Sequence[tuple[_Sheet, int]]) -> None:
    """Give each sheet its own rows of a pass."""
    own = defaultdict[_Sheet, list[int]](list)
    for at, place in enumerate(one.places):
        own[places[place][0]].append(at)
    for sheet, rows in own.items():
        of_sheet = [places[one.places[at]][1] for at in rows]
        sheet.read(of_sheet, one.states[rows], one.mask[rows])


def _spell(sheets: list[_Sheet]) -> None:
    """Tokenise all texts of adapters that spell alike in one go."""
    alike = defaultdict[tuple[object, ...], list[_Sheet]](list)
    for sheet in sheets:
        alike[sheet.adapter.spelling].append(sheet)
    for some in alike.values():
        rows = iter(spelt(some[0].adapter.task, [text for sheet in some for text in sheet.texts]))
        for sheet in some:
            own = [next(rows) for _ in sheet.texts]
            sheet.rows = [replace(row, branches=sheet.adapter.branches) for row in own]
