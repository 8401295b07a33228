"""The coordinator's dashboard: who may look sees the pool as it is, and nobody else gets a byte."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.serialization import pkcs12
from tests.fakes.children.warm_commands import WarmCommand
from tests.fakes.instruments.loopback import free_port
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_dashboard import read_page
from tests.fakes.made_evidence import make_desk, signer_of

from presspool.common.base.errors import AdmissionError, InputError
from presspool.common.pki.certificates import (
    VIEWER,
    Credential,
    issue_invitation,
    issue_outlet,
    make_key,
    make_request,
    make_root,
    read_certificate,
)
from presspool.common.pki.tls import Caller
from presspool.common.runs.run_folder import RunFolder, Setup
from presspool.server.coordinator.coordinator_dashboard import EXPORTS, PoolWatch, dashboard
from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
from presspool.server.coordinator.run_queue import Runs, State
from presspool.server.database import Database
from presspool.server.membership.members import Members
from presspool.server.membership.viewers import Viewers
from presspool.server.transport.mailbox import Mailbox
from presspool.server.witnessing.cosignatures import CosignatureStore

NOW = time.time()


class Made(NamedTuple):
    """A coordinator's home, its dashboard's port, and a viewer's files."""

    folder: CoordinatorFolder
    port: int
    viewer: Path


def write_pem(path: Path, credential: Credential) -> Path:
    path.write_bytes(credential.certificate + credential.key)
    return path


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    folder = CoordinatorFolder.create(
        tmp_path / "pool", name="press-pool", address="localhost:7443", database=None, now=NOW
    )
    viewer = write_pem(
        tmp_path / "viewer.pem", Viewers(folder.path).add("editor", folder.root, now=NOW)
    )
    with dashboard(folder, listen=f"127.0.0.1:{free_port()}") as serving:
        yield Made(folder, serving.port, viewer)


def context(made: Made, pem: Path | None) -> ssl.SSLContext:
    found = ssl.create_default_context(cadata=made.folder.root.certificate.decode())
    if pem is not None:
        found.load_cert_chain(pem)
    return found


def look(made: Made, path: str, pem: Path | None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPSConnection(
        "localhost", made.port, context=context(made, pem), timeout=60
    )
    with closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        assert answer.headers["connection"] == "close"
        return answer.status, answer.read().decode()


def refused(made: Made, pem: Path | None) -> bool:
    """Whether not a byte of an answer comes back."""
    try:
        look(made, "/", pem)
    except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
        return True
    return False


def test_a_viewer_sees_the_pool(made: Made) -> None:
    status, page = look(made, "/", made.viewer)
    assert status == 200
    assert "press-pool" in page
    assert "presspool coordinator submit" in page


def test_metrics_come_the_same_way(made: Made) -> None:
    status, text = look(made, "/metrics", made.viewer)
    assert status == 200
    end = read_certificate(made.folder.server.certificate).ends
    line = 'presspool_certificate_expiry_timestamp_seconds{kind="coordinator",name="press-pool"}'
    (found,) = [x for x in text.splitlines() if x.startswith(line)]
    assert float(found.rpartition(" ")[2]) == end


def test_nobody_else_gets_a_byte(made: Made, tmp_path: Path) -> None:
    root = made.folder.root
    key = make_key()
    outlet = Credential(
        certificate=issue_outlet(root, "north-post", make_request(key), now=NOW), key=key
    )
    invited = issue_invitation(root, "0" * 32, now=NOW, until=NOW + 3600)
    other = make_root("press-pool", now=NOW)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "certificates").mkdir()
    stranger = Viewers(tmp_path / "other").add("editor", other, now=NOW)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "certificates").mkdir()
    unlisted = Viewers(tmp_path / "again").add("editor", root, now=NOW)  # of the pool, not listed
    assert refused(made, None)
    for name, credential in (
        ("outlet", outlet),
        ("invited", invited),
        ("stranger", stranger),
        ("unlisted", unlisted),
        ("server", made.folder.server),
    ):
        assert refused(made, write_pem(tmp_path / f"{name}.pem", credential)), name
    assert look(made, "/", made.viewer)[0] == 200


def test_plain_text_and_tls_below_1_3_are_refused(made: Made) -> None:
    old = context(made, made.viewer)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("localhost", made.port)) as link, pytest.raises(ssl.SSLError):
        old.wrap_socket(link, server_hostname="localhost")
    with socket.create_connection(("localhost", made.port), timeout=30) as link:
        link.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP" not in link.recv(1024)


def test_who_is_removed_sees_nothing_from_the_next_request_on(made: Made) -> None:
    assert look(made, "/", made.viewer)[0] == 200
    viewers = Viewers(made.folder.path)
    viewers.remove("editor")
    assert refused(made, made.viewer)
    assert viewers.names() == []
    with pytest.raises(InputError, match="nobody of that name"):
        viewers.remove("editor")


def test_another_name_of_the_port_is_refused(made: Made) -> None:
    assert look(made, "/", made.viewer, Host="evil.example")[0] == 421


def test_a_viewers_certificate_does_nothing_at_the_outlets_port(made: Made) -> None:
    facts = read_certificate(made.viewer.read_bytes())
    assert (facts.kind, facts.name) == (VIEWER, "editor")
    caller = Caller(kind=facts.kind, name=facts.name, serial=facts.serial)
    database = Database.open(made.folder.database)
    members = Members(database)
    with pytest.raises(AdmissionError, match="member"):
        members.member(caller)
    with pytest.raises(AdmissionError):
        members.collect(caller)
    database.close()


def test_runs_members_refusals_and_exports_are_shown_as_they_are(
    made: Made, tmp_path: Path
) -> None:
    desk = make_desk(tmp_path / "desk")
    home, database = made.folder.path, Database.open(made.folder.database)
    Members(database).invite("south-echo", ttl=3600)
    running = home / "runs" / "topics-1"
    desk.run.rename(running)
    Runs(database).submit("topics-1", contract=desk.contract.digest, phase=60.0)
    Runs(database).mark("topics-1", "running", "waiting for outlets: too few")
    for _ in range(3):
        Mailbox(database).refuse("south-echo", "bad-signature")
    convicted = signer_of("north-post").key
    CosignatureStore(database).convict(convicted, finder="south-echo", proof=b"x")
    (home / EXPORTS).mkdir()
    for path in desk.exports:
        path.rename(home / EXPORTS / path.name)
    (home / EXPORTS / "torn.export").write_bytes(b"{}\n")
    _, page = look(made, "/", made.viewer)
    assert "1 invited" in page
    assert "waiting for outlets: too few" in page
    assert page.count('href="/outlets/presspool~') >= 2
    _, alerts = look(made, "/alerts", made.viewer)
    assert "refused 3 calls for “bad-signature”" in alerts
    assert "torn.export" in alerts
    assert "split view" in alerts
    _, run = look(made, f"/runs/{desk.contract.digest[7:]}", made.viewer)
    assert 'data-live="5"' in run
    assert "Open round 3" in run
    assert "not a member" in run
    shown = {of: value for of, value, _ in read_page(run).numbers}
    assert shown[f"results.{desk.contract.digest}.rounds#"] == "2"
    database.close()


def test_a_run_without_a_round_has_its_page(made: Made, tmp_path: Path) -> None:
    contract = make_desk(tmp_path / "desk").contract
    with RunFolder(made.folder.path / "runs" / "topics-1").claim(contract, Setup(), resume=False):
        pass
    database = Database.open(made.folder.database)
    Runs(database).submit("topics-1", contract=contract.digest, phase=60.0)
    database.close()
    for path in ("/", "/runs", f"/runs/{contract.digest[7:]}"):
        status, page = look(made, path, made.viewer)
        assert status == 200
        assert "topics" in page
    assert "No round has finished yet" in page


def test_a_failure_stays_counted_when_the_run_is_submitted_again(
    made: Made, tmp_path: Path
) -> None:
    contract = make_desk(tmp_path / "desk").contract
    with RunFolder(made.folder.path / "runs" / "again-1").claim(contract, Setup(), resume=False):
        pass
    database = Database.open(made.folder.database)
    known, runs = PoolWatch(made.folder, database), Runs(database)
    before, seen = known.pool().failures, []
    states: tuple[State, ...] = ("failed", "running", "failed", "complete")
    for state in states:
        runs.submit("again-1", contract=contract.digest, phase=60.0)
        runs.mark("again-1", state)
        seen.append(known.pool().failures - before)
    database.close()
    assert seen == [1, 1, 2, 2]


# --- As typed ------------------------------------------------------------------------------------


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, "coordinator")


def test_a_viewer_is_made_for_a_browser_and_taken_back(
    coordinator: Command, made: Made, tmp_path: Path
) -> None:
    home, file = made.folder.path, tmp_path / "anna.p12"
    code, text, _ = coordinator("viewer", "anna", "--out", file, "--home", home, "--json")
    said = json.loads(text)
    key, certificate, others = pkcs12.load_key_and_certificates(
        file.read_bytes(), said["password"].encode()
    )
    assert (code, file.stat().st_mode & 0o777) == (0, 0o600)
    assert key is not None
    assert certificate is not None
    assert len(others) == 1
    assert Viewers(home).names() == ["anna", "editor"]
    assert coordinator("viewer", "anna", "--out", tmp_path / "again.p12", "--home", home)[0] == 2
    assert coordinator("viewer", "anna", "--remove", "--home", home)[0] == 0
    assert Viewers(home).names() == ["editor"]


def test_a_viewer_is_made_for_a_program(coordinator: Command, made: Made, tmp_path: Path) -> None:
    file = tmp_path / "prometheus.pem"
    assert coordinator("viewer", "prometheus", "--out", file, "--home", made.folder.path)[0] == 0
    assert look(made, "/metrics", file)[0] == 200


@pytest.mark.parametrize(
    "arguments",
    [
        ("anna",),
        ("anna", "--out", "x.txt"),
        ("Anna!", "--remove"),
        ("../root", "--remove"),
        ("nobody", "--remove"),
    ],
)
def test_what_cannot_be_is_refused(
    coordinator: Command, made: Made, arguments: tuple[str, ...]
) -> None:
    assert coordinator("viewer", *arguments, "--home", made.folder.path)[0] == 2
    assert Viewers(made.folder.path).names() == ["editor"]


def test_the_coordinator_serves_it_and_ends_with_it(tmp_path: Path) -> None:
    port, pages = free_port(), free_port()
    folder = CoordinatorFolder.create(
        tmp_path / "pool", name="press-pool", address=f"localhost:{port}", database=None, now=NOW
    )
    viewer = write_pem(
        tmp_path / "viewer.pem", Viewers(folder.path).add("editor", folder.root, now=NOW)
    )
    places = ["--home", folder.path, "--listen", f"127.0.0.1:{port}"]
    places += ["--dashboard", f"127.0.0.1:{pages}"]
    log = tmp_path / "log"
    process = WarmCommand(
        ["-m", "presspool.cli", "coordinator", "start", *places], out=log, err=log
    )
    try:
        made = Made(folder, pages, viewer)
        end = time.monotonic() + 300  # a new interpreter starts
        while refused(made, viewer):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end
            time.sleep(0.2)
        assert look(made, "/", viewer)[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(240) == 0
    finally:
        process.kill()
