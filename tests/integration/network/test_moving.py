"""A pool that moves: outlets learn the new address, signed, and the log and its key stay."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.instruments.loopback import free_port
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_coordinator import PROBE, Pool

from presspool.client.agent.assembly import _dialler
from presspool.client.identity.identity import Identity, identity_folder
from presspool.client.identity.joining import joined
from presspool.common.base.errors import EvidenceError
from presspool.common.pki.certificates import fingerprint_of
from presspool.common.pki.keys import SigningKey
from presspool.common.wire.addresses import Addresses
from presspool.server.coordinator.coordinator_folder import SETTINGS, CoordinatorFolder

NAME = "daily-bugle"


@pytest.fixture
def presspool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, width=200)


def _asks(home: Path) -> str:
    """What the outlet at a home is called by whom its agent would dial."""
    with _dialler(home)() as link:
        answer: bytes = link.unary_unary(PROBE)(b"", timeout=60)
        return answer.decode()


def test_an_outlet_learns_the_new_address_at_the_old_one_and_goes_there(
    tmp_path: Path, presspool: Command
) -> None:
    home, new = tmp_path / "outlet", f"127.0.0.1:{free_port()}"
    with Pool.started(tmp_path) as pool:
        coordinator, old, log = pool.folder.path, pool.folder.address, pool.folder.log.key.text
        pool.join(pool.invite(NAME), home)
        assert _asks(home) == NAME
        assert Identity.read(home).addresses == (old,)  # it never moved: nothing is said
        answer = presspool("coordinator", "move", new, "--home", coordinator)
        assert answer.code == 0, answer.err
    moved = CoordinatorFolder.read(coordinator)
    assert (moved.address, moved.also, moved.log.key.text) == (new, (old,), log)
    with Pool.listening(coordinator, at=old):
        assert _asks(home) == NAME
    assert Identity.read(home).addresses == (new, old)
    with Pool.listening(coordinator):  # at the new address only
        assert _asks(home) == NAME
    with Pool.listening(coordinator, at=old):  # and at the old one only
        assert _asks(home) == NAME


def test_a_statement_is_taken_only_from_the_pool_and_only_a_later_one(
    tmp_path: Path, presspool: Command
) -> None:
    home = tmp_path / "outlet"
    with Pool.started(tmp_path) as pool:
        identity = pool.join(pool.invite(NAME), home)
        first = pool.folder.moved("one.example.org:7443", now=time.time())
        second = first.moved("two.example.org:7443", now=time.time())
    for false in (
        b"",
        b"x\n00\n",
        second.addresses.replace(b"two.", b"too."),
        replace(second, contract=SigningKey.generate()).addresses,
        Addresses(root="0" * 64, moves=9, addresses=("x:1",)).signed(second.contract),
    ):
        with pytest.raises(EvidenceError):
            identity.told(false)
    newest = identity.told(second.addresses)
    assert newest.addresses == ("two.example.org:7443", "one.example.org:7443", identity.address)
    root = fingerprint_of(second.root.certificate)
    fork = Addresses(root=root, moves=second.moves, addresses=("three.example.org:7443",))
    for word, statement in (
        ("an older word", first.addresses),
        ("another word", fork.signed(second.contract)),
    ):
        with pytest.raises(EvidenceError, match=word):
            newest.told(statement)
        (tmp_path / "moved").write_bytes(statement)
        answer = presspool("outlet", "moved", tmp_path / "moved", "--home", home)
        assert (answer.code, word in answer.err) == (2, True)
        assert Identity.read(home) == newest
    (tmp_path / "moved").write_bytes(second.addresses)  # what is known already
    assert presspool("outlet", "moved", tmp_path / "moved", "--home", home).code == 0
    (identity_folder(home) / "addresses").write_bytes(b"damaged")
    assert Identity.read(home).addresses == identity.addresses


def test_one_that_came_too_late_takes_a_file_or_a_new_token(
    tmp_path: Path, presspool: Command
) -> None:
    home, file, new = tmp_path / "outlet", tmp_path / "moved", f"127.0.0.1:{free_port()}"
    with Pool.started(tmp_path) as pool:
        coordinator = pool.folder.path
        pool.join(pool.invite(NAME), home)
        moved = presspool("coordinator", "move", new, "--out", file, "--home", coordinator)
        assert moved.code == 0, moved.err
        assert presspool("coordinator", "move", new, "--out", file, "--home", coordinator).code == 2
    with Pool.listening(coordinator) as pool:
        assert presspool("outlet", "moved", file, "--home", home).code == 0
        assert _asks(home) == NAME
        (identity_folder(home) / "addresses").unlink()
        pool.members.revoke(NAME, "to be invited anew")
        token = pool.invite(NAME)
        assert (token.address, joined(token, home, now=time.time())) == (new, None)
        assert pool.join(token, home).address == new


def test_the_port_s_certificate_is_issued_anew_for_the_same_key(
    tmp_path: Path, presspool: Command
) -> None:
    with Pool.started(tmp_path) as pool:
        home = pool.folder.path
        pool.join(pool.invite(NAME), tmp_path / "outlet")
        assert presspool("coordinator", "reissue", "--home", home).code == 0
    after = CoordinatorFolder.read(home)
    assert after.server.certificate != pool.folder.server.certificate
    assert (after.server.key, after.address, after.moves) == (
        pool.folder.server.key,
        pool.folder.address,
        0,
    )
    with Pool.listening(home):
        assert _asks(tmp_path / "outlet") == NAME


def test_the_log_of_a_pool_of_before_keeps_its_name_when_it_moves(tmp_path: Path) -> None:
    with Pool.started(tmp_path) as pool:
        home = pool.folder.path
    lines = (home / SETTINGS).read_text().splitlines(keepends=True)
    (home / SETTINGS).write_text("".join(line for line in lines if not line.startswith("log =")))
    before = CoordinatorFolder.read(home)
    assert before.log.key.name == "localhost/press-pool"
    assert before.moved("new.example.org:7443", now=time.time()).log.key == before.log.key
