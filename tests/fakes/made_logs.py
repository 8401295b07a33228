"""Logs, witnesses and heads in memory that the witness and quorum tests share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import Checkpoint
from presspool.common.transparency.witness import Heads, Reply, Request, Witness

LOG = notes.Signer.load("example.org/pool", b"p" * 32, kind=notes.NOTE)


class History:
    """A log's entries and everything that can be proved of them."""

    def __init__(self, entries: Iterable[bytes], log: notes.Signer = LOG) -> None:
        self.entries, self.log = list(entries), log
        self._heads: dict[int, notes.Note] = {}
        self._nodes: dict[tuple[int, int], bytes] = {}
        for size, entry in enumerate(self.entries):
            self._nodes.update(merkle.new_nodes(size, merkle.leaf_hash(entry), self._read))

    def head(self, size: int | None = None) -> notes.Note:
        """A signed head."""
        size = len(self.entries) if size is None else size
        if size not in self._heads:
            self._heads[size] = self._signed(size)
        return self._heads[size]

    def _signed(self, size: int) -> notes.Note:
        root = merkle.root(size, self._read)
        text = Checkpoint(origin=self.log.key.name, size=size, root=root).text
        return notes.Note(text=text).signed(self.log.sign(text))

    def request(self, old: int, new: int | None = None) -> Request:
        """An honest request to cosign the head of `new` after that of `old`."""
        new = len(self.entries) if new is None else new
        proof = merkle.consistency_proof(old, new, self._read) if old <= new else ()
        return Request(old=old, proof=proof, checkpoint=self.head(new))

    def _read(self, level: int, position: int) -> bytes:
        return self._nodes[level, position]


class MemoryHeads(Heads):
    """Heads that need no disk: for simulations of many witnesses."""

    def __init__(self) -> None:
        self._held: dict[str, notes.Note] = {}
        self._forks: dict[str, bytes] = {}
        self.folder = Path("/nowhere")

    @contextlib.contextmanager
    def alone(self, origin: str) -> Iterator[None]:  # noqa: ARG002
        yield

    def read(self, origin: str) -> notes.Note | None:
        return self._held.get(origin)

    def store(self, origin: str, note: notes.Note) -> None:
        self._held[origin] = note

    def keep_fork(self, origin: str, proof: bytes) -> None:
        self._forks[origin] = proof


@lru_cache
def peer(number: int) -> notes.Signer:
    """The cosigning key of an outlet's witness."""
    seed = number.to_bytes(2) * 16
    return notes.Signer.load(f"example.org/peer{number}", seed, kind=notes.COSIGNATURE)


def cosignatures(reply: Reply) -> tuple[notes.Signature, ...]:
    """The signatures of a reply, read as a client reads them."""
    return notes.parse_note(b"x\n\n" + reply.body).signatures


def witness(number: int, heads: Heads | None = None) -> Witness:
    """A witness of the one log, with a clock that stands still."""
    return Witness(
        peer(number), logs=[LOG.key], heads=heads or MemoryHeads(), clock=lambda: 1_800_000_000.9
    )
