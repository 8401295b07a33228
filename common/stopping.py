"""How a long-running process ends: SIGTERM or SIGINT, at once, with nothing half written.

All that must survive is on disk at any moment, because a kill must lose nothing either; so a signal
simply leaves the block, whatever is going on in it.

Example: `with until_signalled(): serve_forever()`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """A signal asked for the end; not an `Exception`, or work would take it for a failure."""


@contextmanager
def until_signalled(on_signal: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Leave the block when SIGTERM or SIGINT comes; signals reach the main thread only.

    Args:
        on_signal: called first, for loops that look for themselves.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        on_signal()
        raise Stopped

    before = {kind: signal.signal(kind, end) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except Stopped:
        pass
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
