"""The registry's log: one file a record, each with a proof that it continues all before it.

A file `log/00000007.proof` is a C2SP tlog-proof: the record is its extra data, and its checkpoint,
signed by the registry's log key, is the head of the eight records so far. Appending is one write of
one name that was not there, so nothing is ever half-appended, and of two processes that append at
once one is told to look again.

Invariants:
    * The records read are exactly those under the last head, each signed as the head of its time:
      a changed, missing, swapped or added file is named.
    * What a log alone cannot show is that its last files were taken away; whoever kept a head can
      (`RegistryKeys.remember`, and `verify --head`).

Example: `log = StageLog.read(store, key)`; `log.append(record, signer)`; `log.shelves`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Self

from presspool.common.base.errors import BusyError, EvidenceError, RollbackError
from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import (
    Checkpoint,
    Proof,
    open_checkpoint,
    parse_proof,
)
from presspool.common.transparency.tree import Tree
from presspool.server.registry.object_store import ObjectStore
from presspool.server.registry.stage_records import Shelves, StageRecord, parse_record

FOLDER = "log"


def file_of(number: int) -> str:
    """Where a record lies."""
    return f"{FOLDER}/{number:08d}.proof"


@dataclass(frozen=True, kw_only=True)
class StageLog:
    """A log that was read and checked.

    Attributes:
        shelves: what its records come to.
        head: the last signed head; None for an empty log.
    """

    store: ObjectStore
    key: notes.VerifierKey
    tree: Tree
    shelves: Shelves
    head: notes.Note | None

    @classmethod
    def read(cls, store: ObjectStore, key: notes.VerifierKey) -> Self:
        """Read and check all of it.

        Raises:
            EvidenceError: a file that is damaged, missing, or not of this log; names it.
            StorageError: the store cannot be reached.
        """
        found = cls(store=store, key=key, tree=Tree(), shelves=Shelves(), head=None)
        for number, name in enumerate(store.names(FOLDER)):
            if name != file_of(number).removeprefix(f"{FOLDER}/"):
                raise EvidenceError(
                    "a file of the log is missing, or one too many is there",
                    entry=number,
                    where=f"{store.url} {FOLDER}/{name}",
                    expected=file_of(number),
                    got=name,
                )
            found = found._with(_read(store, number))
        return found

    def append(self, record: StageRecord, signer: notes.Signer) -> Self:
        """Write the next record; the log with it.

        Raises:
            EvidenceError: not a move that can be made now.
            BusyError: somebody else has written one since this log was read.
            StorageError: the store refuses.
        """
        body, size = record.canonical(), self.shelves.size
        tree = Tree(map(self.tree.leaf, range(size)))
        tree.extend([merkle.leaf_hash(body)])
        text = Checkpoint(origin=signer.key.name, size=size + 1, root=tree.root()).text
        proof = Proof(
            index=size,
            hashes=tree.prove_inclusion(size, size + 1),
            checkpoint=notes.Note(text=text).signed(signer.sign(text)),
            extra=body,
        )
        apart = Tree(map(self.tree.leaf, range(size)))  # what the store refuses moves nothing here
        longer = replace(self, tree=apart, shelves=copy.deepcopy(self.shelves))._with(proof)
        made = self.store.create(file_of(size), proof.encode())
        if not made and proof != _read(self.store, size):
            raise moved_meanwhile(self.store.url)  # else: put twice, as a lost answer was retried
        return longer

    def require_continues(self, seen: notes.Note, *, whose: str) -> None:
        """See that this log begins with what somebody has seen of it: a signed head.

        Raises:
            EvidenceError: no head of this log's key.
            RollbackError: it is shorter, or another.
        """
        head, _ = open_checkpoint(seen, log=self.key)
        if head.size > len(self.tree) or self.tree.root(head.size) != head.root:
            raise RollbackError(
                "the registry's log is not the one that was seen before, or has lost its end",
                where=self.store.url,
                expected=f"{whose} head of {head.size} records",
                got=f"{len(self.tree)} records",
                advice="bring the log's files back from a copy, and find out who took them away",
            )

    def _with(self, proof: Proof) -> Self:
        """This log and one record more, checked; tree and shelves are shared and move on."""
        number = len(self.tree)
        where = f"{self.store.url} {file_of(number)}"
        try:
            leaf = merkle.leaf_hash(proof.extra)
            proof.verify(leaf, log=self.key)
            self.tree.extend([leaf])
            head = Checkpoint.parse(proof.checkpoint.text)
            if (proof.index, head.size, head.root) != (number, number + 1, self.tree.root()):
                raise EvidenceError("a head of another log", expected=f"of {number + 1} records")
            self.shelves.take(parse_record(proof.extra))
        except EvidenceError as error:
            self.tree.shrink(number)
            parts = error.parts | {"where": error.where or where}
            raise EvidenceError(error.what, entry=number, **parts) from None
        return replace(self, head=proof.checkpoint)


def moved_meanwhile(url: str) -> BusyError:
    """What is raised where another process was quicker."""
    return BusyError(
        "somebody else has moved an adapter at this moment",
        where=url,
        advice="look at presspool adapters list, then type it again if it still holds",
    )


def _read(store: ObjectStore, number: int) -> Proof:
    name = file_of(number)
    try:
        return parse_proof(store.read(name, most=notes.LARGEST_NOTE))
    except EvidenceError as error:
        parts = error.parts | {"where": error.where or f"{store.url} {name}"}
        raise EvidenceError(error.what, entry=number, **parts) from None
