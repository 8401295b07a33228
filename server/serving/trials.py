"""One adapter beside another under real calls: in its shadow, or for a share of the callers.

`--shadow cup=next`: what was asked of `cup` is asked of `next` as well once the answer is sent, and
the two are compared. `--split cup=next:5%`: `next` answers a twentieth of those who ask for `cup`,
always the same ones. `GET /compare` has the counts.

Invariants:
    * An answer of a shadow is seen by nobody; of texts and answers nothing is kept but counts.
    * A shadow makes way: it is left out while calls wait, broken off when one comes, asked of the
      first records of a large call alone, and no more once it fails again and again; all counted.
    * Who is answered by whom depends on the adapter's name and the caller's (`user`, else the key),
      and on nothing else; who has neither is drawn anew each time.

Example:
    >>> AdapterTrial.split("cup=next:5%")
    AdapterTrial(name='cup', other='next', share=0.05)
"""

from __future__ import annotations

import hashlib
import re
import statistics
import threading
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Self

from presspool.common.base.errors import InputError
from presspool.server.serving.asked_calls import CallNote
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf
from presspool.server.serving.shelf.call_errors import CallError
from presspool.server.serving.shelf.reading import ReadJob
from presspool.server.serving.shelf.work_queue import QueuedJob, WorkQueue
from presspool.server.serving.shelf.writing_jobs import WriteJob

_SHADOW = re.compile(r"([^=:]+)=([^=:]+)")
_SPLIT = re.compile(r"([^=:]+)=([^=:]+):([0-9]{1,2}(?:\.[0-9]{1,3})?)%")
_REMEMBERED = 1000  # latest calls, for the latency
_MOST = 16  # records of a call that a shadow is asked about: a pass cannot be broken off
_ENDED = 10  # failures in a row after which a shadow is asked no more


@dataclass(frozen=True)
class AdapterTrial:
    """An adapter beside another.

    Attributes:
        name: by which callers ask.
        other: that is tried.
        share: of callers whom it answers, in (0, 1); None for a shadow.
    """

    name: str
    other: str
    share: float | None = None

    @classmethod
    def shadow(cls, typed: str) -> Self:
        """Of `NAME=OTHER`; raises `InputError`."""
        if found := _SHADOW.fullmatch(typed):
            return cls(found[1], found[2])
        raise InputError("no shadow", where="--shadow", expected="NAME=OTHER", got=typed)

    @classmethod
    def split(cls, typed: str) -> Self:
        """Of `NAME=OTHER:5%`; raises `InputError`."""
        found = _SPLIT.fullmatch(typed)
        if found is None or not float(found[3]):
            raise InputError("no split", where="--split", expected="NAME=OTHER:5%", got=typed)
        return cls(found[1], found[2], float(found[3]) / 100)

    def takes(self, caller: str) -> bool:
        """Whether the other one answers a caller."""
        assert self.share is not None
        drawn = hashlib.sha256(f"{self.name}\0{caller}".encode()).digest()[:8]
        return int.from_bytes(drawn) < self.share * 2**64


@dataclass
class _Counts:
    """What is known of a trial, in numbers.

    Attributes:
        counts: of calls, records, agreements.
        seconds: of the latest calls, by adapter.
        failures: of a shadow, since it last answered.
    """

    counts: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, deque[float]] = field(default_factory=dict)
    failures: int = 0

    def timed(self, name: str, seconds: float) -> None:
        self.seconds.setdefault(name, deque(maxlen=_REMEMBERED)).append(seconds)

    @property
    def milliseconds(self) -> dict[str, dict[str, float]]:
        found = {}
        for name, seconds in self.seconds.items():
            cuts = statistics.quantiles([*seconds, *seconds], n=20)  # two at least
            found[name] = {"p50": round(1000 * cuts[9], 1), "p95": round(1000 * cuts[18], 1)}
        return found


class Trials:
    """The trials of a server.

    Args:
        trials: which; one of an adapter, at most.
        shelf: with all their adapters.
        queue: before the model.

    Raises:
        InputError: an adapter that is not served, that has two trials, or whose task is another.
    """

    def __init__(
        self, trials: Sequence[AdapterTrial], shelf: AdapterShelf, queue: WorkQueue
    ) -> None:
        self._of = {one.name: one for one in trials}
        if len(self._of) < len(trials):
            raise InputError("two trials of one adapter", where="--shadow, --split")
        for one in trials:
            _check(one, shelf)
        self._shelf, self._queue, self._lock = shelf, queue, threading.Lock()
        self._counts = {one.name: _Counts() for one in trials}
        self._waiting = False  # whether a shadow is asked
        shelf.route = self.chosen

    def chosen(self, name: str, caller: str) -> str:
        """The adapter that answers a caller who asks for a name."""
        trial = self._of.get(name)
        if trial is None or trial.share is None or not self._shelf.holds(trial.other):
            return name
        return trial.other if trial.takes(caller) else name

    def ended(self, note: CallNote, _status: int, _seconds: float) -> None:
        """A call's answer was sent."""
        job, trial = note.job, self._of.get(note.asked)
        if trial is None or not isinstance(job, ReadJob | WriteJob) or not _answered(job.future):
            return
        if isinstance(job, WriteJob) and job.before:
            return  # the base model's answer is nobody's
        known = self._counts[trial.name]
        with self._lock:
            known.counts[f"calls of {note.model}"] += 1
            known.timed(note.model, job.seconds)
        if trial.share is None and not (isinstance(job, ReadJob) and job.vectors):
            self._shade(job, trial, known)

    def document(self) -> dict[str, Any]:
        """What `/compare` tells."""
        with self._lock:
            return {"trials": [_told(self._of[name], one) for name, one in self._counts.items()]}

    def _shade(self, job: ReadJob | WriteJob, trial: AdapterTrial, known: _Counts) -> None:
        """Ask the other one the same, where nobody waits for the model."""
        with self._lock:
            twin = self._twin(job, trial)
            if twin is None or self._waiting or known.failures >= _ENDED:
                known.counts["left out"] += 1
                return
            self._waiting = True

        def done(_: Future[Any]) -> None:
            with self._lock:
                self._waiting = False
                self._compared(job, twin, known)

        try:
            self._queue.submit(twin)
        except CallError:  # somebody was faster, or the server stops
            with self._lock:
                self._waiting = False
                known.counts["left out"] += 1
        else:
            twin.future.add_done_callback(done)

    def _twin(self, job: ReadJob | WriteJob, trial: AdapterTrial) -> Any:
        """The other one's job; None where it is not served, or could not be broken off."""
        if not self._shelf.holds(trial.other):
            return None
        own: dict[str, Any] = {
            "adapter": self._shelf.get(trial.other),
            "rows": min(job.rows, _MOST),
            **{"future": Future(), "key": "", "left": False, "begun": False, "yields": True},
        }
        if isinstance(job, ReadJob):
            return replace(job, **own, records=job.records[:_MOST])
        if job.adapter.task.table.beams > 1:
            return None
        return replace(job, **own, given=job.given[:_MOST], say=None)

    def _compared(self, job: Any, twin: Any, known: _Counts) -> None:
        if twin.left:
            known.counts["broken off"] += 1
            return
        known.failures = 0 if _answered(twin.future) else known.failures + 1
        if known.failures:
            known.counts["failed"] += 1
            return
        known.timed(twin.adapter.name, twin.seconds)
        pairs = list(zip(_said(job), _said(twin), strict=False))
        known.counts["compared"] += 1
        known.counts["records"] += len(pairs)
        known.counts["agreed"] += sum(one == other for one, other in pairs)


def _check(trial: AdapterTrial, shelf: AdapterShelf) -> None:
    where = "--shadow" if trial.share is None else "--split"
    missing = [name for name in (trial.name, trial.other) if not shelf.holds(name)]
    if missing or trial.name == trial.other:
        raise InputError(
            "two adapters that are served are needed",
            where=where,
            got=", ".join(missing) or trial.name,
        )
    one, other = (shelf.get(name).contract.task for name in (trial.name, trial.other))
    if one != other:
        raise InputError(
            "adapters that are asked differently cannot be compared",
            where=where,
            expected="one and the same [task] in both contracts",
            got=f"{trial.name}: {one.kind}, {trial.other}: {other.kind}",
        )


def _answered(future: Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _said(job: QueuedJob) -> list[Any]:
    """What two answers must have in common to agree: label, entities, first title or text."""
    if isinstance(job, WriteJob):
        return [one.text for one in job.future.result()]
    assert isinstance(job, ReadJob)
    task = job.adapter.task
    found = [one.answer for one in job.future.result().said]
    if job.adapter.contract.task.kind == "recommendation":
        return [task.told(one)[0]["title"] for one in found]
    return [str(one) for one in found]


def _told(trial: AdapterTrial, known: _Counts) -> dict[str, Any]:
    records = known.counts["records"]
    shown = {"name": trial.name, "other": trial.other, **dict(known.counts)}
    shown["kind"] = "shadow" if trial.share is None else f"split, {100 * trial.share:g} %"
    if records:
        shown["agreement"] = round(known.counts["agreed"] / records, 4)
    return {**shown, "milliseconds": known.milliseconds}
