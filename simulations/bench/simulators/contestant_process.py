"""A contestant of `presspool bench simulation` from outside: its process, its turns, its memory.

Invariants:
    * A contestant and all its processes stay on one core, each with one thread.
    * Seconds are the wall clock from "go" to the next wait; processor seconds are those of all its
      processes, also of those that came and went in the turn.
    * Leaving the block ends every process that the contestant started, and no other.

Example: ``with ContestantProcess("bare", [], sizes) as process: turn = process.turn()``.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from presspool.common.base.errors import SelfTestError
from presspool.simulations.bench.simulators import contestant
from presspool.simulations.bench.simulators.simulator_turns import LOOPBACK, RoundDone, RoundSizes

STARTS = 600.0  # seconds in which a contestant has loaded
PATIENCE = 5.0  # seconds in which one ends by itself


@dataclass(frozen=True, kw_only=True)
class RoundTaken:
    """One round of a contestant.

    Attributes:
        seconds: of the wall clock.
        work: processor seconds.
        resident: bytes of all its processes after it.
        done: what it did.
    """

    seconds: float
    work: float
    resident: int
    done: RoundDone


class ContestantProcess:
    """A contestant that has loaded and waits for its turns.

    Args:
        words: its name in `contestant.MODULES`, and what it is told besides.
        sizes: of its rounds.
        python: what runs it.

    Raises:
        SelfTestError: it ended before its time; the end of what it printed is in the message.
    """

    def __init__(
        self, words: Sequence[str], sizes: RoundSizes, *, python: Path = Path(sys.executable)
    ) -> None:
        self._name = " ".join(words)
        self._home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._log = Path(self._home.name, "said.txt")
        with socket.create_server((LOOPBACK, 0)) as server:
            told = sizes.environment(server.getsockname()[1])
            self._process = self._started([str(python), "-m", contestant.__name__, *words], told)
            try:
                if hasattr(os, "sched_setaffinity"):
                    os.sched_setaffinity(self._process.pid, {max(os.sched_getaffinity(0))})
                self._stream = self._accepted(server).makefile("rw", encoding="utf-8")
                self._read()
            except BaseException:
                self.close()
                raise

    def turn(self) -> RoundTaken:
        """One round."""
        work, began = self._work(), time.perf_counter()
        self._stream.write("go\n")
        self._stream.flush()
        done = json.loads(self._read())
        return RoundTaken(
            seconds=time.perf_counter() - began,
            work=self._work() - work,
            resident=sum(each.memory_info().rss for each in self._tree()),
            done=RoundDone(**done),
        )

    def close(self) -> None:
        """End it, and whatever it started."""
        tree = self._tree()
        if hasattr(self, "_stream"):
            with suppress(OSError):
                self._stream.close()
            psutil.wait_procs(tree, timeout=PATIENCE)
        for each in {*tree, *self._tree()}:  # it may have started more
            with suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(tree, timeout=PATIENCE)
        self._home.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self, command: Sequence[str], told: Mapping[str, str]) -> psutil.Popen:
        """The process; its files are in a folder that goes with it, Ray's where they always are."""
        places = {"TMPDIR": self._home.name, "RAY_TMPDIR": tempfile.gettempdir()}
        with self._log.open("wb") as log:
            return psutil.Popen(
                command,
                env={**os.environ, **_QUIET, **places, **told},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _accepted(self, server: socket.socket) -> socket.socket:
        end = time.monotonic() + STARTS
        server.settimeout(1.0)
        while time.monotonic() < end and self._process.poll() is None:
            with suppress(TimeoutError):
                return server.accept()[0]
        raise self._ended("before its first turn")

    def _read(self) -> str:
        line = self._stream.readline()
        if not line:
            raise self._ended("in its turn")
        return line

    def _ended(self, when: str) -> SelfTestError:
        lines = self._log.read_text(errors="replace").strip().splitlines() or ["nothing"]
        return SelfTestError(
            f"a contestant ended {when}", where=self._name, got="\n".join(lines[-8:])
        )

    def _tree(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return [psutil.Process(self._process.pid), *self._process.children(recursive=True)]
        return []

    def _work(self) -> float:
        total = 0.0
        for each in self._tree():
            with suppress(psutil.NoSuchProcess):
                spent = each.cpu_times()
                total += spent.user + spent.system + spent.children_user + spent.children_system
        return total


_QUIET = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # else Ray's workers step back behind all other work
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
