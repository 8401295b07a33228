"""A pool's certificates for tests: its root, its port on loopback, its outlets.

Example: `made = Certificates.make()`; `made.server()`; `made.dial("localhost:7443", "north-post")`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc

from presspool.common.pki.certificates import (
    Credential,
    issue_outlet,
    issue_server,
    make_key,
    make_request,
    make_root,
)
from presspool.common.pki.tls import channel, server_credentials


@dataclass(frozen=True)
class Certificates:
    """A pool's root and what it signs.

    Attributes:
        root: certificate and key.
    """

    root: Credential

    @classmethod
    def make(cls) -> Self:
        """A new pool."""
        return cls(make_root("test", now=time.time()))

    def write(self, folder: Path) -> None:
        """Keep the root, for tests with several processes."""
        (folder / "root.pem").write_bytes(self.root.certificate)
        (folder / "root.key").write_bytes(self.root.key)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The root that `write` kept."""
        certificate, key = (folder / name for name in ("root.pem", "root.key"))
        return cls(Credential(certificate=certificate.read_bytes(), key=key.read_bytes()))

    def server(self) -> grpc.ServerCredentials:
        """The coordinator's credentials on loopback."""
        port = issue_server(self.root, "localhost", now=time.time())
        return server_credentials(port, root=self.root.certificate)

    def outlet(self, name: str) -> Credential:
        """A new certificate of an outlet."""
        key = make_key()
        pem = issue_outlet(self.root, name, make_request(key), now=time.time())
        return Credential(certificate=pem, key=key)

    def dial(self, address: str, name: str) -> grpc.Channel:
        """A channel on which an outlet calls."""
        return channel(address, self.outlet(name), root=self.root.certificate)
