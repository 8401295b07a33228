"""A Flower `Grid` of worker processes: many outlets on one machine.

Every worker loads the base model once and serves one group of outlets after another, whose records
share the model's passes. An outlet keeps the worker that it had first, which remembers what the
frozen layers made of its records. Who is served by which worker, and with whom, does not matter: an
outlet's answer depends only on its task and its own settings, each worker computes with the same
fixed number of threads, and replies come back in the order of the messages.

Invariants:
    * The same messages give the same replies with any number of workers (`--deterministic`).
    * Workers never see Ctrl-C, and no process is left behind (`worker_pools.py`).
    * A worker that dies (out of memory, say) is an error for the run, not a silent missing outlet.

Example: `with LocalGrid(configs, workers=2) as grid: server_app(grid, context)`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from flwr.app import Message

from presspool.client.identity.settings import read_settings
from presspool.common.base.errors import InputError, PressPoolError
from presspool.common.wire.flower import stamp
from presspool.common.wire.run_grid import RUN_ID
from presspool.simulations.grids.simulation_grid import SimulationGrid
from presspool.simulations.grids.worker_pools import WorkerPool

T = TypeVar("T")

# More threads a worker would make results depend on how many workers there are.
THREADS_PER_WORKER = 1


class LocalGrid(SimulationGrid):
    """Worker processes behind Flower's Grid; arguments as for every `SimulationGrid`."""

    def _set_up(self) -> None:
        self.check(self._place, workers=self._workers)
        self._count = 0
        self._pending: dict[str, tuple[Future[list[Message]], int]] = {}
        self._pools = [_pool(self._workers) for _ in range(max(1, self._workers))]
        self._homes: dict[int, int] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand messages to the workers; returns their ids."""
        waiting = list(messages)
        for message in waiting:
            self._count += 1
            stamp(message, f"{RUN_ID}-{self._count}")
        homes = self._at_home([message.metadata.dst_node_id for message in waiting])
        for home, pool in enumerate(self._pools):
            own = [m for m in waiting if homes[m.metadata.dst_node_id] == home]
            for group in self._groups(own, parts=1):
                files = [self._nodes[message.metadata.dst_node_id] for message in group]
                future = pool.submit(answered, group, files)
                for place, message in enumerate(group):
                    self._pending[message.metadata.message_id] = future, place
        return [message.metadata.message_id for message in waiting]

    def _at_home(self, nodes: Sequence[int]) -> Mapping[int, int]:
        """Each node's worker; a new one's is that which has least to do of these."""
        work = dict.fromkeys(range(len(self._pools)), 0)
        new_last = sorted(set(nodes), key=lambda n: (n not in self._homes, -self._bytes[n]))
        for node in new_last:
            home = self._homes.setdefault(node, min(work, key=work.__getitem__))
            work[home] += self._bytes[node]
        return self._homes

    @cached_property
    def _bytes(self) -> Mapping[int, int]:
        """Of each outlet's records; more are more work."""
        return {node: _size(path) for node, path in self._nodes.items()}

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there, in the order of `message_ids`."""
        ready = [i for i in message_ids if i in self._pending and self._pending[i][0].done()]
        found = [self._pending.pop(i) for i in ready]
        return [future.result()[place] for future, place in found]

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
            for done in as_completed({self._pending[i][0] for i in ids}, timeout=timeout):
                for _ in done.result():
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
        for pool in self._pools:
            pool.end()


def _size(settings: Path) -> int:
    try:
        file = read_settings(settings).file
        return file.stat().st_size if isinstance(file, Path) else 1
    except (OSError, InputError):  # the worker that reads it says why
        return 1


class _ThisProcess(Executor):
    """Runs a call when it is submitted: the experiments' jobs are processes of their own."""

    def submit(self, fn: Callable[..., T], /, *args: object, **kwargs: object) -> Future[T]:
        """The finished call."""
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future

    def end(self) -> None:
        """There is no process."""


def _pool(workers: int) -> WorkerPool | _ThisProcess:
    if workers == 0:
        return _ThisProcess()
    level = logging.getLogger("presspool").getEffectiveLevel()
    return WorkerPool(1, prepare_worker, level)


def prepare_worker(level: int) -> None:
    """Make a process a worker: its threads are few, and it logs as much as who started it."""
    import torch

    torch.set_num_threads(THREADS_PER_WORKER)
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    logging.getLogger("presspool").setLevel(level)


def answered(messages: Sequence[Message], settings: Sequence[Path]) -> list[Message]:
    """Run some outlets' ClientApps on a message each, in a worker."""
    from presspool.client.client_app import serve

    return [
        stamp(reply, f"{message.metadata.message_id}-reply")
        for message, reply in zip(messages, serve(messages, settings), strict=True)
    ]
