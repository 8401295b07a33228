"""A ledger that is followed: its reading, its entries by index, and a proof for each.

A ledger's own file is opened once and asked for new entries only, so that a page of a ledger of a
hundred thousand entries costs what has changed. An export is verified whole, and again when its
file changes.

Invariants:
    * What is shown of an entry are its bytes, and every proof is verified before it is shown.
    * A proof leads to the newest signed head that covers its entry, or, where none does yet, to the
      head of all entries, and says that nobody has signed that one.

Example: `Followed.opened(path)` and then, as often as one likes, `followed.reading()`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from presspool.common.audit.evidence import audit_console, projection, sources
from presspool.common.audit.evidence.ledger_view import OutletReading
from presspool.common.base.errors import EvidenceError, PressPoolError
from presspool.common.ledger import entries, verification
from presspool.common.ledger.history import History
from presspool.common.ledger.restored_entries import leaf_of
from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import Checkpoint, Proof
from presspool.common.wire.approval import Approval

_Signed = tuple[int, notes.Note]


@dataclass(frozen=True, kw_only=True)
class Proven:
    """One entry and where it is.

    Attributes:
        body: its bytes.
        leaf: its leaf hash.
        hashes: inclusion proof in the first `size` entries, leaf's sibling first.
        size: of the head that the proof leads to.
        root: of that head.
        note: that head, signed; None where it is not.
    """

    index: int
    body: bytes
    leaf: bytes
    hashes: tuple[bytes, ...]
    size: int
    root: bytes
    note: notes.Note | None

    @property
    def file(self) -> bytes | None:
        """The proof as a file that can be checked offline; None while nothing is signed."""
        if self.note is None:
            return None
        return Proof(index=self.index, hashes=self.hashes, checkpoint=self.note).encode()


class Followed(Protocol):
    """What both kinds offer; a handle belongs to one thread."""

    def reading(self) -> OutletReading:
        """Everything so far."""
        ...

    def bodies(self, start: int, stop: int) -> Sequence[bytes]:
        """The bytes of entries `start` to `stop` - 1."""
        ...

    def prove(self, index: int) -> Proven:
        """An entry with its proof; raises `EvidenceError` where there is none such."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


class LedgerFile:
    """A ledger's own file.

    Args:
        path: the file.
        source: what to call it.
        before: a head that this ledger had, at an earlier opening.

    Raises:
        InputError: no ledger there.
        EvidenceError: a damaged one.
        RollbackError: an older one than `before`, or another.
    """

    def __init__(self, path: Path, source: str, before: Checkpoint | None = None) -> None:
        self._path, self._source, self._history = path, source, History()
        self._opened = stamp(path)
        self._held = ExitStack()
        self._ledger = self._held.enter_context(audit_console.opened(path))
        if before is not None:
            try:
                self._ledger.compare(before)
            except PressPoolError:
                self.close()
                raise
        self._signed: _Signed | None = None
        self._seen: object = None
        self._made: OutletReading | None = None

    def reading(self, approvals: tuple[Approval, ...] = ()) -> OutletReading:
        """Everything so far; made again only where something has changed."""
        seen = (*map(stamp, _files(self._path)), approvals)
        if self._made is None or self._seen != seen:
            size = self._ledger.refresh().size
            for body in self._ledger.bodies(self._history.size, size):
                self._history.apply(entries.parse_entry(body))
            note, count = self._ledger.newest_checkpoint()
            self._signed = _signed(note) if note else None
            self._made = projection.reading(
                self._history,
                source=self._source,
                verified=False,
                approvals=approvals,
                head=sources.own_head(note, count),
            )
            self._seen = seen
        return self._made

    @property
    def head(self) -> Checkpoint:
        """Size and root of what was read."""
        return self._ledger.head()

    @property
    def replaced(self) -> bool:
        """Whether another file lies there now; SQLite would go on with the one that it opened."""
        now = stamp(self._path)
        return now[1:] == () or now[2] != self._opened[2] or now[1] < self._opened[1]

    def bodies(self, start: int, stop: int) -> Sequence[bytes]:
        """The bytes of entries `start` to `stop` - 1."""
        return list(self._ledger.bodies(start, stop))

    def prove(self, index: int) -> Proven:
        """An entry with its proof."""
        size, note = _covering(index, self._signed, self._history.size)
        hashes = self._ledger.prove_inclusion(index, size)
        (body,) = self._ledger.bodies(index, index + 1)
        return _proven(index, body, hashes, size, self._ledger.root(size), note)

    def close(self) -> None:
        """Close the file."""
        self._held.close()


class ExportFile:
    """A verified export, held in memory with its tree.

    Args:
        path: the file.
        brought: keys and heads that the auditor has from elsewhere.
        moved: called with the bytes read and the total.

    Raises:
        EvidenceError: it does not hold.
    """

    def __init__(self, path: Path, brought: sources.Brought, moved: audit_console.Moved) -> None:
        self._reading = sources.read_outlet(path, brought=brought, moved=moved)
        self._bodies: list[bytes] = []
        self._signed: _Signed | None = None
        self._nodes: dict[tuple[int, int], bytes] = {}
        with audit_console.reading(path) as stream:
            stream.readline(verification.LONGEST_LINE)
            for line in stream:
                self._take(line.rstrip(b"\n"))
        self._require_same()

    def reading(self) -> OutletReading:
        """Everything in the file."""
        return self._reading

    def bodies(self, start: int, stop: int) -> Sequence[bytes]:
        """The bytes of entries `start` to `stop` - 1."""
        return self._bodies[start:stop]

    def prove(self, index: int) -> Proven:
        """An entry with its proof."""
        size, note = _covering(index, self._signed, len(self._bodies))
        hashes = merkle.inclusion_proof(index, size, self._node)
        return _proven(
            index, self._bodies[index], hashes, size, merkle.root(size, self._node), note
        )

    def close(self) -> None:
        """Nothing is held open."""

    def _take(self, line: bytes) -> None:
        """One line, in the form that `verification` has just seen it in."""
        if line.startswith(b"{"):
            note = notes.parse_note(json.loads(line)["checkpoint"].encode())
            self._signed = _signed(note)
            return
        body = line[verification.LEAF_CHARACTERS + 1 :]
        leaf = leaf_of(body)
        self._nodes.update(merkle.new_nodes(len(self._bodies), leaf, self._node))
        self._bodies.append(body)

    def _require_same(self) -> None:
        """The file was read twice; raises `EvidenceError` if it changed in between."""
        head = self._reading.head
        same = len(self._bodies) == head.size and (
            merkle.root(head.size, self._node).hex() == head.root
        )
        if not same:
            raise EvidenceError("the file changed while it was read", where=self._reading.source)

    def _node(self, level: int, position: int) -> bytes:
        return self._nodes[level, position]


def _signed(note: notes.Note) -> _Signed:
    return Checkpoint.parse(note.text).size, note


def _files(path: Path) -> tuple[Path, Path]:
    """SQLite writes to the second first."""
    return path, path.with_name(f"{path.name}-wal")


def stamp(path: Path) -> tuple[int, ...]:
    """What changes whenever a file does; empty where there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _covering(index: int, newest: _Signed | None, size: int) -> tuple[int, notes.Note | None]:
    """The head that an entry is proven in: the newest signed one, if that has the entry."""
    if not 0 <= index < size:
        raise EvidenceError("no such entry", expected=f"0 to {size - 1}", got=index)
    return newest if newest is not None and newest[0] > index else (size, None)


def _proven(
    index: int,
    body: bytes,
    hashes: tuple[bytes, ...],
    size: int,
    root: bytes,
    note: notes.Note | None,
) -> Proven:
    leaf = leaf_of(body)
    merkle.verify_inclusion(hashes, index=index, size=size, leaf=leaf, root=root)
    if note is not None and Checkpoint.parse(note.text).root != root:
        raise EvidenceError("the signed head has another root than these entries", entry=index)
    return Proven(index=index, body=body, leaf=leaf, hashes=hashes, size=size, root=root, note=note)
