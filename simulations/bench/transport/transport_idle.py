"""Connections of `presspool bench transport` that do nothing: TLS, HTTP/2's greeting, silence.

Usage: python -m presspool.simulations.bench.transport.transport_idle HOME PORT COUNT; it says
"open" when all are there, and ends with its standard input.
"""

from __future__ import annotations

import socket
import ssl
import sys
from pathlib import Path

_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


def connect(home: Path, port: int) -> ssl.SSLSocket:
    """A connection with an outlet's certificate, greeted as HTTP/2 asks for (RFC 9113, 3.4)."""
    context = ssl.create_default_context(cafile=home / "root.pem")
    context.load_cert_chain(home / "certificate.pem", home / "tls.key")
    context.set_alpn_protocols(["h2"])
    plain = socket.create_connection(("localhost", port))
    secured = context.wrap_socket(plain, server_hostname="localhost")
    secured.sendall(_GREETING)
    secured.recv(9)  # the server's own settings: it has taken the connection
    return secured


if __name__ == "__main__":
    held = [connect(Path(sys.argv[1]), int(sys.argv[2])) for _ in range(int(sys.argv[3]))]
    print("open", flush=True)
    sys.stdin.read()
