"""The dashboard's listener: what one address may hold."""

from __future__ import annotations

import socket
from contextlib import ExitStack, closing

import pytest

from presspool.common.audit.dashboard.serving import AN_ADDRESS, LOOPBACK, taken


def test_one_address_does_not_hold_all_places() -> None:
    with closing(taken(LOOPBACK, 0)) as listener, ExitStack() as stack:

        def met(source: str) -> socket.socket:
            """The server's end of a new connection from there."""
            stack.enter_context(
                socket.create_connection(listener.getsockname(), source_address=(source, 0))
            )
            return stack.enter_context(listener.accept()[0])

        held = [met(LOOPBACK) for _ in range(AN_ADDRESS)]
        with pytest.raises(ConnectionAbortedError):
            met(LOOPBACK)
        assert met("127.0.0.2").fileno() >= 0
        held[0].close()
        assert met(LOOPBACK).fileno() >= 0
