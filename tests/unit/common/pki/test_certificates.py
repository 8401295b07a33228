"""Certificates say who somebody is, for how long and for what, as an independent reader sees it."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given
from hypothesis import strategies as st

from presspool.common.base.errors import EvidenceError, InputError
from presspool.common.pki import certificates
from presspool.common.pki.certificates import (
    DAY,
    EARLY_SECONDS,
    OUTLET_DAYS,
    ROOT_DAYS,
    check_outlet,
    issue_invitation,
    issue_outlet,
    issue_server,
    make_key,
    make_request,
    make_root,
    read_certificate,
    requested_key,
)

NOW = 1_800_000_000
ROOT = make_root("press-pool", now=NOW)
KEY = make_key()
REQUEST = make_request(KEY)


def _serves(pem: bytes, *, at: float, host: str) -> None:
    """The library's own path validation (RFC 5280 and the web's profile) of a server."""
    verifier = (
        PolicyBuilder()
        .store(Store([x509.load_pem_x509_certificate(ROOT.certificate)]))
        .time(datetime.datetime.fromtimestamp(at, datetime.UTC))
        .build_server_verifier(x509.DNSName(host))
    )
    verifier.verify(x509.load_pem_x509_certificate(pem), [])


def test_each_kind_is_told_by_its_unit_and_name() -> None:
    server = issue_server(ROOT, "pool.example.org", now=NOW).certificate
    invitation = issue_invitation(ROOT, "ab" * 16, now=NOW, until=NOW + 60).certificate
    outlet = issue_outlet(ROOT, "daily-bugle", REQUEST, now=NOW)
    assert [
        (read_certificate(pem).kind, read_certificate(pem).name)
        for pem in (server, invitation, outlet)
    ] == [
        ("coordinator", "pool.example.org"),
        ("invitation", "ab" * 16),
        ("outlet", "daily-bugle"),
    ]


def test_an_outlet_lives_thirty_days_and_began_early_for_clocks_that_are_late() -> None:
    facts = read_certificate(issue_outlet(ROOT, "daily-bugle", REQUEST, now=NOW))
    assert (facts.begins, facts.ends) == (NOW - EARLY_SECONDS, NOW + OUTLET_DAYS * DAY)
    assert facts.renewal_due == NOW + 20 * DAY
    assert EARLY_SECONDS > 3600  # a coordinator whose clock was set back by an hour still knows it


def test_nothing_outlives_the_root() -> None:
    late = NOW + ROOT_DAYS * DAY - 60
    root = read_certificate(ROOT.certificate)
    for pem in (
        issue_outlet(ROOT, "daily-bugle", REQUEST, now=late),
        issue_invitation(ROOT, "ab" * 16, now=late, until=late + DAY).certificate,
        issue_server(ROOT, "pool.example.org", now=NOW).certificate,
    ):
        assert read_certificate(pem).ends == root.ends


def test_a_second_root_of_the_same_name_vouches_for_nothing() -> None:
    pem = issue_outlet(make_root("press-pool", now=NOW), "daily-bugle", REQUEST, now=NOW)
    with pytest.raises(EvidenceError, match="root"):
        check_outlet(pem, root=ROOT.certificate, name="daily-bugle", key=KEY)


def test_an_outlet_or_invitation_may_call_but_not_serve() -> None:
    for pem in (
        issue_outlet(ROOT, "pool.example.org", REQUEST, now=NOW),
        issue_invitation(ROOT, "ab" * 16, now=NOW, until=NOW + DAY).certificate,
    ):
        parsed = x509.load_pem_x509_certificate(pem)
        usage = parsed.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        assert list(usage.value) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
        with pytest.raises(VerificationError):
            _serves(pem, at=NOW, host="pool.example.org")


def test_a_server_serves_its_host_only_and_calls_nobody() -> None:
    pem = issue_server(ROOT, "pool.example.org", now=NOW).certificate
    _serves(pem, at=NOW - 3600, host="pool.example.org")
    with pytest.raises(VerificationError):
        _serves(pem, at=NOW, host="other.example.org")
    usage = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(
        x509.ExtendedKeyUsage
    )
    assert list(usage.value) == [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]


@pytest.mark.parametrize(
    ("host", "kind"),
    [("127.0.0.1", x509.IPAddress), ("::1", x509.IPAddress), ("localhost", x509.DNSName)],
)
def test_a_server_is_named_by_address_or_dns_name(
    host: str, kind: type[x509.IPAddress | x509.DNSName]
) -> None:
    parsed = x509.load_pem_x509_certificate(issue_server(ROOT, host, now=NOW).certificate)
    (name,) = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert isinstance(name, kind)
    assert str(name.value) == host


def test_a_host_that_certificates_cannot_hold_is_bad_input() -> None:
    with pytest.raises(InputError, match="xn--"):
        issue_server(ROOT, "zürich.example", now=NOW)


def test_a_request_brings_its_key_and_nothing_else() -> None:
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(
            x509.Name(
                [
                    x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "coordinator"),
                    x509.NameAttribute(x509.NameOID.COMMON_NAME, "tribune"),
                ]
            )
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    key = ec.generate_private_key(ec.SECP256R1())
    greedy = builder.sign(key, SHA256()).public_bytes(serialization.Encoding.DER)
    pem = issue_outlet(ROOT, "daily-bugle", greedy, now=NOW)
    facts = read_certificate(pem)
    constraints = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(
        x509.BasicConstraints
    )
    assert (facts.kind, facts.name) == ("outlet", "daily-bugle")
    assert not constraints.value.ca
    assert facts.public == requested_key(greedy)


def test_a_request_signed_by_another_key_is_refused() -> None:
    other = x509.load_der_x509_csr(make_request(make_key()))
    spliced = REQUEST.replace(
        x509.load_der_x509_csr(REQUEST).signature, other.signature
    )  # lengths may differ by a byte or two: then it is malformed, which is refused as well
    with pytest.raises(EvidenceError):
        requested_key(spliced)


@pytest.mark.parametrize(
    "key",
    [
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP384R1()),
    ],
    ids=["Ed25519", "RSA", "P-384"],
)
def test_other_kinds_of_keys_are_refused(
    key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
) -> None:
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    draft = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = draft.sign(key, digest).public_bytes(serialization.Encoding.DER)
    with pytest.raises(EvidenceError, match="P-256"):
        requested_key(request)


def test_an_oversized_request_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(EvidenceError, match="too large"):
        requested_key(b"\x30" * 2049)


@given(st.data())
def test_damaged_requests_and_certificates_are_evidence_errors_or_unharmed(
    data: st.DataObject,
) -> None:
    for whole, read in ((REQUEST, requested_key), (OUTLET_PEM, read_certificate)):
        damaged = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 4))):
            damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        try:
            read(bytes(damaged[: data.draw(st.integers(0, len(whole)))]))
        except EvidenceError:
            continue


OUTLET_PEM = issue_outlet(ROOT, "daily-bugle", REQUEST, now=NOW)


def test_an_outlet_accepts_its_own_certificate_only() -> None:
    facts = check_outlet(OUTLET_PEM, root=ROOT.certificate, name="daily-bugle", key=KEY)
    assert facts.name == "daily-bugle"
    wrong: dict[str, dict[str, object]] = {
        "name": {"name": "tribune"},
        "key": {"key": make_key()},
        "kind": {
            "pem": issue_invitation(ROOT, "daily-bugle", now=NOW, until=NOW + DAY).certificate
        },
    }
    for change in wrong.values():
        given_ = {
            "pem": OUTLET_PEM,
            "root": ROOT.certificate,
            "name": "daily-bugle",
            "key": KEY,
            **change,
        }
        with pytest.raises(EvidenceError, match="somebody else"):
            check_outlet(**given_)  # type: ignore[arg-type]


def test_two_units_are_no_unit() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    unit = x509.NameOID.ORGANIZATIONAL_UNIT_NAME
    name = x509.Name([x509.NameAttribute(unit, "outlet"), x509.NameAttribute(unit, "invitation")])
    day = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    pem = (
        x509.CertificateBuilder(name, name, key.public_key(), 7, day, day)
        .sign(key, SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    assert read_certificate(pem).kind == ""


def test_a_credential_comes_back_from_its_der_and_is_never_printed() -> None:
    server = issue_server(ROOT, "localhost", now=NOW)
    back = certificates.from_der(*certificates.to_der(server))
    assert (back.certificate, back.key) == (server.certificate, server.key)
    assert "PRIVATE" not in repr(server)
    with pytest.raises(EvidenceError):
        certificates.from_der(b"x", certificates.to_der(server)[1])
    with pytest.raises(EvidenceError):
        certificates.from_der(certificates.to_der(server)[0], b"x")


def test_renewal_is_due_at_two_thirds_of_the_life() -> None:
    facts = replace(read_certificate(OUTLET_PEM), begins=-EARLY_SECONDS, ends=30)
    assert facts.renewal_due == 20
