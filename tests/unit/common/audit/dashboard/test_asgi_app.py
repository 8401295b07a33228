"""The port can only be read, by its own names, and says on every answer what a browser may do."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator

import pytest
from tests.fakes.made_dashboard import At, get, serving
from tests.fakes.made_evidence import ADAPTER, Desk, make_desk

from presspool.common.audit.dashboard.asgi_app import HEADERS
from presspool.common.audit.dashboard.serving import CONNECTIONS, LOOPBACK, taken
from presspool.common.base.errors import InputError

PATHS = [
    "/",
    "/runs",
    "/alerts",
    "/metrics",
    "/assets/style.css",
    "/assets/live.js",
    "/nope",
    "/outlets/presspool~north-post",
    "/ledgers/presspool~north-post",
    "/ledgers/presspool~north-post/1",
    "/ledgers/presspool~north-post/1/proof",
    f"/adapters/{ADAPTER}",
]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return make_desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def at(desk: Desk) -> Iterator[At]:
    with serving([*desk.exports, desk.run]) as found:
        yield found


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "GETX"]
)
def test_only_get_and_head_are_answered(at: At, method: str) -> None:
    for path in PATHS:
        answer = get(at, path, method)
        assert answer.status == 405
        assert answer.headers["allow"] == "GET, HEAD"


def test_no_route_takes_another_method() -> None:
    """The gate is in front; behind it stands nothing else either."""
    from presspool.common.audit.dashboard.asgi_app import METHODS, Dashboard, create_app
    from presspool.common.audit.dashboard.source_watch import SourceWatch

    app = create_app(Dashboard(SourceWatch(lambda: [])), hosts=frozenset())
    for route in app._app.routes:  # type: ignore[attr-defined]
        assert set(route.methods) <= set(METHODS)


def test_head_is_get_without_a_body(at: At) -> None:
    for path in PATHS:
        whole, head = get(at, path), get(at, path, "HEAD")
        assert head.body == ""
        assert head.status == whole.status
        assert head.headers["content-type"] == whole.headers["content-type"]
        assert head.headers["content-length"] == str(len(whole.body.encode()))


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_has_the_headers(at: At, path: str) -> None:
    for method in ("GET", "HEAD", "POST"):
        answer = get(at, path, method)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1",
        "localhost",
        "127.0.0.1:1",
        "127.0.0.1.evil.example:{port}",
        "localhost:{port}.evil.example",
        "[::1]:{port}",
        "",
    ],
)
def test_other_names_of_this_port_are_refused(at: At, host: str) -> None:
    """DNS rebinding: a site's own name that points here is not a name of this port."""
    answer = get(at, "/", Host=host.format(port=at.port))
    assert answer.status == 421
    assert "presspool/" not in answer.body


def test_own_names_are_answered(at: At) -> None:
    for host in (f"127.0.0.1:{at.port}", f"localhost:{at.port}", f"LOCALHOST:{at.port}"):
        assert get(at, "/", Host=host).status == 200


def test_two_hosts_are_refused(at: At) -> None:
    connection = http.client.HTTPConnection(LOOPBACK, at.port)
    connection.putrequest("GET", "/", skip_host=True)
    connection.putheader("Host", f"127.0.0.1:{at.port}")
    connection.putheader("Host", "evil.example")
    connection.endheaders()
    assert connection.getresponse().status in (400, 421)
    connection.close()


def test_it_listens_at_the_loopback_address_only(at: At) -> None:
    for kind, _, _, _, where in socket.getaddrinfo(socket.gethostname(), at.port):
        if str(where[0]).startswith("127.") or kind != socket.AF_INET:
            continue
        with socket.socket(kind, socket.SOCK_STREAM) as found:
            found.settimeout(5)
            assert found.connect_ex(where[:2]) != 0


def test_a_port_in_use_is_an_error(at: At) -> None:
    with pytest.raises(InputError, match="cannot listen"):
        taken(LOOPBACK, at.port)


def test_no_copy_is_kept_of_what_is_confidential(at: At) -> None:
    for path in PATHS:
        for method in ("GET", "POST"):
            if (kept := get(at, path, method).headers["cache-control"]) != "no-store":
                assert (method, path.partition("/assets/")[0]) == ("GET", "")
                assert "immutable" in kept
    assert "set-cookie" not in get(at, "/").headers


def test_an_address_with_a_slash_too_many_is_not_found(at: At) -> None:
    """A redirect would repeat what somebody wrote into the request."""
    assert get(at, "/runs/").status == 404


def test_a_slow_visitor_keeps_nobody_out(at: At) -> None:
    slow = [socket.create_connection((LOOPBACK, at.port)) for _ in range(20)]
    try:
        for connection in slow:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: 127")
        assert get(at, "/").status == 200
    finally:
        for connection in slow:
            connection.close()


def test_visitors_who_never_finish_asking_lose_their_places(
    at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those who asked well once, those who say nothing, and those who send drop by drop."""
    from presspool.common.audit.dashboard import serving as port

    monkeypatch.setattr(port, "IDLE_SECONDS", 0.5)
    whole = f"GET /runs HTTP/1.1\r\nHost: 127.0.0.1:{at.port}\r\n\r\n".encode()
    starts = (b"", b"GET / HTTP/1.1\r\nHost: 127", whole + b"GET / HT")
    slow = [
        socket.create_connection((LOOPBACK, at.port), timeout=60)
        for _ in range(2 * CONNECTIONS // len(starts) * len(starts))
    ]
    try:
        for number, connection in enumerate(slow):
            connection.sendall(starts[number % len(starts)])
        for connection in slow:  # the end of each, however much was said before
            with contextlib.suppress(ConnectionError):
                while connection.recv(1 << 16):
                    with contextlib.suppress(OSError):
                        connection.sendall(b"a")
        assert get(at, "/").status == 200
    finally:
        for connection in slow:
            connection.close()


def test_an_endless_header_is_cut_off(at: At) -> None:
    with socket.create_connection((LOOPBACK, at.port), timeout=60) as connection:
        with contextlib.suppress(ConnectionError):  # it may be cut off in its middle
            connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * (64 << 10))
        assert connection.recv(64).startswith(b"HTTP/1.1 400")


def test_a_fault_inside_is_not_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from presspool.common.audit.dashboard import views

    def broken(*_: object) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(views, "alert_page", broken)
    with serving([desk.run]) as at:
        answer = get(at, "/alerts")
        assert answer.status == 500
        assert "secret" not in answer.body
        assert "Something went wrong here" in answer.body
        assert get(at, "/").status == 200


def test_it_ends_when_it_is_told_to(desk: Desk) -> None:
    with serving([desk.run]) as at:
        kept = socket.create_connection((LOOPBACK, at.port))
    with pytest.raises(ConnectionError):
        socket.create_connection((LOOPBACK, at.port), timeout=60)
    kept.close()
