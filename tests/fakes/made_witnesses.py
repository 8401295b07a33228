"""A pool whose outlets witness for each other: the real port, service, database, keys and threads.

Outlets join as they do in the field and approve each other's real fingerprints; what is left out is
training: `Outlet.may_train` asks the gate's rule as the gate does. `TwoFaced` is a coordinator that
shows different outlets different logs under one key.

Example: `with witness_pool(tmp_path, 4) as pool: pool.service.commit(start_entry())`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from tests.fakes.instruments.loopback import free_port
from tests.fakes.made_outlets import new_ledger

from presspool.client.consent.budget import Budget
from presspool.client.consent.policy import read_policy
from presspool.client.identity.identity import Identity
from presspool.client.identity.joining import Joining
from presspool.client.witnessing import trusted_peers
from presspool.client.witnessing.witness_client import WitnessClient
from presspool.client.witnessing.witness_folder import WitnessFolder
from presspool.client.witnessing.witness_rule import WitnessRule
from presspool.client.witnessing.witness_watch import WitnessWatch
from presspool.common.base.errors import GuardError
from presspool.common.ledger.store import Ledger
from presspool.common.pki.tls import caller, channel, server_credentials
from presspool.common.proto.witness_pb2_grpc import (
    WitnessingServicer,
    add_WitnessingServicer_to_server,
)
from presspool.common.transparency.consortium_entries import Entry
from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
from presspool.server.database import Database
from presspool.server.membership import enrolment_service
from presspool.server.membership.members import Members
from presspool.server.transport.call_limits import Limits
from presspool.server.transport.door import Door
from presspool.server.transport.listener import open_port
from presspool.server.witnessing.witness_service import WitnessService

Service = Callable[[grpc.Server], None]
CONTRACT = "sha256:" + "c" * 64
QUICK = Limits(poll=2.0, check=0.1)
PUBLISH = 0.2  # seconds
LONGEST_WAIT = 200.0  # seconds; nothing here measures the machine


def adapter(name: str) -> str:
    """A digest that stands for an adapter."""
    return "sha256:" + name.encode().hex().ljust(64, "0")


def entry(
    number: int = 0, *, state: str = "", contract: str = CONTRACT, keys: str | None = None
) -> Entry:
    """A round's entry; the adapter is named after the round where nothing else is given."""
    return Entry(
        run="spring",
        contract=contract,
        round=number,
        outlets=("outlet-0", "outlet-1"),
        adapter=adapter(state or f"round {number}"),
        keys=keys,
    )


@dataclass
class Outlet:
    """An outlet that has joined.

    Attributes:
        identity: who it is.
        watch: its witness, where it runs.
        news: set when the witness has told training something.
        busy: whether a round is being trained, as its agent would say.
    """

    identity: Identity
    watch: WitnessWatch | None = None
    busy: bool = False
    news: threading.Event = field(default_factory=threading.Event)

    @property
    def home(self) -> Path:
        return self.identity.home

    @property
    def ledger(self) -> Path:
        return self.home / "ledger.db"

    @property
    def folder(self) -> WitnessFolder:
        return WitnessFolder.at(self.home)

    def link(self) -> WitnessClient:
        """A line of its own."""
        me = self.identity
        return WitnessClient(me.address, lambda: channel(me.address, me.credential, root=me.root))

    def start(self) -> None:
        """Let its witness work."""
        self.watch = WitnessWatch(
            self.identity,
            ledger=self.ledger,
            policy=self.home / "policy.toml",
            link=self.link(),
            news=self.news.set,
            busy=lambda: self.busy,
            publish=PUBLISH,
        )
        self.watch.__enter__()

    def stop(self) -> None:
        """End it."""
        if self.watch is not None:
            self.watch.__exit__(None, None, None)
            self.watch = None

    def rule(self) -> WitnessRule:
        liars = read_policy(self.home / "policy.toml").witnesses.liars
        return WitnessRule.of(self.identity, liars=liars)

    def answer(self, number: int, state: str = "", contract: str = CONTRACT) -> str:
        """What the gate says to a round: "trained", or the code of its refusal."""
        try:
            self.rule().check(
                contract, number=number, adapter=adapter(state or f"round {number - 1}")
            )
        except GuardError as error:
            return error.code
        return "trained"

    def settled(self, number: int, state: str = "", contract: str = CONTRACT) -> str:
        """The same once it is no "not now" any more; that too, if it stays so for long."""
        deadline = time.monotonic() + LONGEST_WAIT
        while (said := self.answer(number, state, contract)) == "not-now-witnesses":
            assert self.watch is not None
            assert time.monotonic() < deadline
            self.watch.want(contract, number - 1)
            self.news.wait(1.0)
            self.news.clear()
        return said

    def waits(self, number: int, turns: int = 12) -> bool:
        """Whether a round is still put off after the witness has asked many times."""
        for _ in range(turns):
            if self.answer(number) != "not-now-witnesses":
                return False
            assert self.watch is not None
            self.watch.want(CONTRACT, number - 1)
            self.news.wait(0.1)
        return True

    def entries(self) -> int:
        """Entries of its ledger."""
        with Ledger(self.ledger) as ledger:
            return ledger.book.size

    @contextmanager
    def budget(self) -> Iterator[Budget]:
        policy = read_policy(self.home / "policy.toml")
        with Budget.open(self.ledger, policy=policy, head=self.folder.own_head) as budget:
            yield budget


@dataclass
class WitnessPool:
    """A running pool.

    Attributes:
        home: the coordinator's.
        service: what it serves; of a two-faced coordinator the first face.
        members: who is in.
        outlets: in the order of their names.
    """

    home: Path
    folder: CoordinatorFolder
    database: Database
    service: WitnessService
    members: Members
    outlets: list[Outlet]
    refused: list[tuple[str, str]]

    def start(self, *numbers: int) -> None:
        """Start the witnesses of these outlets, or of all."""
        for number in numbers or range(len(self.outlets)):
            self.outlets[number].start()

    def join(self, name: str) -> Outlet:
        """Another outlet joins; it approves nobody."""
        home = self.home.parent / name
        home.mkdir()
        token = self.folder.token(self.members.invite(name, ttl=3600), now=time.time())
        with Joining.begin(token, home) as joining:
            joining.ask()
            self.members.admit(name, joining.fingerprint, self.folder.root)
            identity = joining.collect()
        assert identity is not None
        (home / "policy.toml").write_text("")
        new_ledger(home / "ledger.db", signer=identity.log)
        return Outlet(identity)


class TwoFaced(WitnessingServicer):
    """Two services behind one port: which one an outlet meets is chosen by its name.

    Attributes:
        faces: the services; each has a database of its own and the same log key.
        face: number of the face that an outlet meets; 0 if it is not named.
    """

    def __init__(self, faces: Sequence[WitnessService]) -> None:
        self.faces, self.face = faces, dict[str, int]()

    def __getattribute__(self, name: str) -> Any:
        if name[0].isupper():
            return lambda request, context: getattr(self._of(context), name)(request, context)
        return super().__getattribute__(name)

    def _of(self, context: grpc.ServicerContext) -> WitnessService:
        return self.faces[self.face.get(caller(context).name, 0)]

    def register(self, server: grpc.Server) -> None:
        add_WitnessingServicer_to_server(self, server)  # type: ignore[no-untyped-call]


@contextmanager
def witness_pool(
    parent: Path,
    count: int,
    *,
    liars: int = 0,
    faces: Callable[[Sequence[WitnessService]], TwoFaced] | None = None,
    more: Callable[[CoordinatorFolder, Database, Members], Service] | None = None,
) -> Iterator[WitnessPool]:
    """A pool of outlets that approve each other; none of their witnesses runs yet.

    `more` makes another service for the same port.
    """
    home, address = parent / "coordinator", f"localhost:{free_port()}"
    folder = CoordinatorFolder.create(
        home, name="press-pool", address=address, database=None, now=time.time()
    )
    databases = [Database.open(folder.database), Database.open(f"sqlite:///{parent / 'two.db'}")]
    members, refused = Members(databases[0]), list[tuple[str, str]]()
    services = [
        WitnessService(
            database,
            folder.log,
            peers=members.peers,
            limits=QUICK,
            member=lambda context: members.member(caller(context)),
            record=lambda *refusal: refused.append(refusal),
        )
        for database in databases
    ]
    door = Door(
        lambda context: members.member(caller(context)),
        record=lambda *refusal: refused.append(refusal),
    )
    served: WitnessService | TwoFaced = faces(services) if faces else services[0]
    server, _ = open_port(
        address,
        server_credentials(folder.server, root=folder.root.certificate),
        [
            served.register,
            lambda server: enrolment_service.serve(server, members, folder.root),
            *([more(folder, databases[0], members)] if more else []),
        ],
        door=door,
    )
    pool = WitnessPool(home, folder, databases[0], services[0], members, [], refused)
    try:
        pool.outlets = [pool.join(f"outlet-{number}") for number in range(count)]
        approve_all(pool.outlets)
        for outlet in pool.outlets:
            (outlet.home / "policy.toml").write_text(f"[witnesses]\nliars = {liars}\n")
        yield pool
    finally:
        for outlet in pool.outlets:
            outlet.stop()
        door.close()
        for service in services:
            service.close()
        server.stop(0.5).wait()
        for database in databases:
            database.close()


def approve_all(outlets: Sequence[Outlet]) -> None:
    """Every operator approves every other's keys, by the fingerprint that they say."""
    for outlet in outlets:
        for other in outlets:
            if other is not outlet:
                peer = other.identity.peer
                trusted_peers.approve(outlet.home, peer, peer.fingerprint, own=outlet.identity.peer)


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + LONGEST_WAIT
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
