"""TLS 1.3 for a port that HTTP is spoken at: a pool's dashboard, and a server of adapters.

Invariants:
    * Nothing below TLS 1.3.
    * Where authorities are named, only callers whose certificate one of them signed are let in; the
      system's count for nothing.

Example: `Serving(app, listener, tls=server_context(certificate, key, root=pem))`.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from presspool.common.base.errors import InputError


def server_context(certificate: Path, key: Path, *, root: bytes | None) -> ssl.SSLContext:
    """What a port shows, and whom it lets in.

    Args:
        certificate: file of the port's certificate and those up to its root, PEM.
        key: file of its private key, PEM without a password.
        root: certificates of those who sign callers', PEM; None for callers without any.

    Raises:
        InputError: a file that cannot be read, or that is another's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        if root is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=root.decode("ascii"))
        # An empty password, else a key that has one asks for it at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise InputError(
            "a certificate or key that cannot be used",
            where=f"{certificate}, {key}",
            expected="PEM, the key without a password and of this certificate",
            got=getattr(error, "reason", None) or getattr(error, "strerror", None) or "no PEM",
        ) from None
    return context
