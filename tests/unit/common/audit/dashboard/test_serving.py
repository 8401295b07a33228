"""The dashboard's listener: what one address may hold, and for how long."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.made_certificates import Certificates

from presspool.common.audit.dashboard import serving
from presspool.common.audit.dashboard.serving import AN_ADDRESS, LOOPBACK, Serving, taken
from presspool.common.pki.certificates import issue_server


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


def test_answers_are_sent_as_they_are_written() -> None:
    """Else each waits for the client to acknowledge its headers, 40 ms."""

    async def delays() -> bool:
        met = asyncio.Queue[bool]()

        async def look(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen = writer.get_extra_info("socket")
            met.put_nowait(not seen.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with closing(taken(LOOPBACK, 0)) as listener:
            async with await asyncio.start_server(look, sock=listener):
                _, writer = await asyncio.open_connection(*listener.getsockname())
                found = await met.get()
                writer.close()
        return found

    assert not asyncio.run(delays())


async def generous(_: Any, receive: Any, send: Any) -> None:
    """Reads a body to its end, and answers with more than any socket's buffers hold."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(4):
        await send({"type": "http.response.body", "body": bytes(16 << 20), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def hasty(_: Any, __: Any, send: Any) -> None:
    """Is done with its answer long before the client is."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(64 << 20)})


@pytest.mark.parametrize(
    ("app", "asked"),
    [
        (generous, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf"),
        (generous, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
        (hasty, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
        (hasty, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
    ],
)
def test_who_stops_in_mid_call_gives_the_place_back(
    monkeypatch: pytest.MonkeyPatch, app: Any, asked: bytes
) -> None:
    monkeypatch.setattr(serving, "IDLE_SECONDS", 0.1)
    listener = taken(LOOPBACK, 0)
    with Serving(app, listener), socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.getsockname())
        client.sendall(asked)
        end = time.monotonic() + 120
        while not (held := getattr(listener, "_held", [])) or held[0][0].fileno() >= 0:
            assert time.monotonic() < end
            time.sleep(0.05)


def test_who_reads_slowly_gets_the_whole_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of the ticks is a long one: who is about to ask is not idle."""
    monkeypatch.setattr(serving, "IDLE_SECONDS", 2.0)
    monkeypatch.setattr(serving, "PATIENCE", 1000)
    asked, listener = threading.Event(), taken(LOOPBACK, 0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.set()
        await hasty(scope, receive, send)

    with Serving(app, listener), socket.create_connection(listener.getsockname()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert asked.wait(120)
        monkeypatch.setattr(serving, "IDLE_SECONDS", 0.1)
        time.sleep(2.5)
        read = 0
        while part := client.recv(1 << 20):
            read += len(part)
    assert read > 64 << 20


async def brief(_: Any, __: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"well"})


def test_who_left_over_tls_is_not_asked_after(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Else each connection leaves a traceback in the log when its clock strikes."""
    monkeypatch.setattr(serving, "IDLE_SECONDS", 2)
    root = Certificates.make().root
    port, pem = issue_server(root, "localhost", now=time.time()), tmp_path / "port.pem"
    pem.write_bytes(port.certificate + port.key)
    (tmp_path / "root.pem").write_bytes(root.certificate)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(pem)
    theirs = ssl.create_default_context(cafile=tmp_path / "root.pem")
    listener = taken(LOOPBACK, 0)

    def met() -> ssl.SSLSocket:
        there = socket.create_connection(listener.getsockname())
        return theirs.wrap_socket(there, server_hostname="localhost")

    with caplog.at_level(logging.ERROR), Serving(brief, listener, tls=own):
        with met() as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            told = b""
            while not told.endswith(b"0\r\n\r\n"):
                told += client.recv(1 << 12)
            client.unwrap()
        # Its clock was started after the other's, and so strikes after it.
        with met() as later, suppress(ConnectionError, ssl.SSLError):
            later.settimeout(60)
            assert later.recv(1) == b""
    assert not caplog.records
