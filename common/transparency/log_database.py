"""An append-only log of byte strings in one SQLite file, with the nodes of its Merkle tree.

Knows nothing of budgets: entries go in as bytes and come out as they went in.

Invariants:
    * Nothing committed is ever lost: WAL with `synchronous=FULL`, entry and tree nodes in one
      transaction, which other processes wait for.
    * A write that failed (disk full, kill, power) is there whole or not at all.
    * Entries and nodes are never changed or deleted; SQLite itself refuses to.

Example:
    >>> import tempfile
    >>> log = LogDatabase(Path(tempfile.mkdtemp()) / "log.db", create=True)
    >>> with log.writing():
    ...     log.append(0, b"an entry")
    >>> list(log.bodies(0, 1)), log.root(1) == merkle.leaf_hash(b"an entry")
    ([b'an entry'], True)
    >>> log.close()
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from presspool.common.base.errors import EvidenceError, LedgerBusyError, LedgerError, StorageError
from presspool.common.transparency import merkle

STEPS = ("begin", "locked", "entry", "nodes", "commit", "committed")
"""Where a write can be interrupted; tests stop it at each."""
WAIT_SECONDS = 60.0  # for other processes; a write takes milliseconds
_APPLICATION_ID = 0x50504C31  # "PPL1"
_SCHEMA = (
    f"PRAGMA application_id = {_APPLICATION_ID}",
    "CREATE TABLE entries (seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT",
    "CREATE TABLE nodes (level INTEGER NOT NULL, position INTEGER NOT NULL,"
    " hash BLOB NOT NULL, PRIMARY KEY (level, position)) STRICT, WITHOUT ROWID",
    "CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, note BLOB NOT NULL) STRICT",
    *(
        f"CREATE TRIGGER {table}_{verb} BEFORE {verb} ON {table}"
        " BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END"
        for table in ("entries", "nodes")
        for verb in ("update", "delete")
    ),
)


def go_on(step: str) -> None:
    """The seam at which tests interrupt a write; does nothing."""


class LogDatabase:
    """One open file. A handle belongs to one thread; any number of handles may be open.

    Args:
        path: the file.
        create: make it, or complete a creation that was interrupted, instead of opening it.
        step: called with each of `STEPS` as a write passes it.

    Raises:
        LedgerError: nothing there, or something else.
        StorageError: the disk refuses.
    """

    def __init__(
        self, path: Path, *, create: bool = False, step: Callable[[str], None] = go_on
    ) -> None:
        self.path, self._step = path, step
        self._prepare(create)
        with self._translated():
            self._db = sqlite3.connect(
                f"file:{quote(str(path.absolute()))}?mode=rw",
                uri=True,
                isolation_level=None,
                timeout=WAIT_SECONDS,
            )
        try:
            self._configure(create)
        except BaseException:
            self.close()
            raise

    def _prepare(self, create: bool) -> None:
        """The file exists and is its owner's alone before anything is written to it."""
        if create:
            try:
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            except OSError as error:
                raise StorageError(
                    "cannot write",
                    where=str(self.path),
                    got=error.strerror,
                    advice="make room or fix the permissions, then try again",
                ) from None
        elif not self.path.is_file():
            raise self._not_a_ledger("nothing")

    def _configure(self, create: bool) -> None:
        """Look first, change afterwards: another program's file is left as it is."""
        with self._translated():
            empty = self._scalar("SELECT count(*) FROM sqlite_schema") == 0
            if self._scalar("PRAGMA application_id") != (0 if empty else _APPLICATION_ID) or (
                empty and not create
            ):
                raise self._not_a_ledger("another file")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
        if empty:
            with self.writing():
                if self._scalar("SELECT count(*) FROM sqlite_schema") == 0:
                    for statement in _SCHEMA:
                        self._db.execute(statement)

    def close(self) -> None:
        """Close the file; the handle is of no use afterwards."""
        self._db.close()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction, alone among all processes; durable when the block is left.

        Raises:
            LedgerError: another process keeps the file locked.
            StorageError: the disk refuses. Should the entry be durable all the same, it is read
                at the next write.
        """
        with self._translated():
            self._step("begin")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._step("locked")
                yield
                self._step("commit")
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back itself
                    self._db.execute("ROLLBACK")
                raise
            self._step("committed")

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """One view of the file for all reads in the block, whatever others write meanwhile."""
        with self._translated():
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("ROLLBACK")

    def append(self, seq: int, body: bytes, *, leaf: bytes | None = None) -> None:
        """Add entry `seq` and the nodes it completes; only inside `writing`.

        Args:
            seq: its place.
            body: its bytes.
            leaf: its leaf hash, where that is not the hash of these bytes.
        """
        nodes = merkle.new_nodes(seq, leaf or merkle.leaf_hash(body), self.node)
        self._db.execute("INSERT INTO entries VALUES (?, ?)", (seq, body))
        self._step("entry")
        self._db.executemany(
            "INSERT INTO nodes VALUES (?, ?, ?)", [(*at, value) for at, value in nodes.items()]
        )
        self._step("nodes")

    def bodies(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of entries `start` to `stop` - 1, as many as there are."""
        with self._translated():
            rows = self._db.execute(
                "SELECT seq, body FROM entries WHERE seq >= ? AND seq < ? ORDER BY seq",
                (start, stop),
            )
            for expected, (seq, body) in enumerate(rows, start):
                if seq != expected:
                    raise EvidenceError("entry is missing", where=str(self.path), entry=expected)
                yield self._whole(body, f"entry {seq}", entry=seq)

    def node(self, level: int, position: int) -> bytes:
        """A stored node of the tree."""
        with self._translated():
            row = self._db.execute(
                "SELECT hash FROM nodes WHERE level = ? AND position = ?", (level, position)
            ).fetchone()
        if row is None:
            raise EvidenceError(
                "tree node is missing", where=str(self.path), got=f"level {level}, {position}"
            )
        return self._whole(row[0], f"tree node {level}, {position}")

    def root(self, size: int) -> bytes:
        """The root of the first `size` entries, from the stored nodes."""
        return merkle.root(size, self.node)

    def node_count(self) -> int:
        """How many nodes are stored: 2n less the number of set bits of n, for n entries."""
        with self._translated():
            return self._scalar("SELECT count(*) FROM nodes")

    def note(self, size: int) -> bytes | None:
        """The kept checkpoint of that size."""
        with self._translated():
            row = self._db.execute(
                "SELECT note FROM checkpoints WHERE size = ?", (size,)
            ).fetchone()
        return self._whole(row[0], f"head of {size} entries") if row else None

    def keep_note(self, size: int, note: bytes) -> None:
        """Keep a checkpoint; only inside `writing`."""
        self._db.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?)", (size, note))

    def notes(self) -> list[bytes]:
        """All kept checkpoints, the smallest size first."""
        with self._translated():
            rows = self._db.execute("SELECT size, note FROM checkpoints ORDER BY size").fetchall()
        return [self._whole(note, f"head of {size} entries") for size, note in rows]

    def _whole(self, value: object, what: str, *, entry: int | None = None) -> bytes:
        """A stored value; one that is no bytes got past SQLite's own schema: a damaged page."""
        if isinstance(value, bytes):
            return value
        raise EvidenceError(
            "the ledger is damaged",
            where=f"{self.path}, {what}",
            entry=entry,
            expected="bytes",
            got="nothing" if value is None else type(value).__name__,
            advice="restore the newest copy; it is compared with the witnessed head",
        )

    def newest_note(self) -> tuple[bytes | None, int]:
        """The kept checkpoint of the greatest size, and how many are kept."""
        with self._translated():
            newest = self._db.execute("SELECT note FROM checkpoints ORDER BY size DESC LIMIT 1")
            row = newest.fetchone()
            count = self._scalar("SELECT count(*) FROM checkpoints")
        return (self._whole(row[0], "newest head") if row else None), count

    def _scalar(self, query: str) -> int:
        number: int = self._db.execute(query).fetchone()[0]
        return number

    def _not_a_ledger(self, got: str) -> LedgerError:
        return LedgerError(
            "no ledger",
            where=str(self.path),
            got=got,
            expected="a ledger's file",
            advice="create a ledger, or restore the right file",
        )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """SQLite's errors as ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise LedgerBusyError(
                    "another process keeps the ledger locked",
                    where=str(self.path),
                    advice="end that process, or wait for it",
                ) from error
            raise StorageError(
                "the ledger cannot be read or written",
                where=str(self.path),
                got=error,
                advice="make room or fix the disk; what was written before is whole",
            ) from error
        except sqlite3.DatabaseError as error:
            raise EvidenceError(
                "the ledger's file is damaged",
                where=str(self.path),
                got=error,
                advice="restore the newest copy; it is compared with the witnessed head",
            ) from error
