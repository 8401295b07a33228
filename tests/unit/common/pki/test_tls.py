"""The port: mutual TLS 1.3 of the pool's own root, or nothing; all handshakes here are real."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import grpc
import pytest
from tests.conftest import REPOSITORY

from presspool.common.base.errors import AdmissionError, InputError
from presspool.common.pki.certificates import (
    DAY,
    EARLY_SECONDS,
    Credential,
    issue_invitation,
    issue_outlet,
    issue_server,
    make_key,
    make_request,
    make_root,
    read_certificate,
)
from presspool.common.pki.tls import (
    LARGEST_MESSAGE,
    SERVER_OPTIONS,
    caller,
    channel,
    server_credentials,
    split_address,
)

ROOT = make_root("press-pool", now=time.time())
UNTRUSTED = re.compile("CERTIFICATE_VERIFY_FAILED|Hostname Verification Check failed")
ID = "ab" * 16
SERVER = issue_server(ROOT, "localhost", now=time.time())


def _outlet(*, root: Credential = ROOT, now: float | None = None) -> Credential:
    key = make_key()
    at = time.time() if now is None else now
    pem = issue_outlet(root, "daily-bugle", make_request(key), now=at)
    return Credential(certificate=pem, key=key)


class _WhoAmI(grpc.GenericRpcHandler):  # type: ignore[misc]
    def service(self, _details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def answer(body: bytes, context: grpc.ServicerContext) -> bytes:
            who = caller(context)
            return f"{who.kind} {who.name} {who.serial} {len(body)}".encode()

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def _port(server: Credential = SERVER, root: Credential = ROOT) -> Iterator[int]:
    served = grpc.server(futures.ThreadPoolExecutor(4), options=SERVER_OPTIONS)
    served.add_generic_rpc_handlers((_WhoAmI(),))
    credentials = server_credentials(server, root=root.certificate)
    port = served.add_secure_port("localhost:0", credentials)
    served.start()
    try:
        yield port
    finally:
        served.stop(0).wait()


def _ask(
    port: int,
    client: Credential,
    *,
    root: Credential = ROOT,
    host: str = "localhost",
    body: bytes = b"",
) -> str:
    with channel(f"{host}:{port}", client, root=root.certificate) as link:
        answer: bytes = link.unary_unary("/any/thing")(body, timeout=60)
        return answer.decode()


def _refused(port: int, client: Credential, **options: object) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        _ask(port, client, **options)  # type: ignore[arg-type]
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    return str(caught.value.details())


def test_a_caller_is_who_its_certificate_says() -> None:
    outlet = _outlet()
    invitation = issue_invitation(ROOT, ID, now=time.time(), until=time.time() + 60)
    with _port() as port:
        for client, kind in (
            (outlet, "outlet daily-bugle"),
            (invitation, "invitation " + ID),
        ):
            serial = read_certificate(client.certificate).serial
            assert _ask(port, client) == f"{kind} {serial} 0"


def test_certificates_out_of_their_time_are_refused() -> None:
    now = time.time()
    with _port() as port:
        for at in (now - 31 * DAY, now + EARLY_SECONDS + 60):
            _refused(port, _outlet(now=at))
        brief = issue_invitation(ROOT, ID, now=now - 60, until=now - 1)
        _refused(port, brief)


def test_certificates_of_another_root_are_refused() -> None:
    namesake = make_root("press-pool", now=time.time())
    with _port() as port:
        _refused(port, _outlet(root=namesake))


def test_a_certificate_without_its_key_is_refused() -> None:
    stolen = Credential(certificate=_outlet().certificate, key=make_key())
    with _port() as port, pytest.raises((grpc.RpcError, ValueError)):
        _ask(port, stolen)


def test_an_outlet_cannot_issue() -> None:
    outlet = _outlet()
    forged = _outlet(root=outlet)
    chain = Credential(certificate=forged.certificate + outlet.certificate, key=forged.key)
    with _port() as port:
        _refused(port, chain)


def test_the_servers_certificate_does_not_call() -> None:
    with _port() as port:
        _refused(port, SERVER)


def test_an_outlet_does_not_pass_for_the_coordinator() -> None:
    key = make_key()
    pem = issue_outlet(ROOT, "localhost", make_request(key), now=time.time())
    with _port(Credential(certificate=pem, key=key)) as port:
        assert UNTRUSTED.search(_refused(port, _outlet()))


@pytest.mark.parametrize("wrong", ["root", "name", "time"])
def test_a_server_with_the_wrong(wrong: str) -> None:
    now = time.time()
    other = make_root("press-pool", now=now)
    old = make_root("press-pool", now=now - 3651 * DAY)
    server, root = {
        "root": (issue_server(other, "localhost", now=now), ROOT),
        "name": (issue_server(ROOT, "other.example.org", now=now), ROOT),
        "time": (issue_server(old, "localhost", now=now - 3651 * DAY), old),
    }[wrong]
    with _port(server) as port:
        assert UNTRUSTED.search(_refused(port, _outlet(), root=root))


def test_the_host_that_was_dialled_must_be_the_one_in_the_certificate() -> None:
    with _port() as port:
        assert UNTRUSTED.search(_refused(port, _outlet(), host="127.0.0.1"))


def _context(version: ssl.TLSVersion, client: Credential | None, folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ROOT.certificate.decode())
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    if client:
        (folder / "client.pem").write_bytes(client.key + client.certificate)
        context.load_cert_chain(folder / "client.pem")
    return context


def _first_bytes(port: int, context: ssl.SSLContext) -> bytes:
    with (
        socket.create_connection(("localhost", port), timeout=60) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as secure,
    ):
        return secure.recv(9)


def test_tls_1_3_is_spoken_and_tls_1_2_refused_even_to_a_member(tmp_path: Path) -> None:
    member = _outlet()
    with _port() as port:
        newest = _context(ssl.TLSVersion.TLSv1_3, member, tmp_path)
        assert _first_bytes(port, newest)[3] == 4  # HTTP/2's SETTINGS frame
        with pytest.raises(OSError, match=r"(?i)ssl|eof|reset|alert"):
            _first_bytes(port, _context(ssl.TLSVersion.TLSv1_2, member, tmp_path))


def test_a_stranger_without_a_certificate_gets_no_byte_of_the_protocol(tmp_path: Path) -> None:
    with _port() as port:
        try:
            got = _first_bytes(port, _context(ssl.TLSVersion.TLSv1_3, None, tmp_path))
        except OSError:
            got = b""
        assert got == b""


def test_plain_tcp_is_refused() -> None:
    with _port() as port:
        with grpc.insecure_channel(f"localhost:{port}") as link, pytest.raises(grpc.RpcError):
            link.unary_unary("/any/thing")(b"", timeout=60)
        with socket.create_connection(("localhost", port), timeout=60) as raw:
            raw.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64))
            try:
                got = raw.recv(9)
            except ConnectionResetError:
                got = b""
            assert got[3:4] != b"\x04"


def test_an_outlet_does_not_talk_to_a_server_of_tls_1_2(tmp_path: Path) -> None:
    (tmp_path / "server.pem").write_bytes(SERVER.key + SERVER.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    spoken: list[str | None] = []
    listener = socket.create_server(("localhost", 0))

    def accept() -> None:
        raw, _ = listener.accept()
        try:
            with context.wrap_socket(raw, server_side=True) as secure:
                spoken.append(secure.version())
        except OSError:
            spoken.append(None)

    thread = threading.Thread(target=accept)
    thread.start()
    with listener:
        _refused(listener.getsockname()[1], _outlet())
        thread.join(120)
    assert spoken == [None]


class _Call:
    """A call's facts as gRPC gives them."""

    good: ClassVar[dict[str, list[bytes]]] = {
        "x509_pem_cert": [_outlet().certificate],
        "ssl_tls_version": [b"TLSv1.3"],
    }

    def __init__(self, **changes: list[bytes]) -> None:
        self._facts = {**self.good, **changes}

    def auth_context(self) -> Mapping[str, list[bytes]]:
        return self._facts


def test_a_call_over_anything_less_is_nobodys() -> None:
    assert caller(_Call()).name == "daily-bugle"
    changed: tuple[dict[str, list[bytes]], ...] = (
        {"ssl_tls_version": [b"TLSv1.2"]},
        {"ssl_tls_version": []},
        {"x509_pem_cert": []},
        {"x509_pem_cert": [b"junk"]},
        {"x509_pem_cert": _Call.good["x509_pem_cert"] * 2},
    )
    for changes in changed:
        with pytest.raises(AdmissionError) as caught:
            caller(_Call(**changes))
        assert caught.value.code == "not-a-member"


def test_the_suites_are_in_force_whatever_a_module_imports_first() -> None:
    code = (
        "import presspool.common.wire.flower, os, grpc; "  # Flower imports gRPC
        "print(os.environ['GRPC_SSL_CIPHER_SUITES'])"
    )
    environment = {**os.environ, "GRPC_SSL_CIPHER_SUITES": "ECDHE-ECDSA-AES128-GCM-SHA256"}
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "ECDHE-RSA-AES256-GCM-SHA384"


def test_a_message_above_the_limit_is_refused_and_the_port_lives_on() -> None:
    outlet = _outlet()
    with _port() as port:
        with pytest.raises(grpc.RpcError) as caught:
            _ask(port, outlet, body=bytes(LARGEST_MESSAGE + 1))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert _ask(port, outlet, body=bytes(1000)).endswith(" 1000")


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("pool.example.org:7443", ("pool.example.org", 7443)),
        ("localhost:1", ("localhost", 1)),
        ("127.0.0.1:65535", ("127.0.0.1", 65535)),
        ("[::1]:7443", ("::1", 7443)),
    ],
)
def test_an_address_is_a_host_and_a_port(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address, where="--address") == parts


@pytest.mark.parametrize(
    "address",
    [
        "",
        ":1",
        "host",
        "host:",
        "host:0",
        "host:65536",
        "::1:7443",
        "[127.0.0.1]:1",
        "a..b:1",
        "-a:1",
        "a b:1",
        "zürich.example:1",
        "host:１",
        "https://host:1",
        "a" * 64 + ":1",
    ],
)
def test_anything_else_is_no_address(address: str) -> None:
    with pytest.raises(InputError, match="HOST:PORT"):
        split_address(address, where="--address")
