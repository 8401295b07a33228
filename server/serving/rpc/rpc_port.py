"""The gRPC port beside HTTP's, in its loop and before the same application.

Invariants:
    * Where callers show certificates, or there is TLS, a call over less than TLS 1.3 and one by an
      invitation are refused before anything of them is read.
    * There is health, and no reflection.
    * A message is at most a body's size, and what is not yet read of a call is 64 KiB at most.

Example: `Serving(app, listener, beside=RpcPort(app, draining, address=("127.0.0.1", 0), …))`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import grpc

from presspool.common.audit.dashboard.serving import IDLE_SECONDS, SOCKETS, Admit, names
from presspool.common.base.errors import InputError
from presspool.common.pki.tls import SERVER_OPTIONS
from presspool.server.serving.request_gate import MOST_BYTES, SMALL, Draining
from presspool.server.serving.rpc.rpc_calls import rpc_handlers
from presspool.server.serving.rpc.rpc_health import health_handlers

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_AGE, _LEFT = 60_000, 120_000  # milliseconds of a connection, and for calls on one of that age
_PLACES = 1024  # gRPC's own, which it keeps for an answer that is not read while the connection is
_OPTIONS = dict(SERVER_OPTIONS) | {
    "grpc.max_concurrent_streams": 32,
    "grpc.max_receive_message_length": MOST_BYTES,
    "grpc.max_send_message_length": -1,
    "grpc.max_connection_idle_ms": 60_000,
    "grpc.max_connection_age_ms": _AGE,
    "grpc.max_connection_age_grace_ms": _LEFT,
    "grpc.server_handshake_timeout_ms": IDLE_SECONDS * 1000,
    "grpc.max_allowed_incoming_connections": SOCKETS,
    "grpc.http2.bdp_probe": 0,
    "grpc.http2.lookahead_bytes": SMALL,
    "grpc.compression_enabled_algorithms_bitset": 1,  # none: a small message is no large one
}


class RpcPort:
    """Listens for as long as the block lasts.

    Args:
        app: the application behind its gate.
        draining: the server's.
        address: host and port; port 0 takes a free one.
        host: a name of the HTTP port that the gate answers.
        tls: what the port shows and asks for; None for none.
        admit: asked for each caller's certificate, where there are any.

    Attributes:
        address: HOST:PORT, once it listens.
    """

    def __init__(
        self,
        app: ASGIApp,
        draining: Draining,
        *,
        address: tuple[str, int],
        host: str,
        tls: grpc.ServerCredentials | None = None,
        admit: Admit | None = None,
    ) -> None:
        self._app, self._draining, self._host = app, draining, host
        self._where, self._tls, self._admit = address, tls, admit
        self.address = ""

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            InputError: the address cannot be listened on.
        """
        self._server = grpc.aio.server(
            options=list(_OPTIONS.items()),
            maximum_concurrent_rpcs=_PLACES,
        )
        handlers = rpc_handlers(self._app, host=self._host, admitted=self._admitted)
        told = health_handlers(self._draining, admitted=self._admitted)
        self._server.add_generic_rpc_handlers([handlers, told])
        self.address = self._listen()
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let calls under way end."""
        await self._server.stop(grace=1)

    def _listen(self) -> str:
        host, port = self._where
        (wanted,) = names(port, host)
        try:
            if self._tls is None:
                port = self._server.add_insecure_port(wanted)
            else:
                port = self._server.add_secure_port(wanted, self._tls)
        except RuntimeError:
            raise InputError(
                "cannot listen",
                where=f"--grpc-port {wanted}",
                expected="an address of this machine, and a free port",
            ) from None
        return min(names(port, host))

    def _admitted(self, facts: Mapping[str, Any]) -> bool:
        if self._tls is None:
            return True
        shown = facts.get("x509_pem_cert", [])
        known = [ssl.PEM_cert_to_DER_cert(one.decode("ascii")) for one in shown]
        admitted = self._admit is None or (len(known) == 1 and self._admit(known[0]))
        return admitted and list(facts.get("ssl_tls_version", [])) == [b"TLSv1.3"]
