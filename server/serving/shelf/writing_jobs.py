"""Texts that an adapter writes: several calls of it at once, each heard token by token.

Calls of one adapter that are to be written by the same rules are one batch. What a call has to say
of its own (its length, where it stops, whether its caller is still there) is looked at after each
token, row by row.

Invariants:
    * What is told piece by piece adds up to what is told whole.
    * The longest text of a batch and its longest answer fit into the model's positions, as each
      call's own do.
    * No piece has half a character, or the beginning of what ends the answer.

Example: `written([WriteJob(rows=1, adapter=adapter, given=[[1, 5]], most=8)])`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from presspool.common.tasks.records.writing import AT_ONCE
from presspool.common.tasks.task import Task
from presspool.server.serving.shelf.served_adapter import ServedAdapter
from presspool.server.serving.shelf.work_queue import QueuedJob

Why = Literal["stop", "length"]
Say = Callable[[int, str], None]
"""CallNote which text goes on, and how."""
_HALF = "\ufffd"  # what a decoder makes of a character that is not whole yet


@dataclass(kw_only=True, eq=False)
class WriteJob(QueuedJob):
    """Texts to be gone on from.

    Attributes:
        adapter: that writes.
        given: ids of each text.
        most: tokens of an answer.
        temperature: 0 takes the likeliest token.
        top_p: of what is drawn by lot.
        stops: texts at which an answer ends.
        say: told of every piece, in the model's thread; None for callers who wait.
        before: the base model writes, without the adapter.
    """

    adapter: ServedAdapter
    given: list[list[int]]
    most: int
    temperature: float = 0.0
    top_p: float = 1.0
    stops: tuple[str, ...] = ()
    say: Say | None = None
    before: bool = False

    @property
    def task(self) -> Task[Any]:
        """What writes."""
        return (self.adapter.before if self.before else None) or self.adapter.task

    @property
    def rules(self) -> tuple[object, ...]:
        """Equal for jobs that can be written together."""
        beams = self.adapter.task.table.beams
        return id(self.task), self.temperature, self.top_p, beams > 1 and self.most


@dataclass(frozen=True, kw_only=True)
class Written:
    """An answer: its text, why it ends, and its tokens."""

    text: str
    why: Why
    tokens: int


@dataclass(kw_only=True, eq=False)
class _Strand:
    """One answer as it grows."""

    job: WriteJob
    place: int
    tokenizer: Any
    ends: frozenset[int]
    told: str = ""
    text: str = ""
    tokens: int = 0
    why: Why | None = None

    def grow(self, ids: Sequence[int]) -> bool:
        """What is there so far; whether that is all."""
        if self.why is not None or self.job.left:
            return True
        end = next((at for at, token in enumerate(ids) if token in self.ends), None)
        own = ids[: self.job.most if end is None else min(end, self.job.most)]
        self.tokens = len(own)
        self.text = self.tokenizer.decode(own, skip_special_tokens=True).strip()
        stop = min((at for s in self.job.stops if (at := self.text.find(s)) >= 0), default=None)
        if stop is not None:
            self.text = self.text[:stop].rstrip()
        if stop is not None or end is not None:
            self.why = "stop"
        elif len(own) >= self.job.most:
            self.why = "length"
        self._tell()
        return self.why is not None

    def _tell(self) -> None:
        """Say what is new, as far as it can still not change."""
        safe = self.text if self.why else self.text.rstrip(_HALF)
        if not self.why:
            safe = safe[: len(safe) - max((_begun(safe, s) for s in self.job.stops), default=0)]
            safe = safe.rstrip()
        if self.job.say is not None and len(safe) > len(self.told):
            self.job.begun = True
            self.job.say(self.place, safe[len(self.told) :])
            self.told = safe

    @property
    def written(self) -> Written:
        return Written(text=self.text, why=self.why or "length", tokens=self.tokens)


def written(jobs: Sequence[WriteJob]) -> None:
    """Answer every job by its future: a list of `Written`."""
    alike = defaultdict[tuple[object, ...], list[WriteJob]](list)
    for job in jobs:
        alike[job.rules].append(job)
    for some in alike.values():
        _written(some)


def _written(jobs: list[WriteJob]) -> None:
    """Those of equal rules."""
    task = jobs[0].task
    strands = [
        _Strand(
            job=job,
            place=place,
            tokenizer=task.tokenizer,
            ends=frozenset(task.wording.ends),  # type: ignore[attr-defined]
        )
        for job in jobs
        for place in range(len(job.given))
    ]
    for some in _batches(strands, rows=max(1, AT_ONCE // task.table.beams)):
        _together(some, task)
    own = iter(strands)
    for job in jobs:
        job.future.set_result([next(own).written for _ in job.given])


def _batches(strands: list[_Strand], rows: int) -> Iterator[list[_Strand]]:
    """Answers that are written together, of one adapter: `rows` at most, and as many as fit."""
    room, batch = strands[0].job.adapter.positions, list[_Strand]()
    for strand in strands:
        longer = [*batch, strand]
        given = max(len(one.job.given[one.place]) for one in longer)
        span = given + max(one.job.most for one in longer)
        if batch and (len(longer) > rows or (room is not None and span > room)):
            yield batch
            longer = [strand]
        batch = longer
    yield batch


def _together(strands: list[_Strand], task: Any) -> None:
    job = strands[0].job
    changes: dict[str, Any] = {"max_new_tokens": max(strand.job.most for strand in strands)}
    changes["min_new_tokens"] = min(task.table.answer_at_least, changes["max_new_tokens"])
    if job.temperature:
        changes |= {"do_sample": True, "temperature": job.temperature, "top_p": job.top_p}
        changes |= {"top_k": 0, "num_beams": 1}
    one_beam = bool(job.temperature) or task.table.beams == 1

    def watch(rows: list[list[int]]) -> list[bool]:
        return [strand.grow(ids) for strand, ids in zip(strands, rows, strict=True)]

    given = [strand.job.given[strand.place] for strand in strands]
    rules = task.writer.rules(**changes)
    found = task.writer.continued(given, rules, watch if one_beam else None)
    watch(found.tolist())  # beams are heard at their end


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of a text may be the beginning of what ends it."""
    most = min(len(text), len(stop) - 1)
    return next((n for n in range(most, 0, -1) if text.endswith(stop[:n])), 0)
