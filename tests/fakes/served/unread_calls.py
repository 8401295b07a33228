"""A caller of the gRPC port that takes nothing of its answers: HTTP/2 by hand, its window shut.

gRPC's own clients read on by themselves. Headers go as literals (RFC 7541, section 6.2.2), frames
and settings are those of RFC 9113, sections 4.1 and 6.5.

Example: `with UnreadCaller("127.0.0.1:8902") as caller: caller.call("/pkg.Service/Method", b"")`.
"""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Self

DATA, HEADERS, RESET, SETTINGS, WINDOW = 0, 1, 3, 4, 8
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW = 4


class UnreadCaller:
    """One connection.

    Args:
        address: HOST:PORT, without TLS.
    """

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        shut = struct.pack(">HI", INITIAL_WINDOW, 0)
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(SETTINGS, 0, 0, shut))
        self._calls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def call(self, path: str, message: bytes) -> int:
        """Ask, and the number of the call's stream."""
        stream, self._calls = 2 * self._calls + 1, self._calls + 1
        asked = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "127.0.0.1"}
        asked |= {"te": "trailers", "content-type": "application/grpc"}
        head = b"".join(b"\x00" + _text(name) + _text(value) for name, value in asked.items())
        body = b"\x00" + struct.pack(">I", len(message)) + message
        self._socket.sendall(
            _frame(HEADERS, END_HEADERS, stream, head) + _frame(DATA, END_STREAM, stream, body)
        )
        return stream

    def end(self, stream: int) -> bytes:
        """Read from now on: the headers at a call's end; empty for a reset or no end at all."""
        self._socket.sendall(_frame(WINDOW, 0, stream, struct.pack(">I", 1 << 20)))
        self._socket.settimeout(3)
        read = self._socket.makefile("rb")
        try:
            while True:
                head = read.read(9)
                body, kind, flags = read.read(int.from_bytes(head[:3])), head[3], head[4]
                if kind == RESET or (kind == HEADERS and flags & END_STREAM):
                    return body if kind == HEADERS else b""
        except TimeoutError:
            return b""


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return (
        struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body
    )


def _text(said: str) -> bytes:
    """A text of fewer than 127 bytes, spelt out."""
    assert len(said) < 127
    return bytes([len(said)]) + said.encode()
