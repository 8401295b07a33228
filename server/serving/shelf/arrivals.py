"""Brings what other threads have done into a loop, which is woken once for all that came at once.

asyncio's own bridge wakes the loop for each: for the model's thread that is a call of the system
for each answer of a batch, after which it waits for Python again.

Invariant: what came is told in its order, and a loop that is closed is told nothing.

Example: `answer = await awaited(job.future)`.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from concurrent.futures import CancelledError, Future
from typing import Any


def awaited(done: Future[Any]) -> asyncio.Future[Any]:
    """What the running loop may wait for; it ends as `done` does, which it never cancels."""
    loop = asyncio.get_running_loop()
    waiting = loop.create_future()
    arrivals = _OF_LOOP.setdefault(loop, _Arrivals())
    done.add_done_callback(lambda _: arrivals.came(loop, done, waiting))
    return waiting


class _Arrivals:
    """A loop's."""

    def __init__(self) -> None:
        self._new, self._woken = deque[tuple[Future[Any], asyncio.Future[Any]]](), False

    def came(
        self, loop: asyncio.AbstractEventLoop, done: Future[Any], waiting: asyncio.Future[Any]
    ) -> None:
        """Have it told; from any thread."""
        self._new.append((done, waiting))
        if not self._woken and not loop.is_closed():
            self._woken = True
            loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._woken = False  # first: whatever comes from here on is seen below, or wakes again
        while self._new:
            done, waiting = self._new.popleft()
            if waiting.done():
                continue  # nobody waits any more
            try:
                waiting.set_result(done.result())
            except CancelledError:
                waiting.cancel()
            except Exception as error:  # noqa: BLE001 - whoever waits is told
                _fail(waiting, error)


def _fail(waiting: asyncio.Future[Any], error: Exception) -> None:
    try:
        waiting.set_exception(error)
    except TypeError:  # of a kind that no loop may raise; others wait behind it
        waiting.cancel()


_OF_LOOP = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Arrivals]()
