"""Checkpoints of a log, and proofs that an entry is in a log that others have witnessed.

A checkpoint is a signed note of three lines: the log's origin, its size and its root hash. Its
log signs it with a `NOTE` key, witnesses add `COSIGNATURE` lines. A proof file carries an entry's
index, its inclusion proof and such a checkpoint; it is checked offline.

Invariants:
    * `Checkpoint.parse(c.text) == c`: one checkpoint has one spelling (no leading zeroes).
    * A proof holds only if the log's key signed, and the caller learns which witnesses did.

Source: C2SP tlog-checkpoint v1.0.0, tlog-proof v1.

Example:
    >>> head = Checkpoint(origin="example.org/outlet", size=1, root=merkle.leaf_hash(b"open"))
    >>> log = notes.Signer.generate("example.org/outlet", kind=notes.NOTE)
    >>> witness = notes.Signer.generate("example.org/peer", kind=notes.COSIGNATURE)
    >>> note = notes.Note(text=head.text).signed(
    ...     log.sign(head.text), witness.sign(head.text, time=1_800_000_000))
    >>> proof = Proof(index=0, hashes=(), checkpoint=note)
    >>> proof.verify(merkle.leaf_hash(b"open"), log=log.key, witnesses=[witness.key])
    frozenset({'example.org/peer'})
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass

from presspool.common.base.errors import EvidenceError
from presspool.common.transparency import merkle, notes

PROOF_HEADER = "c2sp.org/tlog-proof@v1"
LARGEST_SIZE = 2**63 - 1
_NUMBER = re.compile("0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A log's size and root, as it stated them.

    Attributes:
        origin: the log's name.
        size: number of entries.
        root: its RFC 6962 root hash, 32 bytes.
        extensions: further lines of the note; nobody vouches for what they say.

    Raises:
        EvidenceError: a value that the format cannot hold.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for line in (self.origin, *self.extensions):
            if not line or any(c < " " or "\ud800" <= c <= "\udfff" for c in line):
                raise EvidenceError("checkpoint", expected="non-empty lines", got=ascii(line))
        if not 0 <= self.size <= LARGEST_SIZE:
            raise EvidenceError("tree size", expected=f"0 to {LARGEST_SIZE}", got=self.size)
        if len(self.root) != merkle.HASH_BYTES:
            raise EvidenceError("root hash", expected="32 bytes", got=len(self.root))

    @property
    def text(self) -> str:
        """The note's text, which is what is signed."""
        root = base64.b64encode(self.root).decode()
        return "".join(
            f"{line}\n" for line in (self.origin, str(self.size), root, *self.extensions)
        )

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a note's text.

        Raises:
            EvidenceError: not a checkpoint.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() != "":
            raise EvidenceError("checkpoint", expected="an origin, a size and a root line")
        root = notes.decode_base64(lines[2], what="root hash")
        size = read_number(lines[1], what="tree size")
        return cls(origin=lines[0], size=size, root=root, extensions=tuple(lines[3:]))


def open_checkpoint(
    note: notes.Note, *, log: notes.VerifierKey, witnesses: Iterable[notes.VerifierKey] = ()
) -> tuple[Checkpoint, frozenset[str]]:
    """The checkpoint that `log` signed, and the names of the witnesses whose cosignatures hold.

    Raises:
        EvidenceError: not signed by `log` under its own origin, or a known key's bad signature.
    """
    signatures = notes.verified(note, [log, *witnesses])
    if (log.name, log.id) not in {(s.name, s.key_id) for s in signatures}:
        raise EvidenceError("checkpoint", expected=f"a signature of {log.name}")
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != log.name:
        raise EvidenceError("origin of checkpoint", expected=log.name, got=checkpoint.origin)
    return checkpoint, frozenset(s.name for s in signatures) - {log.name}


@dataclass(frozen=True, kw_only=True)
class Proof:
    """That an entry is in a log, checkable offline; nothing in it is verified before `verify`.

    Attributes:
        index: the entry's place in the log, from 0.
        hashes: its inclusion proof, leaf's sibling first.
        checkpoint: the log's signed checkpoint with its cosignatures.
        extra: opaque bytes that nobody signed; empty for none.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: notes.Note
    extra: bytes = b""

    def encode(self) -> bytes:
        """The proof file's bytes."""
        extra = [f"extra {base64.b64encode(self.extra).decode()}"] if self.extra else []
        hashes = [base64.b64encode(value).decode() for value in self.hashes]
        head = "\n".join([PROOF_HEADER, *extra, f"index {self.index}", *hashes, "", ""])
        return head.encode() + self.checkpoint.encode()

    def verify(
        self, leaf: bytes, *, log: notes.VerifierKey, witnesses: Iterable[notes.VerifierKey] = ()
    ) -> frozenset[str]:
        """Check that the entry with this leaf hash is in the log; which witnesses saw the log.

        How many witnesses are enough is the caller's to decide.

        Raises:
            EvidenceError: a signature or the inclusion proof does not hold.
        """
        checkpoint, seen_by = open_checkpoint(self.checkpoint, log=log, witnesses=witnesses)
        merkle.verify_inclusion(
            self.hashes, index=self.index, size=checkpoint.size, leaf=leaf, root=checkpoint.root
        )
        return seen_by


def parse_proof(data: bytes) -> Proof:
    """Read a proof file.

    Raises:
        EvidenceError: not a proof file, or beyond the caps.
    """
    text = notes.decode_text(data, what="proof")
    head, separator, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if not separator or lines.pop(0) != PROOF_HEADER:
        raise EvidenceError("proof", expected=f"{PROOF_HEADER}, an empty line and a checkpoint")
    extra = b""
    if lines and lines[0].startswith("extra "):
        extra = notes.decode_base64(lines.pop(0).removeprefix("extra "), what="extra data")
    if not lines or not lines[0].startswith("index "):
        raise EvidenceError("proof", expected="a line 'index' and a number")
    index = read_number(lines.pop(0).removeprefix("index "), what="index")
    if len(lines) > merkle.LONGEST_PROOF:
        raise EvidenceError("proof", expected=f"at most {merkle.LONGEST_PROOF} hashes")
    return Proof(
        index=index,
        hashes=tuple(read_hash(line) for line in lines),
        extra=extra,
        checkpoint=notes.parse_note(checkpoint.encode()),
    )


def read_hash(line: str) -> bytes:
    """A tree hash from its line; raises `EvidenceError` unless it is 32 bytes as base64."""
    value = notes.decode_base64(line, what="hash")
    if len(value) != merkle.HASH_BYTES:
        raise EvidenceError("hash", expected="32 bytes", got=len(value))
    return value


def read_number(text: str, *, what: str) -> int:
    """ASCII decimal without leading zeroes, at most `LARGEST_SIZE`; else `EvidenceError`."""
    if not _NUMBER.fullmatch(text) or int(text) > LARGEST_SIZE:
        raise EvidenceError(what, expected="a decimal number without leading zeroes")
    return int(text)
