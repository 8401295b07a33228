"""Worker processes of this machine, which begin with torch and what is built on it imported.

Importing them takes some five seconds of a processor. On Linux one server does it once and workers
are its copies, which share that memory too; elsewhere each worker imports for itself.

Invariants:
    * The server imports libraries alone: it computes nothing, asks for no graphics card and has no
      second thread, so a copy of it is as good as a new process.
    * A worker has the environment of who starts it, as it is at that time.
    * Workers never see Ctrl-C, not even while they start. They end with their pool, and by
      themselves when who started them was killed.

Example: `pool = WorkerPool(2)`; `pool.submit(work).result()`; `pool.end()`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any, TypeVar

T = TypeVar("T")

if sys.platform == "linux":
    CONTEXT = multiprocessing.get_context("forkserver")
    CONTEXT.set_forkserver_preload(["presspool.simulations.grids.worker_imports"])
else:
    CONTEXT = multiprocessing.get_context("spawn")


@contextmanager
def ctrl_c_held_back() -> Iterator[None]:
    """Processes that start in the block, the server of the others among them, begin without it."""
    resource_tracker.ensure_running()  # where it starts in the block, it lets Ctrl-C in again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class WorkerPool(ProcessPoolExecutor):
    """Worker processes that Ctrl-C never reaches.

    Args:
        count: how many at most.
        begin: called in each of them first, with `arguments`.
        arguments: picklable.
    """

    def __init__(
        self, count: int, begin: Callable[..., None] | None = None, *arguments: Any
    ) -> None:
        super().__init__(
            max_workers=count,
            mp_context=CONTEXT,
            initializer=_begin,
            initargs=(dict(os.environ), begin, arguments),
        )

    def submit(self, fn: Callable[..., T], /, *args: object, **kwargs: object) -> Future[T]:
        """The call's future; a process that this starts inherits that Ctrl-C is held back."""
        with ctrl_c_held_back():
            return super().submit(fn, *args, **kwargs)

    def end(self) -> None:
        """End the workers at once; what they had to do is dropped."""
        processes = list((self._processes or {}).values())
        for process in processes:
            process.terminate()
        # The pool's own thread must be done too, or it may stumble over Python's end.
        self.shutdown(wait=True, cancel_futures=True)
        for process in processes:
            process.join()


def _begin(
    environment: Mapping[str, str],
    begin: Callable[..., None] | None,
    arguments: tuple[Any, ...],
) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # also where others made the server
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)
    if begin:
        begin(*arguments)


def _end_with_parent() -> None:
    """Let this worker process end when the process that started it was killed."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
