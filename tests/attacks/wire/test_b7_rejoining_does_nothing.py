"""B.7: after a revocation, a restored database or a move, a new token did nothing and exited 0.

Now a new token of the same pool renews the membership with the present keys, and brings the new
address; a token of another root, or of the same root with other keys, is refused and changes
nothing; the ledger is not touched by any of it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.instruments.loopback import free_port
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_coordinator import Pool

from presspool.client.cli import join_cli
from presspool.client.identity.identity import Identity, Keys, identity_folder
from presspool.client.identity.joining import Joining, joined
from presspool.common.base.errors import FolderError
from presspool.common.pki.keys import SigningKey
from presspool.common.wire.token import Token

NAME = "daily-bugle"


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with Pool.started(tmp_path) as started:
        yield started


@pytest.fixture
def presspool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, width=200)


def _admitting(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the coordinator's operator type what the outlet's screen shows."""
    shown = join_cli._show_fingerprint

    def admit(token: Token, begun: Joining) -> None:
        shown(token, begun)
        pool.members.admit(token.outlet, begun.fingerprint, pool.folder.root)

    monkeypatch.setattr(join_cli, "_show_fingerprint", admit)


def test_b7_a_revoked_outlet_is_a_member_again_by_a_new_token(
    pool: Pool, presspool: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "outlet"
    before = pool.join(pool.invite(NAME), home)
    (home / "ledger.db").write_bytes(b"what was spent")
    pool.members.revoke(NAME, "laptop stolen")
    _admitting(pool, monkeypatch)
    answer = presspool("outlet", "join", pool.invite(NAME).encode(), "--home", home)
    assert answer.code == 0, answer.err
    after = Identity.read(home)
    assert pool.probe(after.credential) == NAME
    assert after.facts.serial != before.facts.serial
    assert after.keys == before.keys
    assert (home / "ledger.db").read_bytes() == b"what was spent"


def test_b7_a_database_that_was_restored_from_before_takes_the_outlet_in_again(
    pool: Pool, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.db"
    shutil.copy(pool.folder.path / "coordinator.db", empty)
    home = tmp_path / "outlet"
    before = pool.join(pool.invite(NAME), home)
    restored = tmp_path / "restored"
    shutil.copytree(pool.folder.path, restored, ignore=shutil.ignore_patterns("coordinator.db*"))
    shutil.copy(empty, restored / "coordinator.db")
    address = f"localhost:{free_port()}"
    text = (restored / "coordinator.toml").read_text()
    (restored / "coordinator.toml").write_text(text.replace(pool.folder.address, address))
    with Pool.listening(restored) as again:
        token = again.invite(NAME)
        assert joined(token, home, now=time.time()) is None
        after = again.join(token, home)
        assert again.probe(after.credential) == NAME
    assert (before.address, after.address) == (pool.folder.address, address)
    assert after.keys == before.keys
    assert joined(token, home, now=time.time()) == after  # the same command once more


def test_b7_another_root_or_other_keys_are_refused_and_nothing_changes(
    pool: Pool, presspool: Command, tmp_path: Path
) -> None:
    home = tmp_path / "outlet"
    pool.join(pool.invite(NAME), home)
    files = {path.name: path.read_bytes() for path in identity_folder(home).iterdir()}
    pool.members.revoke(NAME, "to be invited anew")
    with Pool.started(tmp_path / "other") as other:
        answer = presspool("outlet", "join", other.invite(NAME).encode(), "--home", home)
    assert answer.code == 2
    assert "another membership" in answer.err
    assert "sha256" in answer.err
    token = pool.invite(NAME)
    with pytest.raises(FolderError, match="other keys"):
        joined(replace(token, contract_key=SigningKey.generate().public), home, now=time.time())
    assert {path.name: path.read_bytes() for path in identity_folder(home).iterdir()} == files


def test_b7_a_kill_in_the_middle_leaves_a_join_that_goes_on(pool: Pool, tmp_path: Path) -> None:
    home = tmp_path / "outlet"
    pool.join(pool.invite(NAME), home)
    pool.members.revoke(NAME, "laptop stolen")
    token = pool.invite(NAME)
    kept = (identity_folder(home) / "coordinator.json").read_bytes()
    after = pool.join(token, home)
    # what a kill before the last file leaves: the new certificate under the old token's name
    (identity_folder(home) / "coordinator.json").write_bytes(kept)
    assert joined(token, home, now=time.time()) is None
    with Joining.begin(token, home) as joining:
        joining.ask()
        assert joining.collect() == after
    assert Keys.read(home) == after.keys
