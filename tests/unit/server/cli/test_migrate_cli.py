"""An older coordinator's database: no command touches it but the one that says so."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from tests.conftest import REPOSITORY

from presspool.cli import app
from presspool.common.base.console import guarded
from presspool.server.coordinator.coordinator_folder import CoordinatorFolder


def test_a_start_names_the_command_and_the_command_migrates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "coordinator"
    folder = CoordinatorFolder.create(
        home, name="pool", address="localhost:7443", database=None, now=1.8e9
    )
    for file in home.glob("coordinator.db*"):
        file.unlink()
    config = Config()
    config.set_main_option("script_location", str(REPOSITORY / "server" / "migrations"))
    with create_engine(folder.database).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")

    def typed(*words: str) -> tuple[int, str]:
        code = 0
        with suppress(SystemExit):
            code = guarded(
                lambda: app(["coordinator", *words, "--home", str(home)], standalone_mode=False)
            )
        said = capsys.readouterr()
        return code, said.out + said.err

    for words in (("members",), ("start", "--listen", "127.0.0.1:7443")):
        code, said = typed(*words)
        assert code == 2
        assert "presspool coordinator migrate" in said
    assert typed("migrate")[0] == 0
    assert "up to date" in typed("migrate")[1]
    assert typed("members")[0] == 0
