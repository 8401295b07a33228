"""Free ports of this machine, for servers that tests start."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

# Above what Ray gives its workers, below what the system gives whoever asks for any port: between
# here and the server's start nobody else takes one.
_OURS = range(20_000, 32_000)
_KEPT = list[socket.socket]()


def free_port() -> int:
    """A port of the loopback address that is free, and that no other test is given meanwhile."""
    for port in random.SystemRandom().sample(_OURS, len(_OURS)):
        mark = socket.socket(socket.AF_UNIX)
        with suppress(OSError), socket.socket() as free:
            mark.bind(f"\0presspool test port {port}")  # one process has it, until it ends
            free.bind(("127.0.0.1", port))
            _KEPT.append(mark)
            return port
        mark.close()
    raise AssertionError("no free port")
