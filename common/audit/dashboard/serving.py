"""Opens a port for the pages: plain on the loopback address, or with TLS for a coordinator.

Invariants:
    * Without TLS the port is at 127.0.0.1 and nowhere else.
    * The port is taken before anything is said, so a used one is an error and not a log line.
    * Few connections, short waits, small headers: nobody's slowness keeps others out for long,
      in mid-body or over an answer that is not read.
    * One address holds `AN_ADDRESS` of the sockets, TLS not yet begun included; what comes above
      that is closed as it is accepted.

Example: `with Serving(create_app(dashboard, hosts=hosts), free_port(8900)) as port: …`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Self

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from presspool.common.base.descriptors import most_connections
from presspool.common.base.errors import InputError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

CONNECTIONS = 64
SOCKETS = 4 * CONNECTIONS  # with those that say nothing yet
AN_ADDRESS = 32
IDLE_SECONDS, PATIENCE = 5, 6  # so many times as long for a body or an answer on its way
LOOPBACK = "127.0.0.1"
Admit = Callable[[bytes], bool]
"""Whether a client with this certificate (DER) may look."""


class Listener(socket.socket):
    """A socket that listens and does not let one address take all places.

    Attributes:
        an_address: sockets that one address may hold.
    """

    an_address = AN_ADDRESS

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection; raises `ConnectionAbortedError` for one too many."""
        held: list[tuple[socket.socket, str]] = getattr(self, "_held", [])
        held = [(other, place) for other, place in held if other.fileno() >= 0]
        found, address = super().accept()
        mine = sum(place == address[0] for _, place in held)
        if fits := mine < self.an_address and len(held) < SOCKETS:
            held.append((found, address[0]))
        self._held = held
        if not fits:
            found.close()
            raise ConnectionAbortedError
        return found, address


class _Hurried(asyncio.SelectorEventLoop):
    """A loop whose servers give a TLS handshake `IDLE_SECONDS`, not the usual minute."""

    async def create_server(self, *args: Any, **kinds: Any) -> asyncio.Server:
        """As its parent's."""
        if kinds.get("ssl") is not None:
            kinds["ssl_handshake_timeout"] = IDLE_SECONDS
        return await super().create_server(*args, **kinds)


def taken(host: str, port: int, *, an_address: int = AN_ADDRESS) -> Listener:
    """A socket that listens there; port 0 takes a free one.

    Args:
        host: an address of this machine.
        port: of it.
        an_address: sockets that one address may hold: few of browsers, many of a proxy.

    Raises:
        InputError: somebody else does, or it is no address of this machine.
    """
    most_connections()  # raises the limit of descriptors
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY where a socket says that it is TCP's; without, an answer's body
    # waits for the acknowledgement of its headers, 40 ms.
    found = Listener(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.an_address = an_address
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen(CONNECTIONS)
    except OSError as error:
        found.close()
        raise InputError(
            "cannot listen",
            where=f"{host}:{port}",
            got=error.strerror,
            expected="an address of this machine, and a free port",
            advice="choose another port",
        ) from None
    return found


def names(port: int, *hosts: str) -> frozenset[str]:
    """What a browser may call this port."""
    return frozenset(f"{f'[{host}]' if ':' in host else host}:{port}".lower() for host in hosts)


class Serving:
    """Serves an application from a thread of its own, for as long as the block lasts.

    Args:
        app: the application.
        listener: from `taken`.
        tls: how connections are secured; None for none.
        admit: asked for each connection; with TLS only.
        connections: calls that are under way at once, at most.
        beside: what runs in the same loop, from before the first answer to after the last.

    Raises:
        InputError: at its start, what `beside` cannot begin for.
    """

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        *,
        tls: ssl.SSLContext | None = None,
        admit: Admit | None = None,
        connections: int = CONNECTIONS,
        beside: AbstractAsyncContextManager[object] | None = None,
    ) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            http=_Admitting if admit else _Prompt,
            limit_concurrency=connections,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=16 << 10,
        )
        config.load()
        if tls is not None:
            config.ssl = tls
        config.admit = admit  # type: ignore[attr-defined]  # read by `_Admitting`
        self._server, self._listener = uvicorn.Server(config), listener
        self._beside, self._fault = beside or nullcontext(), list[InputError]()
        self._thread = threading.Thread(target=self._run, name="dashboard", daemon=True)

    @property
    def port(self) -> int:
        """The port that is listened at."""
        number: int = self._listener.getsockname()[1]
        return number

    def wait(self) -> None:
        """Until the server ends."""
        self._thread.join()

    def stop(self) -> None:
        """Let the server end. From any thread."""
        self._server.should_exit = True

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)
        for fault in self._fault:
            self._listener.close()
            raise fault
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_Hurried) as runner:
                runner.run(self._serve())
        except InputError as error:
            self._fault.append(error)

    async def _serve(self) -> None:
        async with self._beside:
            await self._server.serve(sockets=[self._listener])


class _Prompt(H11Protocol):
    """One connection that is closed where no whole request comes in time, or no answer is read.

    The server's own clock runs between requests only, so that headers sent by drops, or none at
    all, would keep a place for ever; so would half a body, and an answer that nobody takes.
    """

    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the clock."""
        self.access_log = False  # whatever became of its logger: paths may hold what was asked
        super().connection_made(transport)
        self._tick(None, 0)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock: a TLS transport that is gone raises where it is asked anything."""
        if self._clock is not None:
            self._clock.cancel()
        super().connection_lost(exc)

    def _tick(self, answered: object, waited: int) -> None:
        """Close the connection where, since the last tick, nothing was asked or answered.

        Args:
            answered: the call that had its whole answer at the last tick, in a tuple.
            waited: ticks in a row at which the client was waited for in mid-call.
        """
        unread = self.transport.get_write_buffer_size() > 0
        if self.transport.is_closing() and not unread:
            return
        idle = self.cycle is None or self.cycle.response_complete
        slow = unread or (not idle and self.cycle.more_body)
        waited = waited + 1 if slow else 0
        if waited == PATIENCE or (idle and not slow and answered == (self.cycle,)):
            self.transport.abort()
            return
        self._clock = self.loop.call_later(
            IDLE_SECONDS, self._tick, (self.cycle,) if idle else None, waited
        )


class _Admitting(_Prompt):
    """One connection whose certificate is looked at before a byte of a request is read."""

    def connection_made(self, transport: Any) -> None:
        """Close the connection of a certificate that may not look."""
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls else None
        admit: Admit = self.config.admit  # type: ignore[attr-defined]
        if certificate is None or not admit(certificate):
            transport.abort()
            return
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Also of connections that were never let in."""
        if self.transport is not None:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Nothing is read of a connection that was not let in."""
        if self.transport is not None:
            super().data_received(data)
