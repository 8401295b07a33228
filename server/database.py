"""The coordinator's database: SQLite beside it by default, PostgreSQL by URL.

Everything that must survive a kill of the coordinator is here and nothing of it elsewhere: members
and invitations (`presspool.server.membership.members`), tasks and updates
(`presspool.server.transport.mailbox`). Adapters lie in rows of bounded size, so that no message of
any size is ever held whole for the database.

Invariants:
    * What a `with database.writing() as session` block wrote is there whole or not at all, and is
      fsynced when the block is left.
    * A connection that was cut while it lay idle is replaced unseen; one that is cut within a block
      is a `StorageError`: of what the block wrote all is there or nothing, and whoever may say the
      same again does.
    * Once closed it stays closed: blocks under way end first, later ones are refused. A call of
      gRPC's outlives its server, and would open a new connection to a file that is gone.
    * A database of another PressPool is refused; one of an older is brought up to date by
      `presspool coordinator migrate` alone, so that nobody loses the way back by a start.

Example: `database = Database.open("sqlite:///coordinator.db")`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Session

from presspool.common.base.errors import InputError, StorageError
from presspool.common.base.extras import install

_MIGRATIONS = Path(__file__).parent / "migrations"
_WRITING = {"presspool_writing": True}
CONNECTIONS = 8  # kept open; calls of thirty outlets share four times as many
WAIT_SECONDS = 30.0  # for other processes' writes; a write takes milliseconds


class Base(DeclarativeBase):
    """Base of all tables."""


class Database:
    """An open database; sessions of many threads may use it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**_WRITING)
        self._blocks, self._closed = 0, False
        self._changed = threading.Condition()

    @classmethod
    def open(cls, url: str, *, migrate: bool = False) -> Self:
        """Open or create the database at a URL.

        Args:
            url: of the database.
            migrate: bring an older PressPool's database up to date.

        Raises:
            InputError: the URL is none, or its database cannot be reached or is of another version.
        """
        try:
            engine = create_engine(
                url,
                pool_size=CONNECTIONS,
                max_overflow=3 * CONNECTIONS,
                pool_pre_ping=not url.startswith("sqlite"),
            )
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, TypeError) as error:
            # The last for a database in memory, which has no pool and would outlive nothing.
            raise InputError(
                "database URL",
                got=str(error),
                expected="sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME",
                advice=f"for PostgreSQL: {install('postgres')}",
            ) from None
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _durable)
            event.listen(engine, "begin", _begin)
        try:
            _update(engine, migrate=migrate)
        except (OperationalError, CommandError) as error:
            cause = getattr(error, "orig", None) or error
            raise InputError(
                "cannot open the database",
                where=engine.url.render_as_string(),
                got=str(cause),
                advice="see that it runs and is not of a newer version",
            ) from None
        return cls(engine)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session whose changes are thrown away.

        Raises:
            StorageError: the connection is lost, or the database refuses.
        """
        with (
            self.refusing(),
            self._block(),
            Session(self._engine, expire_on_commit=False) as session,
        ):
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that is committed when the block is left, or rolled back when it raises.

        Raises:
            StorageError: the database refuses: disk full, gone, or locked for too long; or its
                connection is lost, and then the block may have been committed all the same.
        """
        with (
            self.refusing(),
            self._block(),
            Session(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @property
    def file(self) -> Path | None:
        """Where an embedded database lies; None for a server's."""
        url = self._engine.url
        return Path(str(url.database)) if url.get_backend_name() == "sqlite" else None

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Say what the database refuses in our words."""
        try:
            yield
        except DBAPIError as error:
            if not (isinstance(error, OperationalError) or error.connection_invalidated):
                raise  # a fault of ours
            raise StorageError(
                "the database refuses",
                where=self._engine.url.render_as_string(),
                got=str(error.orig),
                advice="make room or start it; nothing was half written",
            ) from None

    def connect(self) -> Connection:
        """A connection of the caller's own, outside all blocks; to be closed before this is."""
        return self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        """Give back all connections, when the blocks under way are over."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._blocks, timeout=WAIT_SECONDS)
        self._engine.dispose()

    @contextmanager
    def _block(self) -> Iterator[None]:
        with self._changed:
            if self._closed:
                raise StorageError(
                    "the database is closed",
                    where=self._engine.url.render_as_string(),
                    advice="the coordinator is stopping; ask again when it is back",
                )
            self._blocks += 1
        try:
            yield
        finally:
            with self._changed:
                self._blocks -= 1
                self._changed.notify_all()


def _update(engine: Engine, *, migrate: bool) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with engine.execution_options(**_WRITING).begin() as connection:
        config.attributes["connection"] = connection
        if not migrate:
            _require_current(engine, connection, ScriptDirectory.from_config(config))
        command.upgrade(config, "head")


def _require_current(engine: Engine, connection: Connection, known: ScriptDirectory) -> None:
    """Refuse an older PressPool's database; a new one, or a newer one, is not ours to judge."""
    there = MigrationContext.configure(connection).get_current_revision()
    older = {script.revision for script in known.walk_revisions()} - {known.get_current_head()}
    if there in older:
        raise InputError(
            "an older PressPool's database",
            where=engine.url.render_as_string(),
            expected=f"migration {known.get_current_head()}",
            got=there,
            advice="make a copy of it, which is the only way back; then: "
            "presspool coordinator migrate",
        )


def _durable(connection: sqlite3.Connection, _record: object) -> None:
    """SQLite as we want it: WAL, fsync at each commit, and transactions begun by us."""
    connection.isolation_level = None
    for pragma in (
        # For a new file only: chunks of 1 MiB take a third of the time that they take in 4 KiB.
        "page_size = 16384",
        # Debian's SQLite writes zeros over what is deleted. Updates are public by then (each left
        # its outlet with its noise), and a round would be written once more.
        "secure_delete = OFF",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        f"busy_timeout = {int(WAIT_SECONDS * 1000)}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    """Writers wait for the lock at their beginning, instead of failing in their middle."""
    writing = connection.get_execution_options().get("presspool_writing")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
