"""How a process ends by a signal: soon, with nothing half written, and whatever it is doing.

A service (agent, coordinator, pages) is told of the signal by a thread, never from within the
signal's handler. The interpreter writes the signal's number into a pipe, in C, even while the main
thread sits in a long call; a watcher reads it and runs the stops that were registered. Work that
looks ends in order; work that does not look is ended after `GRACE_SECONDS` with the process, which
is as harmless as a kill: all that must survive is on disk at any moment.

Invariants:
    * No handler takes a lock, and for a service none raises: either could meet the main thread
      with a lock half taken, and the end would wait for it for ever.
    * That the process ends hangs on no lock which the work, a log or a stop may hold.
    * A second signal changes nothing.

Signals reach the main thread only; in another thread the blocks do nothing.

Example: `with until_signalled() as signalled: signalled.then(server.stop); server.serve()`.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

GRACE_SECONDS = 2.0
_ONE_WISH_SECONDS = 1.0  # a closing terminal and a service manager send two signals in a row
_LEFT = 0  # no signal's number

Handler = Callable[[int, FrameType | None], object]


class Signalled:
    """What happens once a signal came: each stop is called once, in no handler."""

    def __init__(self) -> None:
        self._lock, self._came = threading.Lock(), False
        self._stops: list[Callable[[], None]] = []

    def then(self, stop: Callable[[], None]) -> None:
        """Call `stop`, from another thread, when a signal comes; at once where one came before."""
        with self._lock:
            if not self._came:
                self._stops.append(stop)
                return
        stop()

    def tell(self) -> None:
        """A signal came."""
        with self._lock:
            self._came, stops = True, self._stops
        for stop in stops:
            stop()


@contextmanager
def until_signalled(*, grace: float = GRACE_SECONDS) -> Iterator[Signalled]:
    """Let SIGTERM and SIGINT end the block by the stops that it registers.

    Where the block is not left in time, the process ends with exit code 0; so whatever has to be
    tidied up belongs into the block.

    Args:
        grace: seconds from the signal to the end of the block.
    """
    signalled = Signalled()
    if not _in_main_thread():
        yield signalled
        return
    kinds = (signal.SIGTERM, signal.SIGINT)
    with _watched(kinds, signalled, grace), _handled(_nothing, kinds):
        yield signalled


@contextmanager
def interrupted() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt the block as Ctrl-C does: it cleans up, and its caller ends.

    What must be cleaned up whatever comes stands in `undisturbed`.

    Raises:
        KeyboardInterrupt: a signal came.
    """
    last = float("-inf")

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before > _ONE_WISH_SECONDS:  # else the second would break into the clean-up
            signal.default_int_handler(number, frame)

    with _handled(interrupt, _interrupting()):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep SIGTERM, SIGINT and SIGHUP out of a short clean-up: there they do nothing."""
    with _handled(_nothing, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)):
        yield


@contextmanager
def held_back() -> Iterator[None]:
    """Let SIGTERM, SIGINT and SIGHUP wait for the end of a short block that is whole or not at all.

    For code of others that an interrupt in its middle breaks.

    Raises:
        KeyboardInterrupt: a signal came that interrupts.
    """
    came: list[int] = []

    def keep(number: int, _: FrameType | None) -> None:
        came.append(number)

    try:
        with _handled(keep, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)):
            yield
    finally:
        for number in came[:1]:
            signal.raise_signal(number)


def _interrupting() -> Collection[signal.Signals]:
    """SIGINT only where it interrupts already: a job in the background ignores Ctrl-C."""
    typed = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return (signal.SIGTERM, signal.SIGHUP, *([signal.SIGINT] if typed else []))


@contextmanager
def _watched(
    kinds: Collection[signal.Signals], signalled: Signalled, grace: float
) -> Iterator[None]:
    """Watch for signals of these kinds that have a handler."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    left = threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(reads, frozenset(kinds), signalled, left, grace), daemon=True
    )
    watcher.start()
    before = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        left.set()
        with suppress(BlockingIOError):  # it is full of signals, and any of them wakes the watcher
            os.write(writes, bytes([_LEFT]))
        watcher.join()
        os.close(reads)
        os.close(writes)


def _watch(
    reads: int, kinds: frozenset[int], signalled: Signalled, left: threading.Event, grace: float
) -> None:
    numbers = os.read(reads, 64)
    while not left.is_set() and kinds.isdisjoint(numbers):
        numbers = os.read(reads, 64)
    if left.is_set():
        return
    # In a thread of its own: a stop may wait for a lock that stuck work holds.
    threading.Thread(target=signalled.tell, name="stop", daemon=True).start()
    if not left.wait(grace):
        os._exit(0)


@contextmanager
def _handled(handler: Handler, kinds: Collection[signal.Signals]) -> Iterator[None]:
    if not _in_main_thread():
        yield
        return
    before = {kind: signal.signal(kind, handler) for kind in kinds}
    _taken.append(kinds)
    try:
        yield
    finally:
        for kind, old in before.items():
            signal.signal(kind, old)
        _taken.remove(kinds)


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler; its being there lets the interpreter write into the pipe."""


_taken: list[Collection[signal.Signals]] = []


def _in_a_child() -> None:
    """A forked child ends by a signal as any process does, and tells its parent's watcher nothing.

    Else no `Process.terminate` would end it, and each would end the parent.
    """
    if _taken:
        signal.set_wakeup_fd(-1)
    for kind in {kind for kinds in _taken for kind in kinds}:
        signal.signal(kind, signal.SIG_DFL)


os.register_at_fork(after_in_child=_in_a_child)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
