"""A real PostgreSQL server for tests: Debian's package, its own folder, a socket and no port.

The server refuses to run as root, so where the tests do it runs as the package's own user; there
the package is also installed if it is missing. Elsewhere the tests skip, and say why.

Example: a test that takes `databases` opens a new database with `databases("postgresql")`.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.fakes.debian.debian_packages import install

USER = "postgres"
START_SECONDS = 120.0
_SPEED = (
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=8MB",
    "max_connections=40",
    "listen_addresses=",
    "autovacuum=off",
)


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        folder: holds its data and its socket.
        user: the operating system's user that it runs as.
    """

    folder: Path
    user: str

    def create(self, name: str) -> str:
        """A new database's URL."""
        import psycopg

        with psycopg.connect(
            host=str(self.folder), user=self.user, dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return f"postgresql+psycopg://{self.user}@/{name}?host={self.folder}"

    def cut(self, name: str) -> int:
        """End all connections to a database, as a lost network would; how many there were.

        They are gone, with their locks, when it returns.
        """
        import psycopg

        ended = "SELECT count(pg_terminate_backend(pid, 60000))"
        asked = f"{ended} FROM pg_stat_activity WHERE datname = %s"
        with psycopg.connect(
            host=str(self.folder), user=self.user, dbname="postgres", autocommit=True
        ) as connection:
            found = connection.execute(asked, (name,)).fetchone()
        assert found is not None
        return int(found[0])


@contextmanager
def running() -> Iterator[Server]:
    """A server for as long as the block lasts, or a skip that says why there can be none."""
    pytest.importorskip("psycopg", reason="no PostgreSQL driver: install presspool[postgres]")
    binaries = _binaries()
    root = os.geteuid() == 0
    user = USER if root else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="presspool-postgres-"))
    if root:
        shutil.chown(folder, USER, USER)
    run_as = USER if root else None
    try:
        subprocess.run(
            [
                binaries / "initdb",
                "--pgdata",
                folder / "data",
                "--auth=trust",
                "--no-sync",
                "--no-instructions",
                "--encoding=UTF8",
                "--locale=C",
            ],
            check=True,
            capture_output=True,
            user=run_as,
            cwd=folder,
        )
        options = [part for option in _SPEED for part in ("-c", option)]
        server = subprocess.Popen(
            [binaries / "postgres", "-D", folder / "data", "-k", folder, *options],
            stdout=subprocess.DEVNULL,
            stderr=(folder / "log").open("wb"),
            user=run_as,
            cwd=folder,
            preexec_fn=_die_with_parent,
        )
        try:
            _await(server, folder)
            yield Server(folder, user)
        finally:
            server.send_signal(signal.SIGINT)  # fast: does not wait for clients
            try:
                server.wait(timeout=START_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path:
    install("postgresql", unless=_installed)
    if not (found := _installed()):
        pytest.skip("no PostgreSQL server here: install Debian's package postgresql")
    return found[-1]


def _installed() -> list[Path]:
    return sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))


def _await(server: subprocess.Popen[bytes], folder: Path) -> None:
    import psycopg

    end = time.monotonic() + START_SECONDS
    user = USER if os.geteuid() == 0 else None
    while True:
        try:
            psycopg.connect(host=str(folder), user=user, dbname="postgres").close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > end:
                log = (folder / "log").read_text(errors="replace")
                raise AssertionError(f"PostgreSQL did not start:\n{log}") from None
            time.sleep(0.05)
        else:
            return


def _die_with_parent() -> None:
    """Ask the kernel to stop the server should the tests be killed (PR_SET_PDEATHSIG = 1)."""
    ctypes.CDLL(None).prctl(1, signal.SIGINT)
