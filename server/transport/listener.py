"""The coordinator's one TLS port: what every service on it shares.

Invariants:
    * A message is at most one chunk, and of a stream no more than that is in flight; a connection
      without calls is closed after a minute; peers that do not answer pings are gone.
    * Health answers; reflection is not there.

Example: `server, port = open_port("0.0.0.0:8443", credentials, [pool.register])`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from presspool.common.base.errors import InputError
from presspool.common.pki.tls import SERVER_OPTIONS

CALLS = 256  # at a time over all outlets; a waiting poll is one
_OPTIONS = (
    *SERVER_OPTIONS,
    ("grpc.max_concurrent_streams", 16),
    ("grpc.max_connection_idle_ms", 60_000),
    # What a stream may have in flight: gRPC would let it grow with the speed of each outlet's line.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1 << 20),
)


def open_port(
    address: str,
    credentials: grpc.ServerCredentials,
    services: Iterable[Callable[[grpc.Server], None]],
) -> tuple[grpc.Server, int]:
    """Start serving.

    Args:
        address: host and port; port 0 takes a free one.
        credentials: TLS that demands the caller's certificate.
        services: each puts its handlers on the server.

    Returns:
        The running server, and its port.

    Raises:
        InputError: the address cannot be listened on.
    """
    server = grpc.server(
        ThreadPoolExecutor(CALLS, thread_name_prefix="call"),
        options=_OPTIONS,
        maximum_concurrent_rpcs=CALLS,
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
            advice="see which other program uses it",
        ) from None
    server.start()
    return server, port


def _add_health(server: grpc.Server) -> None:
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
