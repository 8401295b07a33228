"""Commands that write a file beside what they do: where it cannot be written nothing is done."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.fakes.instruments.typed import Command, typed

from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
from presspool.server.database import Database
from presspool.server.membership.member_schema import Invitation
from presspool.server.membership.viewers import Viewers

ADDRESS = "localhost:7443"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "coordinator"
    CoordinatorFolder.create(
        path, name="press-pool", address=ADDRESS, database=None, now=time.time()
    )
    return path


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, "coordinator", width=200)


@pytest.fixture(params=["missing/new", "new"])
def unwritable(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """In no folder, or with a name that leaves no room for its draft's, as a full disk would."""
    path: Path = tmp_path / request.param
    return path if "/" in request.param else path.with_name("n" * 248)


def test_an_invitation_without_its_file_is_none(
    coordinator: Command, home: Path, unwritable: Path
) -> None:
    assert coordinator("invite", "daily-bugle", "--home", home, "--json").code == 0
    said = coordinator("invite", "daily-bugle", "--home", home, "--out", f"{unwritable}.token")
    assert (said.code, said.out) == (2, "")
    database = Database.open(f"sqlite:///{home / 'coordinator.db'}")
    with database.reading() as session:
        [kept] = session.scalars(select(Invitation))
        assert kept.withdrawn is None
    database.close()


def test_a_viewer_without_the_file_may_not_look(
    coordinator: Command, home: Path, unwritable: Path
) -> None:
    said = coordinator("viewer", "editor", "--home", home, "--out", f"{unwritable}.pem")
    assert (said.code, said.out) == (2, "")
    assert not Viewers(home).names()


def test_a_pool_does_not_move_without_the_statement(
    coordinator: Command, home: Path, unwritable: Path
) -> None:
    before = (home / "coordinator.toml").read_bytes()
    said = coordinator("move", "localhost:7444", "--home", home, "--out", f"{unwritable}.moved")
    assert (said.code, said.out) == (2, "")
    assert (home / "coordinator.toml").read_bytes() == before


def test_there_is_no_statement_of_a_pool_that_never_moved(
    coordinator: Command, home: Path, tmp_path: Path
) -> None:
    said = coordinator("move", ADDRESS, "--home", home, "--out", tmp_path / "moved")
    assert said.code == 2
    assert "nothing to tell" in said.err
    assert not (tmp_path / "moved").exists()
