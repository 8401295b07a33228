"""Processes of an interpreter, `presspool` first of all, which begin with torch imported.

Each is a copy of the server that simulations' workers are copies of, and then what an interpreter
that was just started is: its own words, environment, files, signals and modules. Journeys type
commands in new interpreters, as a shell does; everywhere else these save five seconds of a
processor each.

Example: `WarmCommand(["-m", "presspool.cli", "--help"], out=log, err=log).wait(60)`.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from presspool.simulations.grids.worker_pools import CONTEXT, ctrl_c_held_back


class WarmCommand:
    """A process, as `subprocess.Popen` has it.

    Args:
        words: what an interpreter is given: "-m" and a module, or "-c" and a program; arguments.
        out: the file to which what it says is added.
        err: likewise, of its messages.
        environment: all of it; None for this process's.
        folder: where it works; None for where this process began.
    """

    def __init__(
        self,
        words: Sequence[object],
        *,
        out: Path,
        err: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        own = dict(os.environ if environment is None else environment)
        asked = (list(map(str, words)), out, err, own, folder)
        self._process = CONTEXT.Process(target=_work, args=asked)
        with ctrl_c_held_back():  # it may be the first, with which the server of all begins
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

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        self.send_signal(signal.SIGKILL)
        self._process.join()


def run_warm(
    words: Sequence[object],
    *,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` with the interpreter and these words; arguments as of `WarmCommand`.

    Raises:
        subprocess.TimeoutExpired: it has not ended in so many seconds.
    """
    with tempfile.TemporaryDirectory() as here:
        out, err = Path(here) / "out", Path(here) / "err"
        command = WarmCommand(words, out=out, err=err, environment=environment, folder=folder)
        try:
            code = command.wait(timeout)
        finally:
            command.kill()
        said = out.read_text(), err.read_text()
        return subprocess.CompletedProcess(list(map(str, words)), code, *said)


def _work(
    words: Sequence[str], out: Path, err: Path, environment: Mapping[str, str], folder: Path | None
) -> None:
    for number, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # that of another environment
    if folder is not None:
        os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _forget_ours(environment.get("PYTHONPATH", ""))
    (how, what), sys.argv[1:] = words[:2], words[2:]
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv[0], sys.modules["__main__"] = how, ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), vars(sys.modules["__main__"]))


def _forget_ours(python_path: str) -> None:
    """PressPool is what is found at PYTHONPATH first: another one may be imported by now.

    Modules of the tests go with it, since they hold on to it.
    """
    sys.path[:0] = filter(None, python_path.split(os.pathsep))
    for name in [name for name in sys.modules if name.partition(".")[0] in ("presspool", "tests")]:
        del sys.modules[name]
