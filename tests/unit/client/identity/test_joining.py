"""The outlet's half of joining: its keys stay, a stopped join goes on, a finished one stays."""

from __future__ import annotations

import json
import multiprocessing
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.instruments.full_disk import full_disk
from tests.fakes.instruments.loopback import free_port
from tests.fakes.made_coordinator import Pool

from presspool.client.identity import identity as identities
from presspool.client.identity.identity import Identity, Keys, identity_folder
from presspool.client.identity.joining import Joining, joined, read_token, renew_if_due
from presspool.common.base.errors import (
    EvidenceError,
    FolderError,
    InputError,
    LinkError,
    StorageError,
)
from presspool.common.base.files import replace_file
from presspool.common.pki.certificates import DAY, OUTLET_DAYS, make_key, make_root
from presspool.common.pki.keys import SigningKey
from presspool.common.wire.token import LARGEST_TOKEN, PREFIX, Token

NAME = "daily-bugle"


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with Pool.started(tmp_path) as started:
        yield started


def _files(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in identity_folder(home).iterdir()}


def test_a_token_comes_back_from_its_text_and_through_mail_programs(pool: Pool) -> None:
    token = pool.invite(NAME)
    text = token.encode()
    wrapped = "\r\n".join(text[at : at + 70] for at in range(0, len(text), 70))
    assert Token.parse(text) == Token.parse(f"  {wrapped}\n") == token
    assert "PRIVATE" not in repr(token)
    assert len(text) < LARGEST_TOKEN / 4


def test_a_token_that_was_cut_or_mistyped_is_told_from_a_false_one(pool: Pool) -> None:
    text = pool.invite(NAME).encode()
    at = len(text) // 2
    for damaged in (
        text[:-1],
        text[:at],
        text[:at] + text[at + 1 :],
        PREFIX,
        PREFIX + ".",
        text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :],
    ):
        with pytest.raises(InputError, match="cut short or changed"):
            Token.parse(damaged)
    for other in ("", "x", text[3:], text.replace("-1.", "-2.", 1), text * 10):
        with pytest.raises(InputError, match="not a token"):
            Token.parse(other)


def test_a_token_is_read_from_text_or_file_and_nothing_else(pool: Pool, tmp_path: Path) -> None:
    token = pool.invite(NAME)
    (tmp_path / "t").write_text(token.encode() + "\n")
    assert read_token(token.encode()) == read_token(str(tmp_path / "t")) == token
    for wrong in (str(tmp_path / "missing"), str(tmp_path), token.encode()[4:]):
        with pytest.raises(InputError, match="neither a token nor a file"):
            read_token(wrong)


def test_an_outlet_joins_and_finds_itself_again(pool: Pool, tmp_path: Path) -> None:
    token, home = pool.invite(NAME), tmp_path / "outlet"
    identity = pool.join(token, home)
    again = Identity.read(home)
    assert again == identity
    assert (again.name, again.pool, again.address) == (NAME, "press-pool", pool.folder.address)
    assert again.contract_key == pool.folder.contract.public
    assert again.log_key == pool.folder.log.key.text
    assert again.root == pool.folder.root.certificate
    assert pool.probe(again.credential) == NAME


def test_keys_have_one_purpose_each_and_are_their_owners_only(pool: Pool, tmp_path: Path) -> None:
    identity = pool.join(pool.invite(NAME), tmp_path / "outlet")
    assert identity.keys.update.secret != identity.keys.log.secret
    folder = identity_folder(tmp_path / "outlet")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("tls.key", "update.key", "log.key"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert "PRIVATE" not in repr(identity)
    assert identity.update.secret.hex() not in repr(identity)


def test_a_join_that_was_stopped_goes_on_with_the_same_keys(pool: Pool, tmp_path: Path) -> None:
    token, home = pool.invite(NAME), tmp_path / "outlet"
    with Joining.begin(token, home) as joining:
        joining.ask()
        first, before = joining.fingerprint, _files(home)
        assert joining.collect() is None
    pool.members.admit(NAME, first, pool.folder.root)
    with Joining.begin(token, home) as joining:
        joining.ask()
        assert joining.fingerprint == first
        assert joining.collect() is not None
    assert {name: _files(home)[name] for name in before} == before


def test_a_join_that_was_stopped_goes_on_with_a_newer_token(pool: Pool, tmp_path: Path) -> None:
    home = tmp_path / "outlet"
    with Joining.begin(pool.invite(NAME), home) as joining:
        joining.ask()
        first = joining.fingerprint
    identity = pool.join(pool.invite(NAME), home)
    with Joining.begin(pool.invite("tribune"), home) as joining:
        assert joining.fingerprint == first
    assert identity.name == NAME


def test_a_finished_join_is_recognised_and_never_changed(pool: Pool, tmp_path: Path) -> None:
    token, home = pool.invite(NAME), tmp_path / "outlet"
    assert joined(token, home, now=time.time()) is None
    identity = pool.join(token, home)
    before = _files(home)
    assert joined(token, home, now=time.time()) == identity
    with pytest.raises(FolderError, match="another membership"):
        joined(pool.invite("tribune"), home, now=time.time())
    assert _files(home) == before


def test_a_membership_that_nobody_wrote_a_token_down_for_is_of_one_not_younger_than_it(
    pool: Pool, tmp_path: Path
) -> None:
    token, home = pool.invite(NAME), tmp_path / "outlet"
    pool.join(token, home)
    path = identity_folder(home) / "coordinator.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "invitation": ""}))
    assert joined(token, home, now=time.time()) == Identity.read(home)
    moved = replace(token, address="new.example.org:7443")
    assert joined(moved, home, now=time.time()) is None
    pool.members.revoke(NAME, "laptop stolen")
    pool.clock.ahead = 10
    assert joined(pool.invite(NAME), home, now=time.time()) is None


def test_addresses_are_forgotten_once_a_token_of_another_one_is_written_down(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "outlet"
    token = pool.invite(NAME)
    old = pool.join(token, home)
    now = old.told(pool.folder.moved("one.example.org:7443", now=time.time()).addresses)
    assert now.addresses == ("one.example.org:7443", old.address)
    known, other = (replace(token, address=f"{name}.example.org:7443") for name in ("one", "two"))
    assert Identity.store(home, known, old.certificate).addresses == now.addresses
    assert Identity.read(home).moves == now.moves

    def killed(path: Path, content: bytes) -> None:
        if path.name == "coordinator.json":
            raise KeyboardInterrupt
        replace_file(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(identities, "replace_file", killed)
        with pytest.raises(KeyboardInterrupt):
            Identity.store(home, other, old.certificate)
    assert set(Identity.read(home).addresses) == set(now.addresses)
    assert Identity.store(home, other, old.certificate).addresses == ("two.example.org:7443",)


def test_an_outlet_that_was_away_too_long_joins_again_with_its_keys(
    pool: Pool, tmp_path: Path
) -> None:
    home = tmp_path / "outlet"
    first = pool.join(pool.invite(NAME), home)
    pool.clock.ahead = OUTLET_DAYS * DAY + 1
    token = pool.invite(NAME)
    assert joined(token, home, now=pool.clock()) is None
    with Joining.begin(token, home) as joining:
        assert Keys.read(home) == first.keys
        assert joining.keys == first.keys


def _hold(token: Token, home: Path, ready: object, done: object) -> None:
    with Joining.begin(token, home):
        ready.set()  # type: ignore[attr-defined]
        done.wait(240)  # type: ignore[attr-defined]


def test_two_processes_do_not_join_at_one_home(pool: Pool, tmp_path: Path) -> None:
    token, home = pool.invite(NAME), tmp_path / "outlet"
    spawn = multiprocessing.get_context("spawn")
    ready, done = spawn.Event(), spawn.Event()
    other = spawn.Process(target=_hold, args=(token, home, ready, done))
    other.start()
    try:
        assert ready.wait(240)
        with pytest.raises(FolderError, match="another process"), Joining.begin(token, home):
            pass
    finally:
        done.set()
        other.join(240)
    with Joining.begin(token, home):
        assert other.exitcode == 0


def test_a_full_disk_leaves_no_half_key_and_the_join_goes_on(pool: Pool, tmp_path: Path) -> None:
    token, home = pool.invite(NAME), tmp_path / "outlet"
    with full_disk(room=100), pytest.raises(StorageError), Joining.begin(token, home):
        pass
    assert _files(home) == {"lock": b""}
    assert pool.join(token, home).name == NAME


def test_a_coordinator_that_is_not_there_is_one_clear_error(pool: Pool, tmp_path: Path) -> None:
    token = replace(pool.invite(NAME), address=f"localhost:{free_port()}")
    with Joining.begin(token, tmp_path / "outlet") as joining, pytest.raises(LinkError) as caught:
        joining.ask()
    assert token.address in str(caught.value)


def test_a_coordinator_of_another_root_is_not_believed(pool: Pool, tmp_path: Path) -> None:
    other = make_root("press-pool", now=time.time())
    token = replace(pool.invite(NAME), root=other.certificate)
    with Joining.begin(token, tmp_path / "outlet") as joining, pytest.raises(LinkError):
        joining.ask()
    assert pool.received == []


def test_a_token_changed_to_another_name_gives_no_identity(pool: Pool, tmp_path: Path) -> None:
    token, home = replace(pool.invite(NAME), outlet="tribune"), tmp_path / "outlet"
    with Joining.begin(token, home) as joining:
        joining.ask()
        pool.members.admit(NAME, joining.fingerprint, pool.folder.root)
        with pytest.raises(EvidenceError, match="somebody else"):
            joining.collect()
    assert not (identity_folder(home) / "certificate.pem").exists()


def test_what_others_may_read_or_have_changed_is_refused(pool: Pool, tmp_path: Path) -> None:
    home = tmp_path / "outlet"
    with pytest.raises(InputError, match="has not joined"):
        Identity.read(home)
    pool.join(pool.invite(NAME), home)
    folder = identity_folder(home)
    whole = _files(home)
    (folder / "tls.key").chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        Identity.read(home)
    (folder / "tls.key").chmod(0o600)
    for name, content in (
        ("certificate.pem", b"x"),
        ("coordinator.json", b"{}"),
        ("root.pem", b""),
        ("tls.key", make_key()),
        ("update.key", b"00"),
    ):
        (folder / name).write_bytes(content)
        with pytest.raises(InputError):
            Identity.read(home)
        (folder / name).write_bytes(whole[name])
    assert Identity.read(home).name == NAME


def _joined_days_ago(pool: Pool, home: Path, days: int) -> Identity:
    """An outlet whose certificate was issued some days ago by the coordinator's clock."""
    token = pool.invite(NAME)
    pool.clock.ahead = -days * DAY
    identity = pool.join(token, home)
    pool.clock.ahead = 0
    return identity


def test_a_certificate_renews_itself_at_two_thirds_and_both_work(
    pool: Pool, tmp_path: Path
) -> None:
    old = _joined_days_ago(pool, tmp_path / "outlet", 21)
    new = renew_if_due(old, now=time.time())
    assert new.facts.serial != old.facts.serial
    assert new.facts.ends > old.facts.ends
    assert new == Identity.read(tmp_path / "outlet")
    assert new.keys == old.keys
    assert pool.probe(old.credential) == pool.probe(new.credential) == NAME
    assert renew_if_due(new, now=time.time()) is new


def test_before_two_thirds_nothing_is_renewed_whatever_the_outlets_clock_says(
    pool: Pool, tmp_path: Path
) -> None:
    identity = _joined_days_ago(pool, tmp_path / "outlet", 19)
    sent = len(pool.received)
    assert renew_if_due(identity, now=time.time()) is identity
    assert len(pool.received) == sent
    assert renew_if_due(identity, now=time.time() + 5 * DAY) == identity


def test_a_revoked_outlet_is_told_so_when_it_renews(pool: Pool, tmp_path: Path) -> None:
    identity = pool.join(pool.invite(NAME), tmp_path / "outlet")
    pool.members.revoke(NAME, "laptop stolen")
    with pytest.raises(InputError) as caught:
        renew_if_due(identity, now=identity.facts.renewal_due)
    assert "revoked" in str(caught.value)
    assert "laptop" not in str(caught.value)


def test_a_renewal_that_finds_no_coordinator_keeps_the_certificate(
    pool: Pool, tmp_path: Path
) -> None:
    identity = pool.join(pool.invite(NAME), tmp_path / "outlet")
    away = replace(identity, addresses=(f"localhost:{free_port()}",))
    before = _files(tmp_path / "outlet")
    with pytest.raises(LinkError):
        renew_if_due(away, now=identity.facts.renewal_due)
    assert _files(tmp_path / "outlet") == before


def test_a_renewal_needs_the_update_key(pool: Pool, tmp_path: Path) -> None:
    identity = pool.join(pool.invite(NAME), tmp_path / "outlet")
    thief = replace(identity, keys=replace(identity.keys, update=SigningKey.generate()))
    with pytest.raises(InputError, match="bad-proof"):
        renew_if_due(thief, now=identity.facts.renewal_due)
