"""How a long-running process ends by a signal: soon, in whatever it is, with nothing half written.

The signal handler itself does nothing: Python writes the signal's number into a pipe, a thread
reads it there, and only that thread sets events and calls back. Whatever a handler did (take a
lock, set an event, raise) would happen in the middle of whatever the main thread is doing, which
may hold the very lock: 34 of 60 processes hung when an event was set in a handler.

All that must survive is on disk at any moment, because a kill must lose nothing either. So work
that does not end by itself within some seconds (a training step, an evaluation) is ended by ending
the process.

Signals reach the main thread only; in another thread both blocks do nothing.

Example: `with until_signalled(node.nudge) as stopping: …`; in it `while not stopping.is_set()`.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)

GRACE_SECONDS = 3.0  # for the block to be left; then the process ends
_ENDING = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def until_signalled(on_signal: Callable[[], None] = lambda: None) -> Iterator[threading.Event]:
    """A block that is to be left when the event that it is given is set: SIGTERM or SIGINT came.

    Args:
        on_signal: called then, from another thread, to end what the block waits for.
    """
    stopping, left = threading.Event(), threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    told, tells = os.pipe()
    os.set_blocking(tells, False)
    watcher = threading.Thread(
        target=_watch, args=(told, stopping, left, on_signal), name="signals", daemon=True
    )
    watcher.start()
    outer = signal.set_wakeup_fd(tells, warn_on_full_buffer=False)
    try:
        with _handled(_pass, *_ENDING):
            yield stopping
    finally:
        signal.set_wakeup_fd(outer, warn_on_full_buffer=False)
        left.set()
        os.close(tells)
        watcher.join()
        os.close(told)


@contextmanager
def interrupted() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt the block as Ctrl-C does: it cleans up, and its caller ends.

    Raises:
        KeyboardInterrupt: a signal came.
    """
    with _handled(signal.default_int_handler, signal.SIGTERM, signal.SIGHUP):
        yield


def _pass(number: int, frame: FrameType | None) -> None:
    """Python has written the signal's number into the pipe already."""


def _watch(
    told: int, stopping: threading.Event, left: threading.Event, on_signal: Callable[[], None]
) -> None:
    """Read signals' numbers until the pipe is closed; after the first that ends, see to the end."""
    while numbers := os.read(told, 64):
        if stopping.is_set() or not set(numbers) & set(_ENDING):
            continue
        stopping.set()
        try:
            on_signal()
        except Exception:
            log.exception("what is waited for could not be ended")
        if not left.wait(GRACE_SECONDS):
            log.info("ended in the middle of work; all that must survive is on disk")
            logging.shutdown()
            os._exit(0)


@contextmanager
def _handled(
    handler: Callable[[int, FrameType | None], object], *kinds: signal.Signals
) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {kind: signal.signal(kind, handler) for kind in kinds}
    try:
        yield
    finally:
        for kind, old in before.items():
            signal.signal(kind, old)
