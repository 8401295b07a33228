"""`presspool bench transport`: what a round costs on the wire, with nothing trained.

A coordinator with the real desk, service and Grid runs in this process; every outlet is a process
with the real agent, over mutual TLS on loopback, whose trainer answers with zeros. Small rounds
show the cost of a round, large ones that of the bytes: the adapter goes down to every outlet and an
update of the same size comes up from each, through both sides' disks.

Invariants:
    * Times are medians over rounds after the first, which also makes connections.
    * Memory is this process's peak during the rounds, above what it held with the adapter ready.

Example: `bench_transport(Load(outlets=8, megabytes=0, rounds=20))`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from flwr.app import Message

from presspool.common.certificates import (
    Credential,
    issue_outlet,
    issue_server,
    make_key,
    make_request,
    make_root,
)
from presspool.common.flower import node_of
from presspool.common.keys import SigningKey
from presspool.common.tls import caller, server_credentials
from presspool.common.update import TrainTask, pack_task
from presspool.server.database import Database
from presspool.server.desk import Desk
from presspool.server.grid import GrpcGrid
from presspool.server.pool_service import PoolService
from presspool.server.port import open_port

_DIGEST = "sha256:" + "0" * 64
_PHASE = 600.0
_LOOK = 0.01  # seconds between two looks at the memory


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is sent.

    Attributes:
        outlets: how many.
        megabytes: size of the adapter and of each update, in 10^6 bytes; 0 for next to nothing.
        rounds: how many, beside the first.
    """

    outlets: int
    megabytes: int
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a load cost.

    Attributes:
        load: what was sent.
        seconds: of each round.
        peak_bytes: the coordinator's memory, see the module.
    """

    load: Load
    seconds: tuple[float, ...]
    peak_bytes: int

    @property
    def median_seconds(self) -> float:
        """Median seconds a round."""
        return statistics.median(self.seconds)

    def to_json(self) -> dict[str, Any]:
        """Everything measured, as plain values."""
        return asdict(self) | {"median_seconds": self.median_seconds}


@dataclass(frozen=True)
class _Outlet:
    """A member, as the service sees it."""

    name: str
    update_key: bytes


def bench_transport(load: Load, *, advance: Callable[[], None] = lambda: None) -> Measured:
    """Measure one load.

    Args:
        load: what to send.
        advance: called after each round.
    """
    state = {"w": np.zeros(max(1, load.megabytes * 250_000), np.float32)}
    seconds = []
    with tempfile.TemporaryDirectory(prefix="presspool-bench-") as folder:
        with _pool(Path(folder), load.outlets) as grid, _peak() as peak:
            for number in range(load.rounds + 1):
                content = pack_task(
                    TrainTask(contract="{}", digest=_DIGEST, round=number + 1, state=state)
                )
                nodes = grid.get_node_ids()
                messages = [Message(content, node, "train", group_id="") for node in nodes]
                began = time.monotonic()
                answered = sum(map(Message.has_content, grid.send_and_receive(messages)))
                seconds.append(time.monotonic() - began)
                if answered != load.outlets:
                    raise RuntimeError(f"{answered} of {load.outlets} outlets answered")
                advance()
        return Measured(load=load, seconds=tuple(seconds[1:]), peak_bytes=peak())


@contextmanager
def _pool(folder: Path, count: int) -> Iterator[GrpcGrid]:
    """A coordinator in this process and its outlets in others."""
    root = make_root("bench", now=time.time())
    key = SigningKey.generate()
    members = {name: _prepared(folder / name, root, key) for name in _names(count)}

    def member(context: grpc.ServicerContext) -> _Outlet:
        return members[caller(context).name]

    database = Database.open(f"sqlite:///{folder / 'coordinator.db'}")
    desk = Desk(database)
    service = PoolService(desk, member=member)
    port_credentials = issue_server(root, "localhost", now=time.time())
    credentials = server_credentials(port_credentials, root=root.certificate)
    server, port = open_port("localhost:0", credentials, [service.register])
    with ExitStack() as stack:
        stack.callback(database.close)
        stack.callback(lambda: server.stop(5.0).wait())
        stack.callback(service.close)
        for name in members:
            stack.enter_context(_agent(folder / name, port))
        yield GrpcGrid(desk, run="bench", key=key, outlets=list(members),
                       members=lambda: set(members), phase=_PHASE)  # fmt: skip


def _names(count: int) -> list[str]:
    return sorted((f"outlet-{number}" for number in range(count)), key=node_of)


def _prepared(home: Path, root: Credential, contract_key: SigningKey) -> _Outlet:
    """Write what an outlet's process needs; returns the member."""
    home.mkdir()
    tls, update = make_key(), SigningKey.generate()
    (home / "root.pem").write_bytes(root.certificate)
    pem = issue_outlet(root, home.name, make_request(tls), now=time.time())
    (home / "certificate.pem").write_bytes(pem)
    (home / "tls.key").write_bytes(tls)
    (home / "contract.pub").write_bytes(contract_key.public)
    update.write(home / "update.key")
    return _Outlet(home.name, update.public)


@contextmanager
def _agent(home: Path, port: int) -> Iterator[None]:
    """An outlet's process; ends with the block."""
    module = "presspool.simulations.bench.transport_outlet"
    command = [sys.executable, "-m", module, str(home), f"localhost:{port}"]
    settings = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=settings) as process:  # noqa: S603 - our own module
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def _peak() -> Iterator[Callable[[], int]]:
    """Bytes by which this process's memory rose at most within the block."""
    before = most = _resident()
    ended = threading.Event()

    def look() -> None:
        nonlocal most
        while not ended.wait(_LOOK):
            most = max(most, _resident())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield lambda: most - before
    finally:
        ended.set()
        thread.join()


def _resident() -> int:
    """Resident bytes, where the system tells (Linux), or 0."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
