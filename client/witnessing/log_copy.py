"""The consortium log as this outlet has read it, entry by entry, before its witness cosigns.

A consistency proof says that a log has only grown, not that its entries make sense. So the entries
are fetched, hashed and read: they must lead to the very head that the coordinator signed, begin
with the head that was cosigned before, and tell of each round once.

Invariants:
    * Entries are counted as well as weighed: an empty one costs some hundred bytes of memory.
    * Nothing is kept that does not hash to a head that the coordinator signed.
    * What contradicts itself under that signature is proof against the coordinator, and raised as
      such; anything else is an unproven request, and only not cosigned.

Example: ``copy.follow(note, held=heads.read(log.name), fetch=link.entries)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from presspool.common.base.errors import EvidenceError
from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import Checkpoint, Proof, open_checkpoint
from presspool.common.transparency.consortium_entries import Entry, Rounds, parse_entry
from presspool.common.transparency.tree import Tree

Fetch = Callable[[int], Sequence[bytes]]
"""Gives some entries from an index on; none where there are none."""
MOST_BYTES = 1 << 26  # of all entries: a hundred thousand of them
MOST_ENTRIES = 1 << 17


class ContradictionError(EvidenceError):
    """The coordinator signed something that cannot be true.

    Attributes:
        evidence: what proves it to anybody who has the log's key.
    """

    def __init__(self, what: str, **evidence: Any) -> None:
        self.evidence = evidence
        super().__init__(what)


class LogCopy:
    """The entries read so far; of one thread.

    Args:
        log: the consortium log's key.
    """

    def __init__(self, log: notes.VerifierKey) -> None:
        self._log = log
        self._forget()

    def __len__(self) -> int:
        return len(self._entries)

    def last(self, contract: str) -> int:
        """The newest round of a contract that the entries tell of, -1 for none; from any thread."""
        return self._rounds.last(contract)

    def of(self, contract: str) -> list[Entry]:
        """The entries of a contract, by round."""
        found = map(parse_entry, self._entries)
        return [entry for entry in found if entry.contract == contract]

    def root(self, size: int) -> bytes:
        """The root of the first `size` entries."""
        return self._tree.root(size)

    def leaves(self, size: int) -> list[str]:
        """The hashes of the first `size` entries, in hex."""
        return [self._tree.leaf(index).hex() for index in range(size)]

    def follow(self, note: notes.Note, *, held: notes.Note | None, fetch: Fetch) -> None:
        """Read the entries up to a head.

        Args:
            note: the head that the coordinator wants cosigned.
            held: the head that was cosigned before.
            fetch: asks the coordinator for entries.

        Raises:
            EvidenceError: the head is not signed, or the entries do not lead to it.
            ContradictionError: they do, and contradict themselves or the head held.
        """
        head, _ = open_checkpoint(note, log=self._log)
        if head.size > MOST_ENTRIES:
            raise EvidenceError("size of the log", expected=f"at most {MOST_ENTRIES}")
        known = len(self)
        self._read_to(head.size, fetch)
        if self._tree.root(head.size) != head.root and known:
            self._forget()  # another history may lead there, and then the two are proof
            self._read_to(head.size, fetch)
        if self._tree.root(head.size) != head.root:
            self._forget()
            raise EvidenceError("the entries do not lead to the head", expected=head.root.hex())
        self._check_held(note, head, held)
        self._check_rounds(note, head)

    def _read_to(self, size: int, fetch: Fetch) -> None:
        while len(self._entries) < size:
            found = fetch(len(self._entries))[: size - len(self._entries)]
            if not found:
                raise EvidenceError("entries of the log", expected=size, got=len(self._entries))
            self._bytes += sum(map(len, found))
            if self._bytes > MOST_BYTES:
                raise EvidenceError("entries of the log", expected=f"at most {MOST_BYTES} bytes")
            self._entries += found
            self._tree.extend(map(merkle.leaf_hash, found))

    def _check_held(self, note: notes.Note, head: Checkpoint, held: notes.Note | None) -> None:
        before = Checkpoint.parse(held.text) if held else None
        if held is None or before is None or before.size > head.size:
            return
        if self._tree.root(before.size) != before.root:
            leaves = self.leaves(head.size)
            self._forget()
            raise ContradictionError(
                "a head that does not continue the one before",
                heads=[held.encode().decode(), note.encode().decode()],
                leaves=leaves,
            )

    def _check_rounds(self, note: notes.Note, head: Checkpoint) -> None:
        """Take the entries that are new into the account of rounds."""
        for index in range(self._rounds.size, head.size):
            body = self._entries[index]
            try:
                self._rounds.take(parse_entry(body))
            except EvidenceError as error:
                wrong = [self._proven(at, note, head) for at in (*self._earlier(body), index)]
                self._forget()
                raise ContradictionError(error.what, proofs=wrong) from None

    def _earlier(self, body: bytes) -> list[int]:
        """Index of the entry that made this one wrong; none where it is no entry at all."""
        try:
            contract = parse_entry(body).contract
        except EvidenceError:
            return []
        read = range(self._rounds.size)
        return [at for at in read if parse_entry(self._entries[at]).contract == contract][-1:]

    def _proven(self, index: int, note: notes.Note, head: Checkpoint) -> str:
        hashes = self._tree.prove_inclusion(index, head.size)
        entry = self._entries[index]
        proof = Proof(index=index, hashes=hashes, checkpoint=note, extra=entry)
        return proof.encode().decode()

    def _forget(self) -> None:
        self._entries: list[bytes] = []
        self._bytes = 0
        self._tree, self._rounds = Tree(), Rounds()
