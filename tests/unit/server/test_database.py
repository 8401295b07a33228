"""The coordinator's database: whole writes, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
import uuid
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, func, inspect, select, text
from sqlalchemy.orm import Session
from tests.conftest import REPOSITORY
from tests.fakes.instruments.postgres import Server

from presspool.common.base.errors import InputError, StorageError
from presspool.server.coordinator import coordinator  # noqa: F401 - brings every table
from presspool.server.database import Base, Database
from presspool.server.membership.member_schema import Invitation


def _invitation(number: int) -> Invitation:
    return Invitation(id=f"{number:032x}", name="daily-bugle", made=1, expires=2)


def _count(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(Invitation)) or 0


def test_what_a_block_wrote_is_there_after_a_restart(database_url: str) -> None:
    database = Database.open(database_url)
    with database.writing() as session:
        session.add(_invitation(1))
    database.close()
    assert _count(Database.open(database_url)) == 1


def test_a_block_that_raises_leaves_nothing(database_url: str) -> None:
    database = Database.open(database_url)

    def write_and_fail() -> None:
        with database.writing() as session:
            session.add(_invitation(1))
            session.flush()
            raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted"):
        write_and_fail()
    assert _count(database) == 0


def test_a_reading_block_writes_nothing(database_url: str) -> None:
    database = Database.open(database_url)
    with database.reading() as session:
        session.add(_invitation(1))
        session.flush()
    assert _count(database) == 0


def test_writers_in_many_threads_wait_for_each_other(database_url: str) -> None:
    database = Database.open(database_url)
    with database.writing() as session:
        session.add(_invitation(0))
    rounds, threads = 10, 6

    def add() -> None:
        for _ in range(rounds):
            with database.writing() as session:
                row = session.get_one(Invitation, f"{0:032x}", with_for_update=True)
                row.expires += 1

    workers = [threading.Thread(target=add) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(240)
    with database.reading() as session:
        assert session.get_one(Invitation, f"{0:032x}").expires == 2 + rounds * threads


def test_the_migrations_make_exactly_the_tables_of_the_code(database_url: str) -> None:
    Database.open(database_url).close()
    with create_engine(database_url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        assert "alembic_version" in inspect(connection).get_table_names()


def test_a_database_of_a_newer_version_is_refused(database_url: str) -> None:
    Database.open(database_url).close()
    with create_engine(database_url).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(InputError, match="newer version"):
        Database.open(database_url)


def test_an_older_database_is_changed_by_nobody_who_was_not_told_to(database_url: str) -> None:
    old = "0004"
    config = Config()
    config.set_main_option("script_location", str(REPOSITORY / "server" / "migrations"))
    with create_engine(database_url).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, old)
    with pytest.raises(InputError, match="presspool coordinator migrate") as caught:
        Database.open(database_url)
    assert caught.value.got == old
    with create_engine(database_url).connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == old
    Database.open(database_url, migrate=True).close()
    Database.open(database_url).close()


@pytest.mark.parametrize(
    "url",
    [
        "no url",
        "oracle+nothing://x/y",
        "sqlite:////nowhere/at/all.db",
        "postgresql+psycopg://nobody@127.0.0.1:1/none",
    ],
)
def test_a_database_that_cannot_be_opened_is_one_clear_message(url: str) -> None:
    with pytest.raises(InputError) as caught:
        Database.open(url)
    assert "database" in str(caught.value)


def test_a_password_in_the_url_is_not_shown() -> None:
    with pytest.raises(InputError) as caught:
        Database.open("postgresql+psycopg://nobody:hunter2@127.0.0.1:1/none")
    assert "hunter2" not in str(caught.value)


def test_sqlite_syncs_each_commit_and_keeps_foreign_keys(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'c.db'}")
    with database.reading() as session:
        found = {
            name: session.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_disk_that_refuses_is_a_storage_error_and_loses_nothing(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'c.db'}")
    with database.writing() as session:
        session.add(_invitation(1))
        session.execute(text("PRAGMA max_page_count = 1"))  # SQLite's own full disk

    def write_too_much() -> None:
        with database.writing() as session:
            session.add_all(_invitation(number) for number in range(2, 2000))

    with pytest.raises(StorageError, match="full"):
        write_too_much()
    assert _count(database) == 1


def test_a_closed_database_waits_for_blocks_under_way_and_lets_no_later_one_make_files(
    tmp_path: Path,
) -> None:
    """A call of gRPC's outlives its server: it made a new journal beside files that were gone."""
    folder = tmp_path / "coordinator"
    folder.mkdir()
    database = Database.open(f"sqlite:///{folder / 'c.db'}")
    inside, leave, closed = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        with database.reading() as session:
            session.execute(text("select 1"))
            inside.set()
            leave.wait()

    def close() -> None:
        database.close()
        closed.set()

    threads = [threading.Thread(target=call), threading.Thread(target=close)]
    threads[0].start()
    inside.wait()
    threads[1].start()
    assert not closed.wait(0.1)
    leave.set()
    for thread in threads:
        thread.join()
    left = sorted(path.name for path in folder.iterdir())
    for block in (database.reading, database.writing):
        with pytest.raises(StorageError, match="is closed"), block() as session:
            session.execute(text("select 1"))
    assert sorted(path.name for path in folder.iterdir()) == left == ["c.db"]


def test_a_cut_connection_is_replaced_where_idle_and_named_where_in_use(postgres: Server) -> None:
    name = f"cut_{uuid.uuid4().hex}"
    database = Database.open(postgres.create(name))
    with database.writing() as session:
        session.add(_invitation(1))
    assert postgres.cut(name) > 0
    assert _count(database) == 1  # nobody notices

    def use(block: AbstractContextManager[Session]) -> None:
        with block as session:
            session.add(_invitation(2))
            session.flush()
            postgres.cut(name)
            session.execute(text("SELECT 1"))

    for block in (database.reading, database.writing):
        with pytest.raises(StorageError, match="refuses"):
            use(block())
        assert _count(database) == 1
    database.close()
