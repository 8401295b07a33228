"""Commands of `presspool` in processes of their own, which begin with torch imported.

Each is a copy of the server that simulations' workers are copies of, and then what an interpreter
that was started with `-m` is: its own words, environment, files and signals. Journeys type commands
in new interpreters, as a shell does; where a test needs many, these save five seconds of a
processor each.

Example: `WarmCommand(["presspool.cli", "--help"], out=log, err=log).wait(60)`.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from presspool.simulations.grids.worker_pools import CONTEXT


class WarmCommand:
    """A process, as `subprocess.Popen` has it.

    Args:
        words: a module, and its arguments.
        out: the file to which what it says is added.
        err: likewise, of its messages.
        environment: all of it.
    """

    def __init__(
        self, words: Sequence[str], *, out: Path, err: Path, environment: Mapping[str, str]
    ) -> None:
        self._process = CONTEXT.Process(target=_work, args=(words, out, err, dict(environment)))
        self._process.start()

    def send_signal(self, kind: signal.Signals) -> None:
        """Nothing happens where it has ended."""
        if self.poll() is None:
            assert self._process.pid is not None
            os.kill(self._process.pid, kind)

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        code: int | None = self._process.exitcode
        return code

    def wait(self, timeout: float) -> int:
        """The exit code, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not.
        """
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired("presspool", timeout)
        return code


def _work(words: Sequence[str], out: Path, err: Path, environment: Mapping[str, str]) -> None:
    for number, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    sys.argv[1:] = words[1:]
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
