"""An open log: its entries replayed into a book, its heads signed and cosigned.

What `store.Ledger` stands on: how entries get in and how they are looked at again. Which entries
an outlet writes, and when, is decided there.

Invariants:
    * The entries are the only truth: opening replays them all and compares the stored tree.
    * Every write first reads what other processes have written, in the same transaction.
    * A file that was replaced under an open handle, or that contradicts a head, is not written to.
    * For one size there is one signed head.

Example:
    >>> import tempfile
    >>> Log(Path(tempfile.mkdtemp()) / "ledger.db")
    Traceback (most recent call last):
    ...
    presspool.common.base.errors.LedgerError: ...ledger.db: no ledger:
      expected a ledger's file
      got      nothing
      to do    create a ledger, or restore the right file
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from presspool.common.base.errors import EvidenceError, LedgerError, RollbackError
from presspool.common.ledger import entries
from presspool.common.ledger.ledger_state import LedgerState
from presspool.common.ledger.restored_entries import leaf_of
from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import Checkpoint
from presspool.common.transparency.log_database import LogDatabase, go_on

E = TypeVar("E", bound=entries.Entry)
_ALL = 2**62  # entries: more than there can be


def utc_today() -> date:
    """The day that entries get."""
    return datetime.now(UTC).date()


class Log:
    """An open log; a handle belongs to one thread, any number of handles may be open.

    Args:
        path: an existing log.
        today: gives the day of new entries (never earlier than the last entry's).
        step: the seam of `LogDatabase` for tests.

    Attributes:
        book: the state after the last entry that this handle has read or written.

    Raises:
        LedgerError: no log there.
        EvidenceError: its entries or its tree are damaged; names the first bad entry.
        StorageError: the file cannot be read.
    """

    def __init__(
        self,
        path: Path,
        *,
        today: Callable[[], date] = utc_today,
        step: Callable[[str], None] = go_on,
    ) -> None:
        self._start(LogDatabase(path, step=step), today)
        try:
            with self._database.reading():
                self._catch_up()
                self._check_tree()
            _ = self.book.opened  # an interrupted creation is no ledger yet
        except BaseException:
            self.close()
            raise

    def checkpoint(self, signer: notes.Signer) -> notes.Note:
        """The ledger's signed head as it is now, with the cosignatures it has.

        Raises:
            LedgerError: another key signs this ledger.
        """
        with self._database.writing():
            self._catch_up()
            if signer.key.text != self.book.key:
                raise LedgerError("signing key", expected=self.book.key, got=signer.key.text)
            kept = self._database.note(self.book.size)
            if kept is not None:
                return notes.parse_note(kept)
            text = self.head().text
            note = notes.Note(text=text).signed(signer.sign(text))
            self._database.keep_note(self.book.size, note.encode())
        return note

    def cosign(self, note: notes.Note, *, witnesses: Iterable[notes.VerifierKey]) -> notes.Note:
        """Add the cosignatures of known witnesses to the kept checkpoint of that size.

        Raises:
            EvidenceError: none of them, or one that does not verify.
            LedgerError: not a checkpoint that this ledger signed.
        """
        found = notes.verified(note, [k for k in witnesses if k.kind == notes.COSIGNATURE])
        size = Checkpoint.parse(note.text).size
        with self._database.writing():
            data = self._database.note(size)
            kept = notes.parse_note(data) if data is not None else None
            if kept is None or kept.text != note.text:
                raise LedgerError("checkpoint", expected="one that this ledger signed")
            merged = kept.signed(*found)
            self._database.keep_note(size, merged.encode())
        return merged

    def checkpoints(self) -> list[notes.Note]:
        """All signed checkpoints, the smallest first."""
        return [notes.parse_note(data) for data in self._database.notes()]

    def newest_checkpoint(self) -> tuple[notes.Note | None, int]:
        """The last of `checkpoints`, without reading the others, and how many there are."""
        data, count = self._database.newest_note()
        return (None if data is None else notes.parse_note(data)), count

    def head(self) -> Checkpoint:
        """Size and root of what this handle has read, unsigned."""
        origin = self.book.opened.origin
        return Checkpoint(origin=origin, size=self.book.size, root=self._edge.root())

    def root(self, size: int) -> bytes:
        """The root of the first `size` entries."""
        return self._database.root(size)

    def compare(self, head: Checkpoint) -> None:
        """Raise `RollbackError` unless this ledger begins with the one that `head` describes."""
        self.refresh()
        self._compare(head)

    def bodies(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of entries `start` to `stop` - 1."""
        return self._database.bodies(start, stop)

    def prove_inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """RFC 6962 proof that entry `index` is among the first `size`."""
        return merkle.inclusion_proof(index, size, self._database.node)

    def prove_consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """RFC 6962 proof that the first `new` entries begin with the first `old`."""
        return merkle.consistency_proof(old, new, self._database.node)

    def refresh(self) -> LedgerState:
        """The state after everything that any process has written."""
        self._catch_up()
        return self.book

    def close(self) -> None:
        """Close the file; the handle is of no use afterwards."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, database: LogDatabase, today: Callable[[], date]) -> None:
        self._database, self._today = database, today
        self.book, self._edge, self._last = LedgerState(), merkle.Frontier(), b""

    def _next(self, kind: type[E], **parts: Any) -> E:
        """The next entry of this kind; the clock never runs backwards."""
        day = max(self.book.day, self._today().isoformat())
        return entries.build(kind, seq=self.book.size, day=day, **parts)

    def _write(self, make: Callable[[], E]) -> E:
        """Write one entry, made and checked after everything that others have written."""
        with self._database.writing():
            self._catch_up()
            entry = make()
            self.book.check(entry)
            body = entry.canonical()
            self._database.append(entry.seq, body, leaf=leaf_of(body))
        self._take(body)
        return entry

    def _catch_up(self) -> None:
        """Replay what other processes have written since, after what we know is still there."""
        known = self.book.size
        rows = self._database.bodies(max(known - 1, 0), _ALL)
        if known and leaf_of(next(rows, b"")) != self._last:
            raise RollbackError(
                "the ledger's file was replaced while it was open",
                where=str(self._database.path),
                expected=f"entry {known - 1} as it was",
                advice="restore the newest copy",
            )
        for body in rows:
            self._take(body)

    def _take(self, body: bytes) -> None:
        index = self.book.size
        try:
            self.book.apply(entries.parse_entry(body))
        except (EvidenceError, LedgerError) as error:
            raise EvidenceError(
                "the ledger is damaged",
                where=f"{self._database.path}, entry {index}",
                entry=index,
                got=error,
                advice="restore the newest copy",
            ) from error
        self._last = leaf_of(body)
        self._edge.append(self._last)

    def _check_tree(self) -> None:
        """The stored nodes are those of the entries: as many, and with their root."""
        size, database = self.book.size, self._database
        right = 2 * size - size.bit_count()
        if database.node_count() != right or database.root(size) != self._edge.root():
            raise EvidenceError(
                "the stored tree is not that of the entries",
                where=str(database.path),
                expected=f"the tree of {size} entries",
                advice="restore the newest copy",
            )

    def _compare(self, head: Checkpoint) -> None:
        if head.origin != self.book.opened.origin:
            raise LedgerError("origin of head", expected=self.book.opened.origin, got=head.origin)
        older = self.book.size < head.size
        if older or self._database.root(head.size) != head.root:
            raise RollbackError(
                "this ledger is older than a head that it once had"
                if older
                else "this ledger has another history than a head that it once had",
                where=str(self._database.path),
                expected=f"at least {head.size} entries, and root {head.root.hex()} at that size",
                got=f"{self.book.size} entries",
                advice="restore the newest copy; nothing is reserved from this one. Where there is "
                "none, pay for what is lost: presspool outlet budget restored",
            )
