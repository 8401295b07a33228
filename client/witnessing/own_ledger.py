"""The outlet's own ledger, as its witness's thread sees it: what the pool has of it, and its heads.

Invariants:
    * Which head the pool has is learnt before anything is published, and the highest is kept: a
      ledger that was restored from an older copy is found here, and nothing of it is published.
    * The file's handle belongs to this thread alone, and is opened when it is first needed.

Example: `with OwnLedger(identity, path, link, asked=…, every=30.0) as own: own.publish_if_due([])`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from presspool.client.identity.identity import Identity
from presspool.client.witnessing.witness_client import WitnessClient
from presspool.client.witnessing.witness_folder import WitnessFolder
from presspool.common.base.errors import LedgerError, RollbackError
from presspool.common.ledger.restored_entries import leaf_of
from presspool.common.ledger.store import Ledger
from presspool.common.transparency import notes
from presspool.common.transparency.checkpoints import Checkpoint, open_checkpoint
from presspool.common.wire.peers import PeerKeys


class OwnLedger:
    """The ledger's handle of one thread, and its duties towards the pool.

    Args:
        identity: the outlet.
        path: the ledger's file.
        link: to the coordinator.
        asked: called when the pool has said which head of it it has, or will never have one.
        every: seconds between two looks; a fixed beat, so that when a head appears tells little.
    """

    def __init__(
        self,
        identity: Identity,
        path: Path,
        link: WitnessClient,
        *,
        asked: Callable[[], None],
        every: float,
    ) -> None:
        self._identity, self._path, self._link = identity, path, link
        self._asked, self._every, self._due = asked, every, 0.0
        self._folder = WitnessFolder.at(identity.home)
        self._ledger: Ledger | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def publish_if_due(self, approved: Sequence[PeerKeys]) -> None:
        """Learn which head of it the pool has, then publish the newest.

        Raises:
            LedgerError: it is signed by another key or name, so that peers cannot witness it.
            RollbackError: it is older than a head that it once had.
            LinkError: the coordinator cannot be reached.
            AdmissionError: the coordinator refuses the head.
        """
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self._every
        with self._opened() as ledger:
            self._publish(ledger, [peer.witness for peer in approved])

    def learn(self) -> None:
        """Learn which head of it the pool has, and publish nothing.

        Raises:
            LedgerError, RollbackError, LinkError: as `publish_if_due`.
        """
        with self._opened() as ledger:
            self._known(ledger)

    def _publish(self, ledger: Ledger, witnesses: list[notes.VerifierKey]) -> None:
        note, known = self._known(ledger)
        if note is not None and _names(note) & {key.name for key in witnesses}:
            ledger.cosign(note, witnesses=witnesses)
        if ledger.book.size > known:
            self._publish_head(ledger, known, self._identity.log)

    def _known(self, ledger: Ledger) -> tuple[notes.Note | None, int]:
        """The pool's head of this ledger, which is kept, and its size; no ledger may be older."""
        own, size = self._identity.log, 0
        if ledger.refresh().key != own.key.text:
            self._asked()
            raise LedgerError(
                "this ledger is signed by another key or name, so peers cannot witness it",
                where=str(self._path),
                expected=own.key.text,
                got=ledger.book.key,
            )
        note = self._link.head()
        if note is not None:
            size = open_checkpoint(note, log=own.key)[0].size
            self._folder.keep_own(note)
        self._asked()
        if (highest := self._folder.own_head()) is not None:
            ledger.compare(highest)
        return note, size

    def _publish_head(self, ledger: Ledger, known: int, own: notes.Signer) -> None:
        note = ledger.checkpoint(own)
        size = Checkpoint.parse(note.text).size
        self._folder.keep_own(note)
        leaves = [leaf_of(body) for body in ledger.bodies(known, size)]
        self._link.publish(start=known, leaves=leaves, note=note)

    @contextmanager
    def _opened(self) -> Iterator[Ledger]:
        if self._ledger is None:
            self._ledger = Ledger(self._path)
        try:
            yield self._ledger
        except RollbackError:  # training finds it too
            self._close()
            raise

    def _close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None


def _names(note: notes.Note) -> set[str]:
    return {signature.name for signature in note.signatures}
