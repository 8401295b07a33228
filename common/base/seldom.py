"""What is said at most once a minute, so that nobody's flood of calls becomes a flood of lines.

Example:
    >>> told = Seldom(clock=lambda: 0.0)
    >>> told("north-post", "too-fast"), told("north-post", "too-fast"), told("south-echo", "late")
    (True, False, True)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

MOST_KEYS = 4096  # after which nothing new is said in this minute
_MINUTE = 60.0


class Seldom:
    """Tells whether something may be said now; any number of threads may ask.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._began, self._said = clock(), set[tuple[str, ...]]()

    def __call__(self, *about: str) -> bool:
        """Whether this was not said in this minute; it is from now on."""
        with self._lock:
            if self._clock() - self._began > _MINUTE:
                self._began, self._said = self._clock(), set()
            new = about not in self._said and len(self._said) < MOST_KEYS
            if new:
                self._said.add(about)
            return new
