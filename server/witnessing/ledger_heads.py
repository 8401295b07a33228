"""Members' ledgers, as far as the coordinator knows them: leaf hashes and signed heads.

Invariants:
    * Only heads that the ledger's own key signed, and whose root is that of the leaf hashes, are
      kept; of one ledger they are of one history.
    * A leaf hash is all that is known of an entry, and three lines are all that is kept of a head:
      ledgers sign no further ones.
    * A head is far smaller than a request that carries it may be (`LARGEST_HEAD`): none that is
      kept, or was kept by an older version, is ever passed on in a form that nobody can read.
    * A wrong root costs its own leaves and nothing that was known before.

Example: `heads.publish(peer.log, start=0, leaves=hashes, note=checkpoint)`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from sqlalchemy import select

from presspool.common.base.errors import EvidenceError
from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import open_checkpoint
from presspool.common.transparency.tree import Tree
from presspool.common.transparency.witness import Request
from presspool.server.database import Database
from presspool.server.witnessing.witness_schema import HeadRow, LeavesRow

MOST_LEAVES = 1 << 17  # of one ledger, all of which are held in memory
LARGEST_HEAD = 1024  # bytes; names of 255 bytes need 700


class LedgerHeads:
    """The newest heads of all members; any number of threads of the one coordinator may use it."""

    def __init__(self, database: Database) -> None:
        self._database, self._lock = database, threading.Lock()
        self._trees: dict[str, Tree] = {}

    def size(self, log: notes.VerifierKey) -> int:
        """Entries of a ledger's newest head; 0 for none."""
        with self._lock:
            return len(self._tree(log))

    def head(self, log: notes.VerifierKey, size: int) -> notes.Note | None:
        """A head that was published."""
        if not 0 < size <= MOST_LEAVES:
            return None
        with self._database.reading() as session:
            row = session.get(HeadRow, (log.text, size))
        return notes.parse_note(row.note) if row else None

    def leaves(self, log: notes.VerifierKey, start: int, *, most: int) -> list[bytes]:
        """The hashes of a ledger's entries from `start` on, as far as its newest head."""
        with self._lock:
            tree = self._tree(log)
            return [tree.leaf(index) for index in range(start, min(len(tree), start + most))]

    def publish(
        self, log: notes.VerifierKey, *, start: int, leaves: Sequence[bytes], note: notes.Note
    ) -> int:
        """Take a ledger's newest head with the hashes of its entries from `start` on.

        Returns:
            The ledger's size as it is known now: another than the head's where `start` is not the
            end of what is known; nothing was taken then.

        Raises:
            EvidenceError: not signed by the ledger's key, or not the head of these leaves.
            StorageError: the database refuses.
        """
        head, _ = open_checkpoint(note, log=log)
        own = next(s for s in note.signatures if (s.name, s.key_id) == (log.name, log.id))
        _require_small(log, notes.Note(text=note.text, signatures=(own,)))
        if head.size != start + len(leaves) or head.size > MOST_LEAVES:
            raise EvidenceError("size of the head", expected=start + len(leaves), got=head.size)
        if head.extensions:
            raise EvidenceError("lines of the head", expected=3, got=3 + len(head.extensions))
        with self._lock:
            tree = self._tree(log)
            if start != len(tree):
                return len(tree)
            tree.extend(leaves)
            if (root := tree.root()) != head.root:
                tree.shrink(start)
                raise EvidenceError("root of the head", expected=root.hex())
            del self._trees[log.text]  # what the database refuses is read from it again
            if leaves:
                self._store(log, start, leaves, notes.Note(text=note.text, signatures=(own,)))
            self._trees[log.text] = tree
            return head.size

    def request(self, log: notes.VerifierKey, old: int) -> Request | None:
        """What a witness that holds the head of `old` entries is asked to cosign, if anything.

        Raises:
            EvidenceError: an older version took a head that is too large to be passed on.
        """
        with self._lock:
            size = len(self._tree(log))
            proof = self._tree(log).prove_consistency(old, size) if old <= size else ()
        note = self.head(log, size)
        if note is not None:
            _require_small(log, note)
        return Request(old=old, proof=proof, checkpoint=note) if note and old <= size else None

    def _store(
        self, log: notes.VerifierKey, start: int, leaves: Iterable[bytes], note: notes.Note
    ) -> None:
        hashes = b"".join(leaves)
        size = start + len(hashes) // merkle.HASH_BYTES
        with self._database.writing() as session:
            session.add(LeavesRow(log=log.text, start=start, hashes=hashes))
            session.add(HeadRow(log=log.text, size=size, note=note.encode()))

    def _tree(self, log: notes.VerifierKey) -> Tree:
        if log.text not in self._trees:
            wanted = select(LeavesRow).where(LeavesRow.log == log.text).order_by(LeavesRow.start)
            with self._database.reading() as session:
                rows = session.scalars(wanted).all()
            self._trees[log.text] = Tree(leaf for row in rows for leaf in split_leaves(row.hashes))
        return self._trees[log.text]


def _require_small(log: notes.VerifierKey, note: notes.Note) -> None:
    size = len(note.encode())
    if size > LARGEST_HEAD:
        raise EvidenceError(
            "a ledger's head is too large",
            where=log.name,
            expected=f"at most {LARGEST_HEAD} bytes",
            got=size,
        )


def split_leaves(hashes: bytes) -> list[bytes]:
    """The single hashes; raises `EvidenceError` for a broken one."""
    if len(hashes) % merkle.HASH_BYTES:
        raise EvidenceError("leaf hashes", expected=f"{merkle.HASH_BYTES} bytes each")
    step = merkle.HASH_BYTES
    return [hashes[at : at + step] for at in range(0, len(hashes), step)]
