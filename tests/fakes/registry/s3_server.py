"""A real S3 server on loopback: moto's, a process of its own with memory of its own.

Example: `with s3_server() as address: …`, then `s3://` URLs lead there by `AWS_ENDPOINT_URL`.
"""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from tests.fakes.instruments.loopback import free_port

WANTED = ("s3fs", "moto", "flask", "flask_cors")


@contextmanager
def s3_server() -> Iterator[str]:
    """Its address, or a skip that says what is missing."""
    missing = [name for name in WANTED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"no S3 server here: {', '.join(missing)} not installed (extras `s3`, `dev`)")
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=120)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 240
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"moto's server ended with {process.returncode}")
        with closing(socket.socket()) as dialled:
            if dialled.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("moto's server does not answer")
