"""Certificates of a pool: one root, and four kinds that it issues, told apart by their unit (OU).

=============  ==================  ==========================  ====================================
unit           common name         may                         lives
=============  ==================  ==========================  ====================================
coordinator    host of its address be the server, nothing else as long as the root, beside its key
invitation     invitation's id     ask to join, nothing else   as long as its token may be answered
outlet         outlet's name       do an outlet's work         `OUTLET_DAYS`, then renewed
viewer         somebody's name     look at the dashboard       `VIEWER_DAYS`
=============  ==================  ==========================  ====================================

Invariants:
    * ECDSA on P-256 everywhere: gRPC's TLS knows no Ed25519.
    * A client's certificate never serves and a server's never calls (extended key usage), and
      none but the root issues (path length 0).
    * Of a request only the public key is taken, after it proved possession; names come from us.
    * Nothing outlives the root. Everything begins `EARLY_SECONDS` early, so that a clock which is
      set back does not cut outlets off.

Private keys are PKCS #8 and certificates X.509, both in PEM; requests (PKCS #10) are DER.

Example:
    >>> root = make_root("press-pool", now=1_800_000_000)
    >>> key = make_key()
    >>> pem = issue_outlet(root, "daily-bugle", make_request(key), now=1_800_000_000)
    >>> read_certificate(pem).kind, read_certificate(pem).name
    ('outlet', 'daily-bugle')
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from presspool.common.base.errors import EvidenceError, InputError
from presspool.common.pki import x509_forms

COORDINATOR: Final = "coordinator"
OUTLET: Final = "outlet"
INVITATION: Final = "invitation"
VIEWER: Final = "viewer"

DAY = 86_400  # seconds
ROOT_DAYS = 3650
OUTLET_DAYS = 30
VIEWER_DAYS = 365
EARLY_SECONDS = 2 * 3600


@dataclass(frozen=True, kw_only=True)
class Credential:
    """A certificate with its private key.

    Attributes:
        certificate: PEM.
        key: PEM; never printed.
    """

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"Credential({read_certificate(self.certificate)})"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a certificate says; its signature was checked by whoever handed it to us, or not yet.

    Attributes:
        kind: the unit, "" if there is none.
        name: the common name.
        serial: lower-case hexadecimal.
        begins: POSIX seconds.
        ends: POSIX seconds.
        public: its public key, DER.
    """

    kind: str
    name: str
    serial: str
    begins: int
    ends: int
    public: bytes

    @property
    def renewal_due(self) -> float:
        """When two thirds of an outlet's certificate's life are over, POSIX seconds."""
        issued = self.begins + EARLY_SECONDS
        return issued + (self.ends - issued) * 2 / 3


def make_key() -> bytes:
    """A new private key from the operating system's randomness, PEM."""
    return x509_forms.key_pem(ec.generate_private_key(ec.SECP256R1()))


def make_root(pool: str, *, now: float) -> Credential:
    """A pool's own certificate authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509_forms.subject("authority", pool)
    draft = x509_forms.draft(name, name, key.public_key(), now - DAY, now + ROOT_DAYS * DAY)
    draft = draft.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    draft = draft.add_extension(x509_forms.usage(issues=True), critical=True)
    return Credential(
        certificate=x509_forms.certificate_pem(draft.sign(key, SHA256())),
        key=x509_forms.key_pem(key),
    )


def issue_server(
    root: Credential, host: str, *others: str, now: float, key: bytes | None = None
) -> Credential:
    """The coordinator's certificate, for the DNS names or IP addresses that outlets dial.

    Args:
        root: issues it.
        host: the first name, which is its common name too.
        others: further ones.
        now: POSIX seconds.
        key: the private key to keep, PEM; None for a new one.
    """
    key = key or make_key()
    until = read_certificate(root.certificate).ends
    public = x509_forms.private(key).public_key()
    try:
        names = [x509_forms.address(name) for name in dict.fromkeys((host, *others))]
    except ValueError:  # x509 takes A-labels only
        raise InputError(
            "host of the address",
            got=ascii(host),
            expected="an IP address or a DNS name, a non-ASCII one in its xn-- form",
        ) from None
    other = x509.SubjectAlternativeName(names)
    begins = now - DAY  # an outlet may join at once with a clock that is late
    pem = _issue(root, COORDINATOR, host, public, begins, until, extra=other)
    return Credential(certificate=pem, key=key)


def issue_invitation(root: Credential, invitation: str, *, now: float, until: float) -> Credential:
    """The certificate and key inside an invitation's token."""
    key = make_key()
    public = x509_forms.private(key).public_key()
    pem = _issue(root, INVITATION, invitation, public, now - EARLY_SECONDS, until)
    return Credential(certificate=pem, key=key)


def issue_viewer(root: Credential, name: str, *, now: float) -> Credential:
    """The certificate and key with which somebody may look at the dashboard."""
    key = make_key()
    public, until = x509_forms.private(key).public_key(), now + VIEWER_DAYS * DAY
    pem = _issue(root, VIEWER, name, public, now - EARLY_SECONDS, until)
    return Credential(certificate=pem, key=key)


def to_pkcs12(credential: Credential, root: bytes, *, name: str, password: str) -> bytes:
    """A credential with its root as a browser takes it in."""
    return pkcs12.serialize_key_and_certificates(
        name.encode(),
        x509_forms.private(credential.key),
        x509.load_pem_x509_certificate(credential.certificate),
        [x509.load_pem_x509_certificate(root)],
        serialization.BestAvailableEncryption(password.encode()),
    )


def issue_outlet(root: Credential, name: str, request: bytes, *, now: float) -> bytes:
    """An outlet's certificate for the key that signed the request, PEM.

    Raises:
        EvidenceError: the request is malformed, of another kind of key, or proves nothing.
    """
    until = now + OUTLET_DAYS * DAY
    return _issue(root, OUTLET, name, x509_forms.requested(request), now - EARLY_SECONDS, until)


def make_request(key: bytes) -> bytes:
    """A certificate request: the key signs that it is there (DER)."""
    draft = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return draft.sign(x509_forms.private(key), SHA256()).public_bytes(serialization.Encoding.DER)


def requested_key(request: bytes) -> bytes:
    """The public key, DER, that a request proves possession of.

    Raises:
        EvidenceError: as `issue_outlet`.
    """
    return x509_forms.public_der(x509_forms.requested(request))


@lru_cache(maxsize=4096)  # read on every call and every chunk of every outlet
def read_certificate(pem: bytes) -> Facts:
    """What a certificate says.

    Raises:
        EvidenceError: it is malformed.
    """
    try:
        found = x509.load_pem_x509_certificate(pem)
        return Facts(
            kind=x509_forms.attribute(found.subject, NameOID.ORGANIZATIONAL_UNIT_NAME),
            name=x509_forms.attribute(found.subject, NameOID.COMMON_NAME),
            serial=f"{found.serial_number:x}",
            begins=int(found.not_valid_before_utc.timestamp()),
            ends=int(found.not_valid_after_utc.timestamp()),
            public=x509_forms.public_der(found.public_key()),
        )
    except x509_forms.MALFORMED:
        raise EvidenceError("malformed", where="certificate") from None


def check_outlet(pem: bytes, *, root: bytes, name: str, key: bytes) -> Facts:
    """What an outlet's new certificate says, if it is the one that its key asked for.

    Args:
        pem: the certificate that the coordinator sent.
        root: the pinned root, PEM.
        name: the outlet's name.
        key: the outlet's private TLS key, PEM.

    Raises:
        EvidenceError: issued by another root, or for another kind, name or key.
    """
    facts = read_certificate(pem)
    try:
        x509.load_pem_x509_certificate(pem).verify_directly_issued_by(
            x509.load_pem_x509_certificate(root)
        )
    except (*x509_forms.MALFORMED, InvalidSignature):
        raise EvidenceError("not issued by the pool's root", where="certificate") from None
    expected = (OUTLET, name, x509_forms.public_der(x509_forms.private(key).public_key()))
    if (facts.kind, facts.name, facts.public) != expected:
        raise EvidenceError(
            "issued to somebody else",
            where="certificate",
            expected=f"{OUTLET} {name} with its own key",
            got=f"{facts.kind!a} {facts.name!a}",
        )
    return facts


def fingerprint_of(pem: bytes) -> str:
    """SHA-256 of a certificate's DER, hexadecimal, as other tools print it."""
    return x509.load_pem_x509_certificate(pem).fingerprint(SHA256()).hex()


def to_der(credential: Credential) -> tuple[bytes, bytes]:
    """A credential's certificate and key in DER, for where bytes count."""
    certificate = x509.load_pem_x509_certificate(credential.certificate)
    key = x509_forms.private(credential.key).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.DER), key


def certificate_to_der(pem: bytes) -> bytes:
    """A certificate in DER."""
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)


def from_der(certificate: bytes, key: bytes) -> Credential:
    """The credential of `to_der`.

    Raises:
        EvidenceError: either is malformed, or not on P-256.
    """
    try:
        private = serialization.load_der_private_key(key, password=None)
    except x509_forms.MALFORMED:
        raise EvidenceError("malformed", where="private key") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise EvidenceError("kind of key", where="private key", expected="ECDSA")
    return Credential(
        certificate=certificate_from_der(certificate), key=x509_forms.key_pem(private)
    )


def certificate_from_der(der: bytes) -> bytes:
    """A certificate in PEM.

    Raises:
        EvidenceError: it is malformed.
    """
    try:
        return x509_forms.certificate_pem(x509.load_der_x509_certificate(der))
    except x509_forms.MALFORMED:
        raise EvidenceError("malformed", where="certificate") from None


def _issue(
    root: Credential,
    kind: str,
    name: str,
    public: ec.EllipticCurvePublicKey,
    begins: float,
    ends: float,
    *,
    extra: x509.SubjectAlternativeName | None = None,
) -> bytes:
    issuer, signer = x509.load_pem_x509_certificate(root.certificate), x509_forms.private(root.key)
    first, last = issuer.not_valid_before_utc, issuer.not_valid_after_utc
    draft = x509_forms.draft(
        issuer.subject,
        x509_forms.subject(kind, name),
        public,
        max(begins, first.timestamp()),
        min(ends, last.timestamp()),
    )
    use = (
        ExtendedKeyUsageOID.SERVER_AUTH
        if kind == COORDINATOR
        else (ExtendedKeyUsageOID.CLIENT_AUTH)
    )
    draft = draft.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    draft = draft.add_extension(x509_forms.usage(issues=False), critical=True)
    draft = draft.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    draft = draft.add_extension(identifier, critical=False)
    if extra:
        draft = draft.add_extension(extra, critical=False)
    return x509_forms.certificate_pem(draft.sign(signer, SHA256()))
