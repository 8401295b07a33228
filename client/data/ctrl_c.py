"""Whether Ctrl-C came while somebody else's engine ran, which may report it in words of its own.

Example: ``with noticing_ctrl_c() as pressed: ask()``; in an error's place, `pressed()`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def noticing_ctrl_c() -> Iterator[Callable[[], bool]]:
    """Says whether Ctrl-C came while the block ran; nothing outside of the main thread.

    DuckDB that is stopped while it writes to disk says that it has no memory.
    """
    before, came = signal.getsignal(signal.SIGINT), threading.Event()
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield came.is_set
        return

    def note(number: int, frame: FrameType | None) -> None:
        came.set()
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGINT, before)
