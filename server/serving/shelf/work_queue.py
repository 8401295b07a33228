"""The requests that wait for the model, and the one thread that works for them.

The thread takes what waits the moment that it is free, so batches are as large as the load makes
them and nobody waits for a batch to fill. What would wait behind `CAPACITY` rows is refused with
the time after which to ask again: the queue never grows beyond.

Invariants:
    * A job that was taken in is answered, fails or is cancelled by who asked; none is lost, also
      when the queue is closed.
    * A job that was cancelled before its turn costs nothing.
    * A key's rows that wait are never more than the room that is left: one key alone fills half of
      the queue, two a third each, and somebody else is always let in.
    * A job that yields waits for nobody and beside nobody: when another one comes it is taken back,
      or left as if its caller had hung up.
    * One job's failure is its own: a batch that fails is done again job by job, but for a job that
      has told its caller something, which would hear it twice.

Example: `WorkQueue(reader.run).submit(job)`; `await awaited(job.future)`.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from presspool.server.serving.shelf.call_errors import CallError

log = logging.getLogger(__name__)

CAPACITY = 1024
AT_ONCE = 64
_LONGEST_RETRY = 60  # seconds


@dataclass(kw_only=True, eq=False)
class QueuedJob:
    """A request's work.

    Attributes:
        rows: records in it.
        future: what comes of it.
        left: whether its caller hung up.
        begun: whether its caller has heard a part of the answer.
        yields: whether it makes way for every other.
        key: the name of its caller's key; "" where no keys are asked for.
        seconds: from its taking in to its answer, once that is there.
    """

    rows: int
    future: Future[Any] = field(default_factory=Future)
    left: bool = False
    begun: bool = False
    yields: bool = False
    key: str = ""
    seconds: float = 0.0


class WorkQueue:
    """A bounded queue and its thread.

    Args:
        run: answers some jobs by their futures; may raise.
        capacity: rows that wait, at most.
        at_once: rows that are taken together; a larger job is taken alone.
        name: of the thread.
    """

    def __init__(
        self,
        run: Callable[[list[QueuedJob]], None],
        *,
        capacity: int = CAPACITY,
        at_once: int = AT_ONCE,
        name: str = "model",
    ) -> None:
        self._run, self._capacity, self._at_once = run, capacity, at_once
        self._waiting: deque[QueuedJob] = deque()
        self._now, self._rows = list[QueuedJob](), 0
        self._of_key = Counter[str]()  # rows that wait
        self._rate = 0.0  # rows a second, of late
        self._change, self._closed = threading.Condition(), False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Jobs that are worked on."""
        return len(self._now)

    def submit(self, job: QueuedJob) -> None:
        """Take a job in.

        Raises:
            CallError: as `check`; 429 for a job that yields, where others wait.
        """
        with self._change:
            self.check(job.rows, job.key)
            if job.yields and self._waiting:
                raise CallError(429, "others wait")
            self._make_way()
            self._waiting.append(job)
            self._count(job, job.rows)
            self._change.notify()
        began = time.monotonic()
        job.future.add_done_callback(lambda _: setattr(job, "seconds", time.monotonic() - began))

    def check(self, rows: int, key: str) -> None:
        """Whether there is room now, to be asked before anything is made of what would wait.

        Raises:
            CallError: 429 where the queue is full or the key has its share of it, 413 for what
                never fits, 503 once closed.
        """
        if self._closed:
            raise CallError(503, "this server is stopping", retry=1)
        if rows > self._capacity:
            raise CallError(413, f"more than {self._capacity} records in one call")
        left = self._capacity - self._rows - rows
        if left < 0:
            raise CallError(429, "too many calls wait already", retry=self._retry())
        if key and self._of_key[key] and self._of_key[key] + rows > left:
            raise CallError(429, "too many calls of this key wait already", retry=self._retry())

    def _count(self, job: QueuedJob, rows: int) -> None:
        self._rows += rows
        self._of_key[job.key] += rows
        if not self._of_key[job.key]:
            del self._of_key[job.key]

    def close(self) -> None:
        """Do what waits, and let the thread end."""
        with self._change:
            self._closed = True
            self._make_way()
            self._change.notify()
        self._thread.join()

    def _make_way(self) -> None:
        for job in (*self._waiting, *self._now):
            if job.yields:
                job.left = True
                job.future.cancel()  # where it does not run yet

    def _retry(self) -> int:
        seconds = self._rows / self._rate if self._rate else 1.0
        return min(_LONGEST_RETRY, max(1, math.ceil(seconds)))

    def _work(self) -> None:
        while jobs := self._taken():
            began = time.monotonic()
            self._now = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if self._now:
                self._do(self._now)
            self._now = []
            rate = sum(job.rows for job in jobs) / max(1e-6, time.monotonic() - began)
            self._rate = rate if not self._rate else 0.8 * self._rate + 0.2 * rate

    def _taken(self) -> list[QueuedJob]:
        """The next jobs, waited for; none once closed."""
        with self._change:
            while not self._waiting and not self._closed:
                self._change.wait()
            taken, rows = list[QueuedJob](), 0
            while self._waiting and (not taken or rows + self._waiting[0].rows <= self._at_once):
                taken.append(self._waiting.popleft())
                self._count(taken[-1], -taken[-1].rows)
                rows += taken[-1].rows
            return taken

    def _do(self, jobs: list[QueuedJob]) -> None:
        try:
            self._run(jobs)
        # A panic of the tokenizers' Rust is no Exception, and would end the thread.
        except BaseException as error:  # noqa: BLE001
            left = [job for job in jobs if not job.future.done()]
            # Its words may quote what was asked.
            log.error("a call failed: %s", type(error).__name__)
            for job in left:
                if job.begun:
                    job.future.set_exception(CallError(500, "the answer broke off"))
                elif len(jobs) > 1:
                    self._do([job])
                else:
                    job.future.set_exception(CallError(500, "the answer could not be made"))
