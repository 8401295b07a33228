"""B.15: two coordinators of two homes, or two machines, on one database."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event
from tests.fakes.instruments.live_coordinator import live
from tests.fakes.instruments.postgres import Server
from tests.fakes.made_runs import write_run

from presspool.common.base.errors import FolderError, StorageError
from presspool.server.coordinator.coordinator import Coordinator
from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
from presspool.server.coordinator.database_claim import DatabaseClaim
from presspool.server.database import Database


def test_the_second_coordinator_is_refused_and_may_start_when_the_first_has_ended(
    tmp_path: Path, contract_body: dict[str, Any], database_url: str
) -> None:
    run = write_run(tmp_path / "made", contract_body)
    with live(tmp_path, run, database=database_url) as pool:
        shutil.copytree(pool.folder.path, tmp_path / "copy")  # as on another machine
        second = CoordinatorFolder.read(tmp_path / "copy")
        with pytest.raises(FolderError, match="another coordinator works on this database") as said:
            Coordinator(second, listen="localhost:0")
        assert said.value.exit_code == 2
        pool.stop()
        coordinator = Coordinator(second, listen="localhost:0")
        coordinator.stop()
        coordinator.serve()
        pool.start()


def test_a_claim_that_was_cut_is_taken_again_or_nothing_is_done(postgres: Server) -> None:
    name = f"claim_{uuid.uuid4().hex}"
    url = postgres.create(name)
    first, second = Database.open(url), Database.open(url)
    mine = DatabaseClaim(first)
    postgres.cut(name)
    mine.hold()
    with pytest.raises(FolderError):
        DatabaseClaim(second)
    postgres.cut(name)
    other = DatabaseClaim(second)
    for _ in range(2):
        with pytest.raises(StorageError, match="lost its claim"):
            mine.hold()
    other.release()
    mine.hold()
    mine.release()
    first.close()
    second.close()


def test_a_claim_whose_new_connection_is_cut_while_it_asks_is_taken_the_next_time(
    postgres: Server,
) -> None:
    name = f"claim_{uuid.uuid4().hex}"
    database = Database.open(postgres.create(name))
    claim = DatabaseClaim(database)
    postgres.cut(name)

    def cut(_: object, __: object, statement: str, *___: object) -> None:
        if "pg_try_advisory_lock" in statement:
            postgres.cut(name)

    event.listen(Engine, "before_cursor_execute", cut)
    try:
        for _ in range(2):
            with pytest.raises(StorageError, match="refuses"):
                claim.hold()
    finally:
        event.remove(Engine, "before_cursor_execute", cut)
    claim.hold()
    claim.release()
    database.close()
