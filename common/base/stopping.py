"""How a long-running process ends by a signal: at once, with nothing half written.

All that must survive is on disk at any moment, because a kill must lose nothing either; so a signal
simply leaves the block, whatever is going on in it.

Signals reach the main thread only; in another thread both blocks do nothing.

Example: `with until_signalled(): serve_forever()`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


class Stopped(BaseException):
    """A signal asked for the end; not an `Exception`, or work would take it for a failure."""


@contextmanager
def until_signalled(on_signal: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Leave the block when SIGTERM or SIGINT comes, and go on after it.

    Args:
        on_signal: called first, for loops that look for themselves.
    """

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        on_signal()
        raise Stopped

    with _handled(end, signal.SIGTERM, signal.SIGINT), suppress(Stopped):
        yield


@contextmanager
def interrupted() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt the block as Ctrl-C does: it cleans up, and its caller ends.

    Raises:
        KeyboardInterrupt: a signal came.
    """
    with _handled(signal.default_int_handler, signal.SIGTERM, signal.SIGHUP):
        yield


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
