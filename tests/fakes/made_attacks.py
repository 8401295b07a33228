"""A real coordinator in a process of its own, its members' keys, and callers who mean it harm.

Example: `with attacked(tmp_path, ["north-post"]) as pool: pool.flood("north-post", …)`.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import grpc
from sqlalchemy import create_engine, text
from tests.fakes.instruments.loopback import free_port

from presspool.common.pki.certificates import Credential, issue_invitation, make_key, make_request
from presspool.common.pki.keys import SigningKey
from presspool.common.pki.tls import Caller, channel
from presspool.common.transparency import notes
from presspool.common.wire.enrolment import prove
from presspool.common.wire.peers import origin_of
from presspool.server.coordinator.coordinator import Coordinator
from presspool.server.coordinator.coordinator_dashboard import dashboard
from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
from presspool.server.database import Database
from presspool.server.membership.members import Members

POLL = "/presspool.v1.Pool/NextTask"
CHECK = "/presspool.v1.Membership/Check"
COLLECT = "/presspool.v1.Enrolment/Collect"
HEALTH_WATCH = "/grpc.health.v1.Health/Watch"
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, kw_only=True)
class AttackedOutlet:
    """A member, with all of its keys."""

    name: str
    credential: Credential
    update: SigningKey
    log_seed: bytes

    @property
    def log(self) -> notes.Signer:
        """The key of its ledger's heads."""
        return notes.Signer.load(origin_of(self.name), self.log_seed, kind=notes.NOTE)


@dataclass(frozen=True)
class AttackedPool:
    """A coordinator that listens, and its members.

    Attributes:
        home: the coordinator's.
        outlets: its members.
    """

    home: Path
    outlets: dict[str, AttackedOutlet]

    @property
    def folder(self) -> CoordinatorFolder:
        """The home's content."""
        return _read(self.home)

    @property
    def log_file(self) -> Path:
        """What the coordinator wrote."""
        return self.home / "log"

    def dial(self, credential: Credential) -> grpc.Channel:
        """A connection of its own."""
        return channel(self.folder.address, credential, root=self.folder.root.certificate)

    def call(self, name: str, method: str, *, timeout: float = 60.0) -> bytes:
        """An honest call without fields, on a new connection."""
        with self.dial(self.outlets[name].credential) as link:
            answer: bytes = link.unary_unary(method)(b"", timeout=timeout, wait_for_ready=True)
            return answer

    def stranger(self) -> Credential:
        """A token that nobody has used."""
        with opened(self.folder) as (_, members):
            invited = members.invite(f"stranger-{os.urandom(4).hex()}", ttl=3600)
        return issue_invitation(
            self.folder.root, invited.id, now=time.time(), until=invited.answerable
        )

    def revoke(self, name: str) -> None:
        """As the coordinator's operator does."""
        with opened(self.folder) as (_, members):
            members.revoke(name, "hostile")


@contextmanager
def opened(folder: CoordinatorFolder) -> Iterator[tuple[Database, Members]]:
    """The coordinator's database, as its commands open it."""
    database = Database.open(folder.database)
    try:
        yield database, Members(database)
    finally:
        database.close()


@contextmanager
def attacked(
    parent: Path,
    names: Sequence[str],
    *,
    descriptors: tuple[int, int] | None = None,
    pages: str | None = None,
) -> Iterator[AttackedPool]:
    """A coordinator with these members.

    Args:
        parent: where its home is made.
        names: the members.
        descriptors: its process's soft and hard limit.
        pages: where its dashboard listens.
    """
    folder, outlets = made_members(parent, names)
    process = SPAWN.Process(target=_serve, args=(folder.path, descriptors, pages), daemon=True)
    process.start()
    try:
        pool = AttackedPool(folder.path, outlets)
        pool.call(names[0], CHECK, timeout=300.0)  # a new interpreter starts
        yield pool
    finally:
        process.terminate()
        process.join()


def made_members(
    parent: Path, names: Sequence[str]
) -> tuple[CoordinatorFolder, dict[str, AttackedOutlet]]:
    """A coordinator's home that nobody serves yet, and its members."""
    folder = CoordinatorFolder.create(
        parent / "coordinator",
        name="press-pool",
        address=f"localhost:{free_port()}",
        database=None,
        now=time.time(),
    )
    return folder, {name: _joined(folder, name) for name in names}


def _joined(folder: CoordinatorFolder, name: str) -> AttackedOutlet:
    """A member, made as both operators would."""
    tls, seeds = make_key(), [os.urandom(32) for _ in range(3)]
    update, log, witness = map(SigningKey, seeds)
    with opened(folder) as (_, members):
        invited = members.invite(name, ttl=3600)
        who = Caller(kind="invitation", name=invited.id, serial="0")
        proofs = prove(
            invited.id,
            make_request(tls),
            update=update,
            log=log,
            witness=witness,
        )
        keys = members.request(who, proofs)
        members.admit(name, keys.fingerprint, folder.root)
        pem = members.collect(who)
    assert pem is not None
    return AttackedOutlet(
        name=name,
        credential=Credential(certificate=pem, key=tls),
        update=update,
        log_seed=seeds[1],
    )


@lru_cache
def _read(home: Path) -> CoordinatorFolder:
    return CoordinatorFolder.read(home)


def _serve(home: Path, descriptors: tuple[int, int] | None, pages: str | None) -> None:
    if descriptors is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, descriptors)
    with (
        coordinator_of(home) as (coordinator, folder),
        dashboard(folder, listen=pages) if pages else nullcontext(),
    ):
        coordinator.serve()


@contextmanager
def coordinator_of(home: Path) -> Iterator[tuple[Coordinator, CoordinatorFolder]]:
    """The coordinator of a home, in this process, which then writes to the home's log alone."""
    log = os.open(home / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    logging.basicConfig(level=logging.INFO)
    folder = CoordinatorFolder.read(home)
    yield Coordinator(folder, listen=folder.address), folder


@contextmanager
def silent(address: str, count: int) -> Iterator[None]:
    """So many connections on which nothing is ever said."""
    host, port = address.rsplit(":", 1)
    with ExitStack() as stack:
        for _ in range(count):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)  # a full backlog keeps nobody waiting here
            one.connect_ex((socket.gethostbyname(host), int(port)))
        yield


@contextmanager
def withheld(link: grpc.Channel, method: str, count: int) -> Iterator[list[grpc.Call]]:
    """So many calls of a unary method whose message never comes."""
    ended = threading.Event()

    def silence() -> Iterator[bytes]:
        ended.wait(60.0)
        yield b""

    calls = [link.stream_stream(method)(silence()) for _ in range(count)]
    try:
        yield calls
    finally:
        for call in calls:
            call.cancel()
        ended.set()


def asked(pool: AttackedPool, query: str) -> tuple[int, ...]:
    """One row of the coordinator's database."""
    engine = create_engine(pool.folder.database)
    try:
        with engine.connect() as session:
            return tuple(session.execute(text(query)).one())
    finally:
        engine.dispose()
