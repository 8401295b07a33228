"""X.509 as a pool writes and reads it: names, drafts, and keys that are on P-256 or nothing.

Invariants:
    * What is malformed, or another kind of key, is an `EvidenceError`.
    * Of a request only the public key is taken, after it proved possession.

Example:
    >>> private(key_pem(ec.generate_private_key(ec.SECP256R1()))).curve.name
    'secp256r1'
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from presspool.common.base.errors import EvidenceError

LARGEST_REQUEST = 2048  # bytes; ours have about 250
MALFORMED = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)


def draft(
    issuer: x509.Name,
    subject: x509.Name,
    public: ec.EllipticCurvePublicKey,
    begins: float,
    ends: float,
) -> x509.CertificateBuilder:
    """What every certificate has; times in POSIX seconds."""
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(int(begins), UTC))
        .not_valid_after(datetime.fromtimestamp(int(ends), UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def usage(*, issues: bool) -> x509.KeyUsage:
    """An issuer signs certificates and nothing else, everybody else anything but those."""
    return x509.KeyUsage(
        digital_signature=not issues,
        key_cert_sign=issues,
        crl_sign=issues,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def subject(unit: str, common: str) -> x509.Name:
    """A certificate's subject: its unit and its common name."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(
                NameOID.COMMON_NAME, common[:64]
            ),  # X.509's limit; hosts may be longer
        ]
    )


def address(host: str) -> x509.GeneralName:
    """A server's IP address or DNS name; raises `ValueError` for neither."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def attribute(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
    """The only value of a name's attribute, "" where there is none or more."""
    values = [str(a.value) for a in name.get_attributes_for_oid(oid)]
    return values[0] if len(values) == 1 else ""  # two units would be two answers


def requested(request: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a request (DER) that proves possession of it."""
    if len(request) > LARGEST_REQUEST:
        raise EvidenceError(
            "too large", where="certificate request", expected=f"at most {LARGEST_REQUEST} bytes"
        )
    try:
        found = x509.load_der_x509_csr(request)
        public = found.public_key()
    except MALFORMED:
        raise EvidenceError("malformed", where="certificate request") from None
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
        raise EvidenceError("kind of key", where="certificate request", expected="ECDSA on P-256")
    try:
        # Not `is_signature_valid`, for which a Ctrl-C at that moment is one more wrong signature.
        public.verify(found.signature, found.tbs_certrequest_bytes, ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise EvidenceError("does not verify", where="certificate request") from None
    return public


def private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """A private key in PEM."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except MALFORMED:
        raise EvidenceError("malformed", where="private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise EvidenceError("kind of key", where="private key", expected="ECDSA")
    return key


def public_der(public: object) -> bytes:
    """A public key in DER; raises `ValueError` for another kind."""
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise ValueError("not an ECDSA key")
    return public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """A certificate in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key in PEM (PKCS 8)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
