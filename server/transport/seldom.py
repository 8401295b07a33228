"""Minutes in which things are counted, and what is said at most once in one.

So nobody's flood of calls becomes a flood of lines.

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


class Minute:
    """A minute of counting; one thread at a time may ask.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._began = clock, clock()

    def is_over(self) -> bool:
        """Whether it is over, and the next one begins: what was counted is to be forgotten."""
        over = self._clock() - self._began > _MINUTE
        if over:
            self._began = self._clock()
        return over


class Seldom:
    """Tells whether something may be said now; any number of threads may ask.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._minute, self._lock = Minute(clock), threading.Lock()
        self._said = set[tuple[str, ...]]()

    def __call__(self, *about: str) -> bool:
        """Whether this was not said in this minute; it is from now on."""
        with self._lock:
            if self._minute.is_over():
                self._said.clear()
            new = about not in self._said and len(self._said) < MOST_KEYS
            if new:
                self._said.add(about)
            return new
