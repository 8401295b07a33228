"""Portable proof that a log told two stories: two checkpoints of one size with different roots.

An honest log has one root for each size, so two signed heads of one size with different roots
convict the key's owner before anybody who knows the key. No tree, no witness and no trust in the
finder is needed; whoever finds two such heads writes them into one file and hands it around.

Invariants:
    * A proof holds only if the same known key signed both heads.
    * Equal evidence has equal bytes: one line of canonical JSON, the smaller note first, the log's
      own signature lines only.

Example:
    >>> log = notes.Signer.generate("example.org/pool", kind=notes.NOTE)
    >>> def head(root: bytes) -> notes.Note:
    ...     text = Checkpoint(origin="example.org/pool", size=7, root=root).text
    ...     return notes.Note(text=text).signed(log.sign(text))
    >>> proof = fork_proof(head(bytes(32)), head(b"x" * 32), log=log.key)
    >>> first, second = verify_fork(proof, log=log.key)
    >>> first.size == second.size, first.root == second.root
    (True, False)
"""

from __future__ import annotations

import json

import rfc8785

from presspool.common.base.errors import EvidenceError
from presspool.common.transparency import notes
from presspool.common.transparency.checkpoints import Checkpoint, open_checkpoint

FORMAT = "presspool-fork-proof/1"
LARGEST_PROOF = 4 * notes.LARGEST_NOTE  # bytes: two notes, their newlines escaped


def fork_proof(one: notes.Note, other: notes.Note, *, log: notes.VerifierKey) -> bytes:
    """The proof file's bytes.

    Raises:
        EvidenceError: `log` did not sign both, or they do not contradict each other.
    """
    _contradict(*(open_checkpoint(note, log=log)[0] for note in (one, other)))
    first, second = sorted(_own(note, log).encode().decode() for note in (one, other))
    return rfc8785.dumps({"first": first, "format": FORMAT, "second": second}) + b"\n"


def verify_fork(data: bytes, *, log: notes.VerifierKey) -> tuple[Checkpoint, Checkpoint]:
    """Check a proof file against the log's key, got from somewhere else.

    Returns:
        The two heads.

    Raises:
        EvidenceError: the file proves nothing against this key.
    """
    texts = _read(data)
    first, second = (notes.parse_note(text.encode(errors="replace")) for text in texts)
    if fork_proof(first, second, log=log) != data:
        raise EvidenceError("fork proof", expected="its one canonical spelling")
    return open_checkpoint(first, log=log)[0], open_checkpoint(second, log=log)[0]


def contradict(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether one log cannot have had both heads: one size, different roots."""
    return (one.origin, one.size) == (other.origin, other.size) and one.root != other.root


def _contradict(one: Checkpoint, other: Checkpoint) -> None:
    if not contradict(one, other):
        raise EvidenceError(
            "these heads do not contradict each other",
            expected="one size with two roots",
            got=f"{one.size} entries and {other.size} entries",
        )


def _own(note: notes.Note, log: notes.VerifierKey) -> notes.Note:
    """The note with its log's signature alone."""
    own = [s for s in note.signatures if (s.name, s.key_id) == (log.name, log.id)]
    return notes.Note(text=note.text, signatures=tuple(own[:1]))


def _read(data: bytes) -> tuple[str, str]:
    """The two notes of a file within the caps."""
    try:
        value = json.loads(data) if len(data) <= LARGEST_PROOF else None
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or too deep
        value = None
    if isinstance(value, dict) and value.keys() == {"first", "format", "second"}:
        first, second = value["first"], value["second"]
        if value["format"] == FORMAT and isinstance(first, str) and isinstance(second, str):
            return first, second
    raise EvidenceError("fork proof", expected=f"one line of {FORMAT}")
