"""Processes that are stopped by signals at random moments: how many hang, how the others end.

A warm process forks them, so that hundreds take seconds. Each says that it works, gets its signals
a random moment later, and has to be gone in time.

Example: `python -m tests.fakes.children.stopped_children waiting 20 10 /tmp/folder`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from presspool.common.base.stopping import until_signalled
from presspool.simulations.attack.workplace import at_work

LATEST_SECONDS, AT_ONCE = 0.02, 10
STUCK_GRACE = 0.3


@dataclass(frozen=True)
class Ends:
    """How stopped processes ended.

    Attributes:
        hung: how many were not gone in time.
        codes: exit codes of the others, and how often each.
        left: folders of real readers that are still there.
    """

    hung: int
    codes: dict[str, int]
    left: int


def stopped(kind: str, count: int, folder: Path, *, seconds: float = 100.0) -> Ends:
    """Start and stop so many processes of a kind; each has `seconds` to end."""
    words = [sys.executable, "-m", __name__, kind, str(count), str(seconds), str(folder)]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True, timeout=250)
    return Ends(**json.loads(done.stdout))


# --- What they do --------------------------------------------------------------------------------


def _waiting(ready: Callable[[], None], folder: Path) -> None:
    """As an agent that waits: the stop sets the events that the main thread waits for."""
    with until_signalled() as signalled:
        _wait(ready, signalled.then)


def _locking(ready: Callable[[], None], folder: Path) -> None:
    """The main thread takes a lock, again and again, that the stop takes too."""
    lock, ended = threading.Lock(), []

    def stop() -> None:
        with lock:
            ended.append(True)

    with until_signalled() as signalled:
        signalled.then(stop)
        ready()
        while not ended:
            with lock:
                pass


def _stuck(ready: Callable[[], None], folder: Path) -> None:
    """The main thread never looks, and holds the lock that the stop needs."""
    lock = threading.Lock()
    with until_signalled(grace=STUCK_GRACE) as signalled, lock:
        signalled.then(lock.acquire)  # type: ignore[arg-type]
        ready()
        time.sleep(600)


def _attacking(ready: Callable[[], None], folder: Path) -> None:
    """Real readers' records lie in a folder that must be gone in the end."""
    event = threading.Event()
    with suppress(KeyboardInterrupt), at_work(folder / str(os.getpid()), own=True):
        (folder / str(os.getpid()) / "records").write_bytes(b"somebody's words")
        ready()
        while True:
            event.set()
            event.wait(0)
            event.clear()


def _planted(ready: Callable[[], None], folder: Path) -> None:
    """A mistake: the handler itself sets the events, and raises."""

    class StoppedError(BaseException):
        pass

    @contextmanager
    def raising(stop: Callable[[], None]) -> Iterator[None]:
        def end(number: int, frame: FrameType | None) -> None:
            stop()
            raise StoppedError

        signal.signal(signal.SIGTERM, end)
        with suppress(StoppedError):
            yield

    stops: list[Callable[[], None]] = []
    with raising(lambda: stops[0]()):
        _wait(ready, stops.append)


def _wait(ready: Callable[[], None], then: Callable[[Callable[[], None]], None]) -> None:
    stopping, wake = threading.Event(), threading.Event()

    def stop() -> None:
        stopping.set()
        wake.set()

    then(stop)
    ready()
    while not stopping.is_set():
        wake.wait(0)
        wake.clear()


KINDS = {
    "waiting": _waiting,
    "locking": _locking,
    "stuck": _stuck,
    "attacking": _attacking,
    "planted": _planted,
}
SIGNALS = {
    "planted": [signal.SIGTERM],
    "attacking": [signal.SIGTERM, signal.SIGHUP],
}


# --- The warm process ----------------------------------------------------------------------------


def _begun(kind: str, folder: Path) -> int:
    """A new process that works by now."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # for those that come after the block
        try:
            KINDS[kind](lambda: _say(writes), folder)
            code = 0
        finally:
            os._exit(code)
    os.close(writes)
    os.read(reads, 1)
    os.close(reads)
    return child


def _say(writes: int) -> None:
    os.write(writes, b"!")


def _some(kind: str, count: int, seconds: float, folder: Path) -> Iterator[int | None]:
    """Exit codes of so many at once; None for one that hangs."""
    children = [_begun(kind, folder) for _ in range(count)]
    for child in children:
        time.sleep(random.uniform(0, LATEST_SECONDS))
        for number in SIGNALS.get(kind, [signal.SIGTERM, signal.SIGTERM, signal.SIGINT]):
            os.kill(child, number)
    until = time.monotonic() + seconds
    for child in children:
        yield _ended(child, until)


def _ended(child: int, until: float) -> int | None:
    while (found := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(found[1])


def main(kind: str, count: str, seconds: str, folder: str) -> None:
    """Print how they ended as JSON."""
    codes: list[int | None] = []
    while (left := int(count) - len(codes)) > 0:
        codes += _some(kind, min(AT_ONCE, left), float(seconds), Path(folder))
    found = Counter(str(code) for code in codes if code is not None)
    print(
        json.dumps(
            {"hung": codes.count(None), "codes": found, "left": len(list(Path(folder).iterdir()))}
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
