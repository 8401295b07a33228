"""The coordinator's consortium log: cohort, contract and the adapter after every round.

Invariants:
    * An entry is in the database before anybody sees a head of that size, and for one round of one
      contract there is one entry: the same said twice changes nothing, something else is an error.
    * Heads are made from the entries and the log's key and are kept nowhere: Ed25519 signs the same
      text always alike, so a kill at any moment leaves one head for each size.

Example: `Consortium(database, folder.log).commit(entry)`, before round `entry.round + 1`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from sqlalchemy import select

from presspool.common.base.errors import EvidenceError, LedgerError
from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import Checkpoint
from presspool.common.transparency.consortium_entries import Entry, Rounds, parse_entry
from presspool.common.transparency.tree import Tree
from presspool.common.transparency.witness import Request
from presspool.server.database import Database
from presspool.server.witnessing.witness_schema import ConsortiumRow

_PAGE = 1000  # entries read at a time
_LARGEST = 2**31 - 1  # that a column of PostgreSQL holds


class Consortium:
    """The log; any number of threads of the one coordinator may use it.

    Args:
        database: where its entries are.
        signer: the coordinator's log key.

    Raises:
        EvidenceError: an entry in the database is damaged.
    """

    def __init__(self, database: Database, signer: notes.Signer) -> None:
        self._database, self._signer = database, signer
        self._lock = threading.Lock()
        self._tree, self._rounds = Tree(), Rounds()
        with self._lock:
            self._catch_up()

    @property
    def key(self) -> notes.VerifierKey:
        """Who signs this log."""
        return self._signer.key

    @property
    def size(self) -> int:
        """Entries so far."""
        return len(self._tree)

    def commit(self, entry: Entry) -> int:
        """Append an entry, durably, unless it is there; its index.

        Raises:
            LedgerError: the log says something else of this round, or knows a later one.
            StorageError: the database refuses.
        """
        body = entry.canonical()
        with self._lock:
            self._catch_up()  # what an earlier commit wrote though it was told of an error
            known = self._find(entry.contract, entry.round)
            if known is None:
                self._check(entry)
                row = ConsortiumRow(
                    number=self.size, contract=entry.contract, round=entry.round, body=body
                )
                with self._database.writing() as session:
                    session.add(row)
                self._take(body)
                return self.size - 1
        if known[1] != body:
            raise _other(entry, got=known[1].decode())
        return known[0]

    def find(self, contract: str, number: int) -> tuple[int, bytes] | None:
        """Index and bytes of a round's entry, if the log has it."""
        found = self._find(contract, number) if number <= _LARGEST else None
        return found if found is not None and found[0] < self.size else None

    def entries(self, start: int, *, most: int) -> list[bytes]:
        """Entries from an index on, up to `most` bytes, at least one where there is one."""
        found: list[bytes] = []
        for body in self._bodies(start, self.size):
            most -= len(body)
            if found and most < 0:
                break
            found.append(body)
        return found

    def head(self, size: int) -> notes.Note:
        """The signed head of the first `size` entries."""
        with self._lock:
            root = self._tree.root(size)
        text = Checkpoint(origin=self.key.name, size=size, root=root).text
        return notes.Note(text=text).signed(self._signer.sign(text))

    def request(self, old: int) -> Request:
        """What a witness that holds the head of `old` entries is asked to cosign."""
        with self._lock:
            size = self.size
            proof = self._tree.prove_consistency(old, size)
        return Request(old=old, proof=proof, checkpoint=self.head(size))

    def prove_inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """RFC 6962 proof that entry `index` is among the first `size`."""
        with self._lock:
            return self._tree.prove_inclusion(index, size)

    def _check(self, entry: Entry) -> None:
        try:
            self._rounds.check(entry)
        except EvidenceError as error:
            raise _other(entry, got=error.expected) from None

    def _catch_up(self) -> None:
        for body in self._bodies(self.size, None):
            self._take(body)

    def _take(self, body: bytes) -> None:
        self._rounds.take(parse_entry(body))
        self._tree.extend([merkle.leaf_hash(body)])

    def _find(self, contract: str, number: int) -> tuple[int, bytes] | None:
        wanted = select(ConsortiumRow).where(
            ConsortiumRow.contract == contract, ConsortiumRow.round == number
        )
        with self._database.reading() as session:
            row = session.scalars(wanted).one_or_none()
            return (row.number, row.body) if row else None

    def _bodies(self, start: int, stop: int | None) -> Iterator[bytes]:
        """The bytes of entries `start` to `stop` - 1, or to the last."""
        while stop is None or start < stop:
            end = start + _PAGE if stop is None else min(stop, start + _PAGE)
            wanted = (
                select(ConsortiumRow.body)
                .where(ConsortiumRow.number >= start, ConsortiumRow.number < end)
                .order_by(ConsortiumRow.number)
            )
            with self._database.reading() as session:
                rows = session.scalars(wanted).all()
            yield from rows
            if len(rows) < end - start:
                return
            start = end


def _other(entry: Entry, *, got: object) -> LedgerError:
    return LedgerError(
        "the consortium log says something else of this round",
        where=f"round {entry.round} of {entry.contract}",
        expected=entry.canonical().decode(),
        got=got,
        advice="a run's folder and the database must not come from different backups",
    )
