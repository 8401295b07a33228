"""A coordinator whose disk is full: nothing half written or lost, and with room it goes on."""

from __future__ import annotations

import resource
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from tests.fakes.children import pool_children
from tests.fakes.instruments.loopback import free_port
from tests.fakes.made_certificates import Certificates
from tests.fakes.made_pool import POSITION, adds, made_outlet, spoiled

from presspool.client.agent.agent import Agent, Backoff
from presspool.client.agent.spool import Spool
from presspool.client.identity.coordinator_client import CoordinatorClient
from presspool.client.round import Round
from presspool.common.base.errors import LinkError
from presspool.common.wire.envelope import CHUNK_BYTES, body_digest

OUTLET = "north-post"
WAIT = 120.0
SIZE = 12 * CHUNK_BYTES  # bytes of an update: three transactions of the desk's
ROOM = 6 * CHUNK_BYTES  # for the first of them at most


def eventually(what: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT
    while not what():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.05)


def leave_room(process: int, size: int) -> None:
    """Let a running process make no file larger than so many bytes, as if its disk were full."""
    _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size, hard))


def rows(database: Path, query: str) -> int:
    """A number out of a database that somebody else is writing."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        return int(connection.execute(query).fetchone()[0])


UPDATES = "SELECT count(*) FROM updates"
STAGED = "SELECT count(*) FROM chunks WHERE owner NOT LIKE '%/%'"


class Deliveries(CoordinatorClient):
    """The real link; counts what could not be delivered."""

    failed = 0

    def deliver(self, *reply: object) -> None:
        try:
            super().deliver(*reply)  # type: ignore[arg-type]
        except LinkError:
            self.failed += 1
            raise


def test_a_full_disk_at_the_coordinator_refuses_uploads_whole_until_there_is_room(
    tmp_path: Path,
) -> None:
    made = Certificates.make()
    made.write(tmp_path)
    address = f"localhost:{(port := free_port())}"
    coordinator = pool_children.start(pool_children.keeper, tmp_path, port, OUTLET, SIZE)
    database, trained = tmp_path / "coordinator.db", list[Round]()

    def train(asked: Round, kept: Path) -> bytes:
        trained.append(asked)
        delta = np.random.default_rng(1).random(SIZE // 4, np.float32)
        return adds(OUTLET, spoiled(delta={"w": delta}))(asked, kept)

    link = Deliveries(address, lambda: made.dial(address, OUTLET))
    with Spool.open(tmp_path / "work") as spool:
        node = Agent(
            identity=made_outlet(OUTLET),
            spool=spool,
            link=link,
            trainer=train,
            position=lambda _: POSITION,
            backoff=Backoff(first=0.05, most=0.5),
        )
        eventually(lambda: _fetched(node, spool))
        node.step()  # trained and sealed
        (task,) = spool.tasks()
        sealed = body_digest(b"".join(spool.reply(task)[1]))
        assert coordinator.pid is not None
        leave_room(coordinator.pid, ROOM)

        working = threading.Thread(target=node.run)
        working.start()
        eventually(lambda: link.failed >= 5)
        assert coordinator.is_alive()
        assert rows(database, UPDATES) == 0
        assert spool.undelivered() == task
        leave_room(coordinator.pid, resource.RLIM_INFINITY)
        coordinator.join(WAIT)
        node.stop()
        working.join(WAIT)
    assert coordinator.exitcode == 0
    assert len(trained) == 1
    assert (tmp_path / "came").read_text() == sealed
    assert rows(database, STAGED) == 13  # the update's own chunks and no others
    assert "refuses" in (tmp_path / "coordinator.log").read_text()


def _fetched(node: Agent, spool: Spool) -> bool:
    with suppress(LinkError):  # the coordinator is still starting
        node.step()
    return spool.tasks() != []  # a step also ends when no task came in time
