"""A Flower `Grid` of worker processes: many outlets on one machine.

Every worker loads the base model once and serves one outlet after another. Which worker serves
whom does not matter: an outlet's answer depends only on its task and its own settings, each worker
computes with the same fixed number of threads, and replies come back in the order of the messages.

Invariants:
    * The same messages give the same replies with any number of workers (`--deterministic`).
    * Workers never see Ctrl-C, not even while they start; the parent ends them by its own pool, and
      they end themselves when it was killed, so no process is left behind.
    * A worker that dies (out of memory, say) is an error for the run, not a silent missing outlet.

Example: `with LocalGrid(configs, workers=2) as grid: server_app(grid, context)`.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from flwr.app import Message

from presspool.common.base.errors import PressPoolError
from presspool.common.wire.flower import stamp
from presspool.common.wire.run_grid import RUN_ID
from presspool.simulations.grids.simulation_grid import SimulationGrid

# More threads a worker would make results depend on how many workers there are.
THREADS_PER_WORKER = 1


class LocalGrid(SimulationGrid):
    """Worker processes behind Flower's Grid; arguments as for every `SimulationGrid`."""

    def _set_up(self) -> None:
        self.check(self._place, workers=self._workers)
        self._count = 0
        self._pending: dict[str, Future[Message]] = {}
        self._pool = _pool(self._workers)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand messages to the workers; returns their ids."""
        ids = []
        for message in messages:
            self._count += 1
            stamp(message, f"{RUN_ID}-{self._count}")
            node = message.metadata.dst_node_id
            future = self._pool.submit(answered, message, self._nodes[node])
            self._pending[message.metadata.message_id] = future
            ids.append(message.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there, in the order of `message_ids`."""
        ready = [i for i in message_ids if i in self._pending and self._pending[i].done()]
        return [self._pending.pop(i).result() for i in ready]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Hand out messages and wait for all replies, returned in the order of the messages.

        Raises:
            PressPoolError: a worker process died.
            TimeoutError: `timeout` seconds have passed.
        """
        try:
            ids = list(self.push_messages(messages))
            for _ in as_completed([self._pending[i] for i in ids], timeout=timeout):
                self._on_reply()
            return list(self.pull_messages(ids))
        except BrokenProcessPool:
            raise PressPoolError(
                "a worker process died",
                where="simulation",
                advice="often too little memory: try fewer --workers, then continue with --resume",
            ) from None

    def close(self) -> None:
        """End the workers at once; unfinished tasks are dropped."""
        processes = list((getattr(self._pool, "_processes", None) or {}).values())
        for process in processes:
            process.terminate()
        # The pool's own thread must be done too, or it may stumble over Python's end.
        self._pool.shutdown(wait=True, cancel_futures=True)
        for process in processes:
            process.join()


class _ThisProcess(Executor):
    """Runs a call when it is submitted: the experiments' jobs are processes of their own."""

    def submit(  # type: ignore[override]
        self, fn: Callable[..., Message], /, *args: object, **kwargs: object
    ) -> Future[Message]:
        """The finished call."""
        future: Future[Message] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class _Workers(ProcessPoolExecutor):
    """Worker processes that Ctrl-C never reaches."""

    def submit(  # type: ignore[override]
        self, fn: Callable[..., Message], /, *args: object, **kwargs: object
    ) -> Future[Message]:
        """The call's future; a process that this starts inherits that Ctrl-C is held back."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _pool(workers: int) -> Executor:
    if workers == 0:
        return _ThisProcess()
    return _Workers(
        max_workers=workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(logging.getLogger("presspool").getEffectiveLevel(),),
    )


def _start_worker(level: int) -> None:
    end_with_parent()
    prepare_worker(level)


def prepare_worker(level: int) -> None:
    """Make a process a worker: its threads are few, and it logs as much as who started it."""
    import torch

    torch.set_num_threads(THREADS_PER_WORKER)
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    logging.getLogger("presspool").setLevel(level)


def end_with_parent() -> None:
    """Let this worker process end when the process that started it was killed."""

    def watch() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def answered(message: Message, settings: Path) -> Message:
    """Run the outlet's ClientApp on one message, in a worker."""
    from presspool.client.client_app import serve

    return stamp(serve(message, settings), f"{message.metadata.message_id}-reply")
