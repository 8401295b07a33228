"""TLS certificates for tests: one authority, a coordinator on loopback, outlets.

Example: `made = Certificates.make()`; `made.server()`; `made.outlet("north-post")`.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificates:
    """An authority and what it signs.

    Attributes:
        root: its certificate, PEM.
    """

    root: bytes
    _certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls) -> Self:
        """A new authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("authority", "root")
        built = _builder(name, name, key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        certificate = built.sign(key, hashes.SHA256())
        return cls(certificate.public_bytes(serialization.Encoding.PEM), certificate, key)

    def write(self, folder: Path) -> None:
        """Keep the authority, for tests with several processes."""
        (folder / "root.pem").write_bytes(self.root)
        (folder / "root.key").write_bytes(_pem(self._key))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The authority that `write` kept."""
        root = (folder / "root.pem").read_bytes()
        key = serialization.load_pem_private_key((folder / "root.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return cls(root, x509.load_pem_x509_certificate(root), key)

    def server(self) -> grpc.ServerCredentials:
        """The coordinator's credentials on loopback; callers must show a certificate."""
        key, certificate = self._issue("coordinator", "coordinator")
        return grpc.ssl_server_credentials([(key, certificate)], self.root, True)

    def outlet(self, name: str) -> grpc.ChannelCredentials:
        """An outlet's credentials."""
        key, certificate = self._issue("outlet", name)
        return grpc.ssl_channel_credentials(self.root, key, certificate)

    def _issue(self, unit: str, name: str) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        loopback = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        built = _builder(_name(unit, name), self._certificate.subject, key).add_extension(
            x509.SubjectAlternativeName(loopback), critical=False
        )
        certificate = built.sign(self._key, hashes.SHA256())
        return _pem(key), certificate.public_bytes(serialization.Encoding.PEM)


def name_of(context: grpc.ServicerContext) -> str:
    """The name in the certificate that a caller showed."""
    (pem,) = context.auth_context()["x509_pem_cert"]
    subject = x509.load_pem_x509_certificate(pem).subject
    return str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )  # fmt: skip


def _name(unit: str, name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )
