"""A pool as one file, taken while it serves, and a pool that goes on from it elsewhere."""

from __future__ import annotations

import stat
import threading
import time
from pathlib import Path

import pytest
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_coordinator import Pool

from presspool.common.base.archives import pack
from presspool.common.base.errors import FolderError, InputError
from presspool.server.coordinator import safekeeping
from presspool.server.coordinator.coordinator_folder import SETTINGS, CoordinatorFolder
from presspool.server.database import Database
from presspool.server.membership.member_list import standings
from presspool.server.membership.members import Members
from presspool.server.membership.viewers import Viewers

NAME = "daily-bugle"


@pytest.fixture
def presspool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, width=200)


def test_a_pool_goes_on_from_a_backup_that_was_taken_while_it_served(
    tmp_path: Path, presspool: Command
) -> None:
    file, new = tmp_path / "pool.backup", tmp_path / "new"
    with Pool.started(tmp_path) as pool:
        identity = pool.join(pool.invite(NAME), tmp_path / "outlet")
        Viewers(pool.folder.path).add("editor", pool.folder.root, now=time.time())
        (pool.folder.path / "runs" / "spring").mkdir()
        (pool.folder.path / "runs" / "spring" / "contract.json").write_text("{}")
        over = threading.Event()

        def busy() -> None:
            number = 0
            while not over.is_set():
                pool.members.invite(f"outlet-{number}", ttl=3600)
                number += 1

        writer = threading.Thread(target=busy)
        writer.start()
        try:
            answer = presspool("coordinator", "backup", file, "--home", pool.folder.path)
        finally:
            over.set()
            writer.join()
        assert answer.code == 0, answer.err
        assert "private keys" in answer.out
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert presspool("coordinator", "backup", file, "--home", pool.folder.path).code == 2
    assert presspool("coordinator", "restore", file, "--home", new).code == 0
    with Pool.listening(new) as again:
        assert again.probe(identity.credential) == NAME
        assert Viewers(new).names() == ["editor"]
        assert (new / "runs" / "spring" / "contract.json").read_text() == "{}"
        assert stat.S_IMODE((new / "keys" / "root.key").stat().st_mode) == 0o600
    assert presspool("coordinator", "restore", file, "--home", new).code == 2


def test_what_is_no_backup_of_a_coordinator_is_refused(tmp_path: Path) -> None:
    with Pool.started(tmp_path) as pool:
        file = tmp_path / "pool.backup"
        assert safekeeping.backup(pool.folder.path, file)
        for content in (b"", b"x" * 10_000, file.read_bytes()[:-30_000]):
            (tmp_path / "bad").write_bytes(content)
            with pytest.raises(InputError):
                safekeeping.restore(tmp_path / "bad", tmp_path / "new")
        with pytest.raises(FolderError):
            safekeeping.restore(file, pool.folder.path)
    assert not (tmp_path / "new").exists()


def test_a_database_of_any_name_in_the_home_is_saved_and_never_found_by_two_homes(
    tmp_path: Path,
) -> None:
    home, new, file = tmp_path / "coordinator", tmp_path / "new", tmp_path / "pool.backup"
    CoordinatorFolder.create(
        home, name="press-pool", address="localhost:7443", database=None, now=time.time()
    )
    (home / "coordinator.db").rename(home / "members.db")
    line = f'database = "sqlite:///{home / "members.db"}"\n'
    with (home / SETTINGS).open("a") as settings:
        settings.write(line)
    Members(Database.open(CoordinatorFolder.read(home).database)).invite(NAME, ttl=3600)
    assert safekeeping.backup(home, file)
    restored = safekeeping.restore(file, new)
    assert restored.database == f"sqlite:///{new / 'coordinator.db'}"
    assert NAME in str(standings(Database.open(restored.database), now=time.time()))
    with pack(tmp_path / "older", safekeeping.KIND) as archive:
        for part in ("keys", "certificates"):
            archive.add_folder(home / part, part)
        archive.add_file(home / SETTINGS, SETTINGS)
    with pytest.raises(InputError, match="another home's"):
        safekeeping.restore(tmp_path / "older", tmp_path / "other")
    assert not (tmp_path / "other").exists()
    (home / "members.db").rename(tmp_path / "members.db")
    with pytest.raises(FolderError, match="not there"):
        safekeeping.backup(home, tmp_path / "empty.backup")


def test_a_database_elsewhere_is_said_and_not_forgotten(tmp_path: Path) -> None:
    home, url = tmp_path / "coordinator", f"sqlite:///{tmp_path / 'elsewhere.db'}"
    CoordinatorFolder.create(
        home, name="press-pool", address="localhost:7443", database=url, now=time.time()
    )
    Members(Database.open(url)).invite(NAME, ttl=3600)
    with pytest.raises(FolderError, match="outside the home"):
        safekeeping.backup(home, tmp_path / "pool.backup")
    assert not (tmp_path / "pool.backup").exists()
    settings = (home / "coordinator.toml").read_text().replace(url, "postgresql+psycopg://u@h/n")
    (home / "coordinator.toml").write_text(settings)
    assert not safekeeping.backup(home, tmp_path / "pool.backup")
