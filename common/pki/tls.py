"""The one way in: mutual TLS 1.3 over gRPC, and who is calling.

gRPC's Python interface cannot ask for a lowest TLS version. So the package's first import names one
TLS 1.2 suite that needs an RSA certificate, and all of ours are ECDSA: no handshake below TLS 1.3
can succeed. Should gRPC have been imported before PressPool and hence not know the suite, `caller`
still refuses a call over anything but TLS 1.3, as it refuses one without a certificate.

Invariants:
    * Each side pins the pool's own root; the system's authorities count for nothing.
    * What a handler knows of its caller comes from the verified certificate, never from a message.
    * Connections are probed every `KEEPALIVE_SECONDS`, so that a dead link is noticed.

Example: `grpc_server.add_secure_port(address, server_credentials(server, root=root))` and
`with channel("pool.example.org:7443", credential, root=root) as link: …`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

import grpc

from presspool.common.base.errors import AdmissionError, EvidenceError, InputError
from presspool.common.pki.certificates import Credential, read_certificate

KEEPALIVE_SECONDS = 20
KEEPALIVE_WAIT_SECONDS = 10
LARGEST_MESSAGE = (1 << 20) + (64 << 10)  # bytes: one chunk; larger things travel in chunks
_LABEL = re.compile("[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")

SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
    ("grpc.max_metadata_size", 8 << 10),
    ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_WAIT_SECONDS * 1000),
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_SECONDS * 500),
    ("grpc.so_reuseport", 0),  # a second coordinator at the port is an error, not half of the calls
)
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
    ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_WAIT_SECONDS * 1000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_retries", 0),  # who calls knows what may be sent twice
    ("grpc.use_local_subchannel_pool", 1),  # or a new link inherits the old one's waiting time
)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who calls, as the verified certificate says.

    Attributes:
        kind: `presspool.common.pki.certificates.OUTLET` or `INVITATION`.
        name: the outlet's name or the invitation's id.
        serial: the certificate's, lower-case hexadecimal.
    """

    kind: str
    name: str
    serial: str


def server_credentials(server: Credential, *, root: bytes) -> grpc.ServerCredentials:
    """What the coordinator's port asks of everybody: a certificate of its own root.

    Args:
        server: the coordinator's certificate and key.
        root: the pool's root certificate, PEM.
    """
    return grpc.ssl_server_credentials(
        [(server.key, server.certificate)], root_certificates=root, require_client_auth=True
    )


def channel(address: str, client: Credential, *, root: bytes) -> grpc.Channel:
    """A link to the coordinator; it is made when the first call needs it.

    Args:
        address: "HOST:PORT", the host as in the coordinator's certificate.
        client: an outlet's or an invitation's certificate and key.
        root: the pool's root certificate, PEM.
    """
    credentials = grpc.ssl_channel_credentials(root, client.key, client.certificate)
    return grpc.secure_channel(address, credentials, options=_CHANNEL_OPTIONS)


def caller(context: grpc.ServicerContext) -> Caller:
    """Who is calling.

    Raises:
        AdmissionError: code "not-a-member": no certificate of ours, or not over TLS 1.3.
    """
    facts = context.auth_context()
    certificates, versions = facts.get("x509_pem_cert", []), facts.get("ssl_tls_version", [])
    if len(certificates) != 1 or list(versions) != [b"TLSv1.3"]:
        raise AdmissionError("not-a-member", "no certificate of the pool, or not over TLS 1.3")
    try:
        found = read_certificate(certificates[0])
    except EvidenceError:
        raise AdmissionError("not-a-member", "a certificate that is none of ours") from None
    return Caller(kind=found.kind, name=found.name, serial=found.serial)


def split_address(address: str, *, where: str) -> tuple[str, int]:
    """Host and port of "HOST:PORT" or "[IPv6]:PORT".

    Raises:
        InputError: it is neither.
    """
    host, _, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    good = _is_ipv6(bare) if bare != host else all(map(_LABEL.fullmatch, host.split(".")))
    if not good or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 1 << 16:
        raise InputError(
            "address",
            where=where,
            got=ascii(address),
            expected="HOST:PORT, where outlets reach the coordinator",
            advice="for example pool.example.org:7443",
        )
    return bare, int(port)


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
