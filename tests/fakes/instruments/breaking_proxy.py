"""A TCP proxy that cuts what passes through it, for tests of broken links.

Example: `with BreakingProxy(port) as proxy: proxy.cut_after(1_000_000); ...; proxy.mend()`.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self


class BreakingProxy:
    """Forwards connections on loopback until it is told to break.

    Args:
        port: where to.

    Attributes:
        port: where it listens.
        cuts: how many connections it has cut or turned away.
        up: bytes that went up.
    """

    def __init__(self, port: int) -> None:
        self._target, self._left = port, float("inf")
        self._broken, self._lock = False, threading.Lock()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.cuts = self._listener.getsockname()[1], 0
        self.up = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def cut_after(self, count: int) -> None:
        """Cut everything once so many more bytes went up, and stay broken."""
        with self._lock:
            self._left = count

    def mend(self) -> None:
        """Forward again."""
        with self._lock:
            self._left, self._broken = float("inf"), False

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._broken:
                    self.cuts += 1
                    client.close()
                    continue
                self._join(client)

    def _join(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        with self._lock:
            self._sockets += [client, server]
        for args in ((client, server, True), (server, client, False)):
            threading.Thread(target=self._forward, args=args, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if up and self._count(len(data)):
                    break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _count(self, size: int) -> bool:
        """Whether this is what breaks the link; then everything is cut."""
        with self._lock:
            self.up += size
            self._left -= size
            if self._left > 0:
                return False
            self._broken = True
            self.cuts += 1
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            self._sockets.clear()
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.cut_after(0)
        self._count(1)
