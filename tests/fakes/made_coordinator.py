"""A pool on loopback: a coordinator's real folder, database and gRPC port, and tokens for it.

Beside the enrolment services runs a probe, which answers any member and shows what the port made of
its caller: the pool's own services do the same first step.

Example: `with Pool.started(tmp_path) as pool: token = pool.invite("daily-bugle")`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from tests.fakes.instruments.loopback import free_port

from presspool.client.identity.identity import Identity
from presspool.client.identity.joining import Joining
from presspool.common.pki.certificates import DAY, Credential
from presspool.common.pki.tls import SERVER_OPTIONS, caller, channel, server_credentials
from presspool.common.wire.token import Token
from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
from presspool.server.database import Database
from presspool.server.membership.enrolment_service import refusing, serve
from presspool.server.membership.members import Members

PROBE = "/presspool.v1.Probe/Call"
STREAM = "/presspool.v1.Probe/Stream"
AGE = 40 * DAY  # TLS knows the true time only, so what is old was made long ago


@dataclass
class Clock:
    """The coordinator's clock, which a test may move.

    Attributes:
        ahead: seconds.
    """

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class _Probe(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, members: Members) -> None:
        self._members = members

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method == PROBE:
            return grpc.unary_unary_rpc_method_handler(self._call)
        if details.method == STREAM:
            return grpc.stream_unary_rpc_method_handler(self._stream)
        return None

    def _call(self, _body: bytes, context: grpc.ServicerContext) -> bytes:
        with refusing(context):
            return self._members.member(caller(context)).name.encode()
        raise AssertionError

    def _stream(self, chunks: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        count = 0
        with refusing(context):
            for _ in chunks:
                self._members.member(caller(context))
                count += 1
        return str(count).encode()


class Recorder(grpc.ServerInterceptor):  # type: ignore[misc]
    """Keeps what arrived, as the bytes of the messages."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = continuation(details)
        if handler is None or handler.request_deserializer is None:
            return handler

        def keep(data: bytes) -> object:
            self.bodies.append(data)
            return handler.request_deserializer(data)

        return grpc.unary_unary_rpc_method_handler(
            handler.unary_unary, keep, handler.response_serializer
        )


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A started pool.

    Attributes:
        folder: the coordinator's, whose address is the port that it listens on.
        database: open.
        members: who is in.
        clock: the coordinator's.
        received: the requests that arrived.
    """

    folder: CoordinatorFolder
    database: Database
    members: Members
    clock: Clock
    received: list[bytes] = field(default_factory=list)

    @classmethod
    @contextmanager
    def started(cls, parent: Path) -> Iterator[Pool]:
        """Make a coordinator of some age below `parent` and start its port on loopback."""
        home, address = parent / "coordinator", f"localhost:{free_port()}"
        CoordinatorFolder.create(
            home, name="press-pool", address=address, database=None, now=time.time() - AGE
        )
        with cls.listening(home) as pool:
            yield pool

    @classmethod
    @contextmanager
    def listening(cls, home: Path, *, at: str = "") -> Iterator[Pool]:
        """Start the port of a coordinator that is there, at its address or another of its own."""
        folder, clock, recorder = CoordinatorFolder.read(home), Clock(), Recorder()
        database = Database.open(folder.database)
        members = Members(database, clock=clock)
        server = grpc.server(
            futures.ThreadPoolExecutor(8), options=SERVER_OPTIONS, interceptors=[recorder]
        )
        serve(server, members, folder.root, addresses=folder.addresses)
        server.add_generic_rpc_handlers((_Probe(members),))
        credentials = server_credentials(folder.server, root=folder.root.certificate)
        server.add_secure_port(at or folder.address, credentials)
        server.start()
        try:
            yield cls(
                folder=folder,
                database=database,
                members=members,
                clock=clock,
                received=recorder.bodies,
            )
        finally:
            server.stop(0).wait()
            database.close()

    def invite(self, name: str, *, ttl: int = 3600) -> Token:
        """A token for an outlet."""
        return self.folder.token(self.members.invite(name, ttl=ttl), now=self.clock())

    def join(self, token: Token, home: Path) -> Identity:
        """Join and be admitted, as both operators would."""
        with Joining.begin(token, home) as joining:
            joining.ask()
            self.members.admit(token.outlet, joining.fingerprint, self.folder.root)
            identity = joining.collect()
        assert identity is not None
        return identity

    def probe(self, credential: Credential, *, root: bytes | None = None) -> str:
        """Who the port takes the holder of a credential for; raises `grpc.RpcError`."""
        with channel(
            self.folder.address, credential, root=root or self.folder.root.certificate
        ) as link:
            answer: bytes = link.unary_unary(PROBE)(b"", timeout=60)
            return answer.decode()
