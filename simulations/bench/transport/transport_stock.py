"""The stock contestant of `presspool bench transport`: Flower's own SuperLink and SuperNodes.

A SuperLink with TLS and one SuperNode for each outlet, as processes on the loopback address, with
Flower's own settings but for telemetry, update checks and installing at run time. SuperNodes show
no key, which spares them a signature a call. The server's app is told over a local socket when to
make a round, so that rounds can take turns with ours.

Invariant: nothing of it is left when the block ends.

Example: `with stock(load, folder) as one_round: one_round()` gives seconds.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TextIO

from presspool.common.pki.certificates import issue_server, make_root
from presspool.simulations.bench.transport.transport_results import Load

_BIN = Path(sys.executable).parent
_START = 240.0  # seconds until all nodes are there; each imports Flower
_APP = """\
[project]
name = "presspool-bench"
version = "0.1.0"
description = "Rounds without work"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "presspool"

[tool.flwr.app.components]
serverapp = "presspool.simulations.bench.transport.transport_stock_app:server"
clientapp = "presspool.simulations.bench.transport.transport_stock_app:client"

[tool.flwr.app.config]
socket = "{socket}"
outlets = {outlets}
megabytes = {megabytes}
"""
_CONFIG = """\
[superlink]
default = "here"

[superlink.here]
address = "127.0.0.1:{port}"
root-certificates = "{root}"
"""


@contextmanager
def stock(load: Load, folder: Path) -> Iterator[Callable[[], tuple[float, float]]]:
    """A function that makes a round: its seconds, and those since the first answer was ready.

    Args:
        load: what is sent.
        folder: a new one, with a short path.

    Raises:
        RuntimeError: a process ended, or not all nodes came.
    """
    folder.mkdir()
    port, root = _written(folder, load)
    tls = (
        "--ssl-ca-certfile",
        root,
        "--ssl-certfile",
        folder / "server.pem",
        "--ssl-keyfile",
        folder / "server.key",
    )
    with socket.socket(socket.AF_UNIX) as listener, _Processes(folder) as start:
        listener.bind(str(folder / "socket"))
        listener.listen()
        start(
            "flower-superlink",
            *tls,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--disable-runtime-dependency-installation",
        )
        _await_port(start, port)
        for _ in range(load.outlets):
            start(
                "flower-supernode",
                "--superlink",
                f"127.0.0.1:{port}",
                "--root-certificates",
                root,
                "--port",
                str(_free_port()),
            )
        start("flwr", "run", folder / "app", "--stream")
        with _answered(start, listener) as server:
            _said(start, server)  # "ready"

            def one_round() -> tuple[float, float]:
                print("round", file=server, flush=True)
                seconds, arrival = map(float, _said(start, server).split())
                return seconds, arrival

            yield one_round


class _Processes:
    """Flower's commands, each in a group of its own with whatever it starts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []
        self._environment = os.environ | {
            "PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}",  # Flower starts its own commands
            "FLWR_HOME": str(folder),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "OMP_NUM_THREADS": "1",
        }

    def __call__(self, command: str, *arguments: str | Path) -> None:
        """Start a command."""
        with (self._folder / "log").open("ab") as log:
            self._running.append(
                subprocess.Popen(  # noqa: S603 - Flower's commands with our arguments
                    [_BIN / command, *arguments],
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def check(self) -> None:
        """Raise `RuntimeError` where one has ended by itself."""
        if any(process.poll() is not None for process in self._running):
            said = (self._folder / "log").read_text(errors="replace")
            raise RuntimeError(f"one of Flower's processes ended:\n{said[-3000:]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End them in the reverse order, and then whatever is left of their groups."""
        for process in reversed(self._running):
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        for process in self._running:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            process.wait()


def _written(folder: Path, load: Load) -> tuple[int, Path]:
    """Write certificates, configuration and app; returns the port and the authority's file."""
    root, port = make_root("bench", now=time.time()), _free_port()
    server = issue_server(root, "127.0.0.1", now=time.time())
    for name, data in (
        ("root.pem", root.certificate),
        ("server.pem", server.certificate),
        ("server.key", server.key),
    ):
        (folder / name).write_bytes(data)
    (folder / "config.toml").write_text(_CONFIG.format(port=port, root=folder / "root.pem"))
    (folder / "app").mkdir()
    app = _APP.format(socket=folder / "socket", outlets=load.outlets, megabytes=load.megabytes)
    (folder / "app" / "pyproject.toml").write_text(app)
    return port, folder / "root.pem"


def _await_port(start: _Processes, port: int) -> None:
    while True:
        start.check()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            time.sleep(0.2)
        else:
            return


@contextmanager
def _answered(start: _Processes, listener: socket.socket) -> Iterator[TextIO]:
    """What the server's app says and hears, once it has started."""
    listener.settimeout(0.5)
    until = time.monotonic() + _START
    while True:
        try:
            server, _ = listener.accept()
        except TimeoutError:
            start.check()
            if time.monotonic() > until:
                raise RuntimeError("Flower's server app did not start") from None
        else:
            break
    server.settimeout(_START)
    with server, server.makefile("rw") as lines:
        yield lines


def _said(start: _Processes, server: TextIO) -> str:
    line = server.readline()
    if not line:
        start.check()
        raise RuntimeError("Flower's server app ended")
    return line


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
