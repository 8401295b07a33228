"""What an operator's screen shows of a link that fails: our one message, and no line of gRPC's."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
from presspool.server.database import Database
from presspool.server.membership.members import Members


@pytest.fixture
def other_service() -> Iterator[str]:
    """A port at which something else answers than a coordinator."""
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        try:
            while True:
                link, _ = listening.accept()
                link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                link.close()
        except OSError:  # closed
            return

    threading.Thread(target=answer, daemon=True).start()
    yield f"127.0.0.1:{listening.getsockname()[1]}"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def test_a_port_of_another_service_is_one_message(other_service: str, tmp_path: Path) -> None:
    pool = CoordinatorFolder.create(
        tmp_path / "pool", name="pool", address=other_service, database=None, now=time.time()
    )
    database = Database.open(pool.database)
    token = pool.token(Members(database).invite("north-post", ttl=3600), now=time.time()).encode()
    database.close()
    joined = subprocess.run(
        [sys.executable, "-m", "presspool.cli", "outlet", "join", token, "--home", tmp_path / "o"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert joined.returncode == 1
    assert "cannot talk to the coordinator" in joined.stderr
    assert "nobody answers there" in joined.stderr
    for foreign in (".cc:", "ssl_transport", "last error", "ipv4:", "UNAVAILABLE"):
        assert foreign not in joined.stderr
