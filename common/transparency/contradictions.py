"""What convicts a coordinator of signing what cannot all be true: an outlet's `contradiction.json`.

Two heads of one size with different roots have a file of their own (`forks`). The other ways of
telling two stories are one JSON document of `FORMAT`, by its keys:

* `heads`, `leaves`: two signed heads, the smaller first, and the leaf hashes of the larger. These
  lead to the larger head but, cut to the smaller one's size, not to the smaller: entries that were
  signed were changed afterwards.
* `proofs`: C2SP proofs under one signed head, with their entries as extra data: of one entry that
  is none, or of two, the later of which tells of a round that is not after the earlier one's.
* `contract`, `round`, `task`, `proof`: a task started from another adapter, or brought other keys
  of outlets, than the proven entry names. What the task named is the finder's word, since no
  signature of the task is in the file: it tells an outlet to stop, and convicts nobody before
  others.

Invariants:
    * What is said hangs on signed bytes alone: of the free text `what` nothing is shown or used.
    * No tree, no pool and no trust in the finder is needed; the log's key comes from elsewhere.

Example:
    >>> log = notes.Signer.generate("example.org/pool", kind=notes.NOTE)
    >>> def head(*leaves: bytes) -> str:
    ...     text = Checkpoint(origin=log.key.name, size=len(leaves), root=Tree(leaves).root()).text
    ...     return notes.Note(text=text).signed(log.sign(text)).encode().decode()
    >>> kept, other = [bytes(32)], [b"x" * 32, b"y" * 32]
    >>> data = rfc8785.dumps({"format": FORMAT, "what": "", "heads": [head(*kept), head(*other)],
    ...                   "leaves": [leaf.hex() for leaf in other]})
    >>> verify_contradiction(data, log=log.key)
    'example.org/pool signed a head of 1 entry and a head of 2 entries that does not continue it.'
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import rfc8785

from presspool.common.base.errors import EvidenceError
from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import (
    Checkpoint,
    Proof,
    open_checkpoint,
    parse_proof,
)
from presspool.common.transparency.consortium_entries import Entry, parse_entry
from presspool.common.transparency.tree import Tree

FORMAT: Final = "presspool-contradiction/1"
LARGEST = 1 << 25  # bytes: the leaf hashes of 450,000 entries
_LEAF = re.compile("[0-9a-f]{64}")


def contradiction(what: str, **evidence: Any) -> bytes:
    """The file's bytes: what was found, in the finder's words, and what proves it."""
    return rfc8785.dumps({"format": FORMAT, "what": what, **evidence}) + b"\n"


def is_contradiction(data: bytes) -> bool:
    """Whether a file says that it is of this format."""
    return _document(data).get("format") == FORMAT


def verify_contradiction(data: bytes, *, log: notes.VerifierKey) -> str:
    """Check a file against the log's key, got from somewhere else.

    Returns:
        One sentence that says what the file proves.

    Raises:
        EvidenceError: it convicts nobody who holds this key.
    """
    document = _document(data)
    try:
        match sorted(document.keys() - {"format", "what"}):
            case ["heads", "leaves"]:
                first, second = document["heads"]
                return _rewritten(_note(first), _note(second), document["leaves"], log)
            case ["proofs"]:
                return _against_the_rules([_proof(text) for text in document["proofs"]], log)
            case ["contract", "proof", "round", "task"]:
                raise _only_said(document, _proof(document["proof"]), log)
    except (AttributeError, TypeError, ValueError):  # values of other types than they should be
        pass
    raise EvidenceError("contradiction", expected=f"one document of {FORMAT}")


def _rewritten(
    small: notes.Note, large: notes.Note, texts: list[str], log: notes.VerifierKey
) -> str:
    one, other = (open_checkpoint(note, log=log)[0] for note in (small, large))
    if len(texts) != other.size or not all(map(_LEAF.fullmatch, texts)):
        raise EvidenceError("leaf hashes", expected=f"{other.size} of them", got=len(texts))
    tree = Tree(map(bytes.fromhex, texts))
    if tree.root() != other.root:
        raise EvidenceError(
            "the leaf hashes do not lead to the larger head",
            expected=other.root.hex(),
            got=tree.root().hex(),
        )
    if one.size > other.size or tree.root(one.size) == one.root:
        raise EvidenceError(
            "these heads do not contradict each other",
            expected="a larger one that does not continue the smaller",
        )
    return (
        f"{log.name} signed a head of {_entries(one)} and a head of {_entries(other)} that does "
        "not continue it."
    )


def _entries(head: Checkpoint) -> str:
    return f"{head.size} entr{'y' if head.size == 1 else 'ies'}"


def _against_the_rules(proofs: list[Proof], log: notes.VerifierKey) -> str:
    for proof in proofs:
        proof.verify(merkle.leaf_hash(proof.extra), log=log)
    said = [_entry(proof) for proof in proofs]
    match proofs, said:
        case [wrong], [None]:
            return f"{log.name} signed a log whose entry {wrong.index} is no entry of such a log."
        case [first, second], [Entry() as one, Entry() as other]:
            same = first.checkpoint.text == second.checkpoint.text
            if same and first.index < second.index and _twice(one, other):
                return (
                    f"{log.name} signed a log that tells of round {other.round} of {one.contract} "
                    f"in entry {second.index}, after round {one.round} in entry {first.index}."
                )
    raise EvidenceError(
        "these entries do not contradict each other",
        expected="under one head an entry that is none, or a round twice or out of order",
    )


def _twice(one: Entry, other: Entry) -> bool:
    return one.contract == other.contract and other.round <= one.round


def _only_said(document: dict[str, Any], proof: Proof, log: notes.VerifierKey) -> EvidenceError:
    proof.verify(merkle.leaf_hash(proof.extra), log=log)
    said = parse_entry(proof.extra)
    if (document["contract"], document["round"]) != (said.contract, said.round):
        return EvidenceError("entry of another round", got=f"round {said.round} of {said.contract}")
    return EvidenceError(
        "this file alone convicts nobody",
        expected="two things that the log's key signed",
        got=f"one: of round {said.round} of {said.contract} the log names adapter {said.adapter}"
        f"{f' and keys {said.keys}' if said.keys else ''}; that a task brought others is the "
        "finder's word",
        advice="compare the task with those of the run's other outlets",
    )


def _entry(proof: Proof) -> Entry | None:
    try:
        return parse_entry(proof.extra)
    except EvidenceError:
        return None


def _note(text: str) -> notes.Note:
    return notes.parse_note(text.encode())


def _proof(text: str) -> Proof:
    return parse_proof(text.encode())


def _document(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data) if len(data) <= LARGEST else None
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or too deep
        value = None
    return value if isinstance(value, dict) else {}
