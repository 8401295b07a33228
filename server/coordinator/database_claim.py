"""One coordinator for each database: a lock that lives as long as its holder.

A PostgreSQL server holds it as an advisory lock of a connection of its own; beside an embedded
database it is a lock file. Either goes with the process that has it, however that ends.

Invariants:
    * Whoever holds the claim is the only one that works on the database's runs.
    * A claim whose connection was cut is taken anew before anything else is done; as long as that
      fails, because somebody else was faster or the server has not noticed the cut yet, no run is
      worked on.

Example: `claim = DatabaseClaim(database)`, then `claim.hold()` before each thing that is done.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import Connection, text

from presspool.common.base.errors import FolderError, StorageError
from presspool.common.base.locks import locked
from presspool.server.database import Database

_KEY = 0x7072657373706F6F  # "presspoo", read as a number: the lock's name in its database


class DatabaseClaim:
    """The claim on a database.

    Args:
        database: that is claimed.

    Raises:
        FolderError: another coordinator works on it.
        StorageError: it cannot be asked.
    """

    def __init__(self, database: Database) -> None:
        self._database, self._stack = database, ExitStack()
        self._connection: Connection | None = None
        if (file := database.file) is not None:
            lock = Path(f"{file}.lock")
            self._stack.enter_context(locked(lock, busy=_busy(str(file))))
        elif not self._take():
            self.release()
            raise _busy("the database of coordinator.toml")

    def hold(self) -> None:
        """Return if the claim is held, or can be taken again.

        Raises:
            StorageError: it is lost, and somebody else may have it.
        """
        if self._database.file is None and not self._held() and not self._take():
            raise StorageError(
                "this coordinator lost its claim on the database",
                expected="no other coordinator on it",
                advice="stop the other one; if there is none the server lets go in a moment",
            )

    def release(self) -> None:
        """Let go."""
        self._stack.close()
        self._hang_up()

    def _held(self) -> bool:
        """Whether the connection that has the lock still lives."""
        if self._connection is None:
            return False
        try:
            with self._database.refusing():
                self._connection.execute(text("SELECT 1"))
        except StorageError:
            self._hang_up()
            return False
        return True

    def _take(self) -> bool:
        """Try to get the lock; it is not waited for."""
        asked, got = text("SELECT pg_try_advisory_lock(:key)"), False
        try:
            with self._database.refusing():
                self._connection = self._database.connect()
                got = bool(self._connection.execute(asked, {"key": _KEY}).scalar_one())
        finally:
            if not got:  # cut while it asked, too: a connection without the lock is never kept
                self._hang_up()
        return got

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()  # back in the pool it would keep the lock
            self._connection.close()
            self._connection = None


def _busy(where: str) -> FolderError:
    return FolderError(
        "another coordinator works on this database",
        where=where,
        expected="one coordinator for each database",
        advice="stop the other one, on whatever machine it is",
    )
