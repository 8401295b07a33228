"""The coordinator's one TLS port: what every service on it shares.

Invariants:
    * A message is at most one chunk, and of a stream no more than that is in flight; a connection
      without calls is closed after a minute; peers that do not answer pings are gone.
    * Every call passes the door (`presspool.server.transport.door`) before any service sees it.
    * Silent sockets are closed after `HANDSHAKE_SECONDS`, and there are never so many connections
      that the process lacks descriptors for its own files.
    * Health answers; reflection is not there.

Example: `server, port = open_port("127.0.0.1:8443", credentials, [pool.register], door=door)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from presspool.common.base.descriptors import most_connections
from presspool.common.base.errors import InputError
from presspool.common.pki.tls import SERVER_OPTIONS
from presspool.server.transport.door import Door

AT_THE_DOOR = 32  # threads for calls that are just being looked at, beside those let in or slowed
_WAITING = 2048  # calls that wait for such a thread; what comes then is refused unseen
HANDSHAKE_SECONDS = 10
_OPTIONS = (
    *SERVER_OPTIONS,
    ("grpc.max_concurrent_streams", 16),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1000),  # 120 s otherwise
    ("grpc.max_connection_idle_ms", 60_000),
    # Outlets dial anew every hour; an upload of theirs that is under way then goes on.
    ("grpc.max_connection_age_ms", 2 * 3_600_000),
    ("grpc.max_connection_age_grace_ms", 3_600_000),
    ("grpc.http2.max_ping_strikes", 2),
    # What a stream may have in flight: gRPC would let it grow with the speed of each outlet's line.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1 << 20),
)


def open_port(
    address: str,
    credentials: grpc.ServerCredentials,
    services: Iterable[Callable[[grpc.Server], None]],
    *,
    door: Door,
) -> tuple[grpc.Server, int]:
    """Start serving.

    Args:
        address: host and port; port 0 takes a free one.
        credentials: TLS that demands the caller's certificate.
        services: each puts its handlers on the server.
        door: what every call passes; the caller closes it.

    Returns:
        The running server, and its port.

    Raises:
        InputError: the address cannot be listened on.
    """
    threads = door.shares.calls + door.shares.slowed + AT_THE_DOOR
    server = grpc.server(
        ThreadPoolExecutor(threads, thread_name_prefix="call"),
        interceptors=[door],
        options=(*_OPTIONS, ("grpc.max_allowed_incoming_connections", most_connections())),
        maximum_concurrent_rpcs=_WAITING,
    )
    for register in services:
        register(server)
    _add_health(server)
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError:
        raise InputError(
            "cannot listen",
            where=address,
            expected="an address of this machine, and a free port",
            advice="see which other program uses it; where outlets reach this machine through a "
            "router or a container, say where it listens: --listen HOST:PORT, "
            "--listen 0.0.0.0:PORT for every address that it has",
        ) from None
    server.start()
    return server, port


def _add_health(server: grpc.Server) -> None:
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
