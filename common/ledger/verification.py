r"""Checks an exported ledger without trusting anybody: structure, hashes, rules, signatures.

The entries are replayed by the rules that the outlet's own store obeys, and hashed into the tree
whose roots were signed. Any change is found: one that leaves the leaf hashes is named exactly,
one that forges those too is named by the signed heads around it, and one that forges signatures
needs the keys. A whole rewritten history by the key's owner is found by heads that others keep.

Invariants:
    * Reads a line at a time within fixed caps: any bytes give a result or an `EvidenceError`.
    * Every signature line in the file must verify; none is skipped as unknown.
    * What is not checked is said: without a key or heads from elsewhere, the file only agrees
      with itself (`Verified.key_known`, `Verified.heads_known`).

Example:
    >>> import io
    >>> verify(io.BytesIO(b'{"entries":0}\n'))
    Traceback (most recent call last):
    ...
    presspool.common.base.errors.OtherFileError: first line: not a ledger's export:
      expected a header of presspool-ledger-export/1
      to do    name a file that `presspool audit export` wrote
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import rfc8785

from presspool.common.base.errors import EvidenceError, LedgerError, OtherFileError
from presspool.common.ledger import entries
from presspool.common.ledger.export import FORMAT, leaf_text
from presspool.common.ledger.ledger_state import LedgerState
from presspool.common.ledger.restored_entries import leaf_of
from presspool.common.transparency import checkpoints, merkle, notes
from presspool.common.transparency.checkpoints import Checkpoint

LEAF_CHARACTERS = 44
LONGEST_LINE = 2 * notes.LARGEST_NOTE  # a checkpoint line: the note, its newlines escaped
MOST_ENTRIES = 10**8
MOST_WITNESSES = 64


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What a file that holds says.

    Attributes:
        book: the ledger's state after its last entry.
        head: its newest signed head.
        checkpoints: signed heads in the file.
        cosigned: verifier key of each witness, and the largest size that it cosigned. The keys
            stand in the file; which of them to believe is for who reads this to know.
        key_known: the first key was compared with one from elsewhere.
        heads_known: heads from elsewhere that the entries agree with.
    """

    book: LedgerState
    head: Checkpoint
    checkpoints: int
    cosigned: Mapping[str, int]
    key_known: bool
    heads_known: int


def verify(
    stream: BinaryIO,
    *,
    key: notes.VerifierKey | None = None,
    heads: Iterable[Checkpoint] = (),
    book: LedgerState | None = None,
) -> Verified:
    """Check a whole export.

    Args:
        stream: the file.
        key: the ledger's first key, from somewhere else than the file.
        heads: heads of this ledger that others have kept; each must be a beginning of it.
        book: takes the entries, a `History` to keep them; none has come yet.

    Raises:
        EvidenceError: names the first bad entry, where there is one.
    """
    check = _Check(stream, heads, LedgerState() if book is None else book)
    check.header()
    while check.book.size < check.entries or not check.signed:
        line = check.line(LONGEST_LINE)
        if line.startswith(b"{"):
            check.checkpoint(line)
        else:
            check.entry(line)
            if check.book.size == 1 and key is not None and check.book.key != key.text:
                raise EvidenceError("first key", entry=0, expected=key.text, got=check.book.key)
    check.end()
    assert check.head is not None  # signed
    return Verified(
        book=check.book,
        head=check.head,
        checkpoints=check.checkpoints,
        cosigned=check.cosigned,
        key_known=key is not None,
        heads_known=check.heads_known,
    )


class _Check:
    """One pass over a file; the state that the checks share."""

    def __init__(self, stream: BinaryIO, heads: Iterable[Checkpoint], book: LedgerState) -> None:
        self.book, self.edge = book, merkle.Frontier()
        self.head: Checkpoint | None = None
        self.entries = self.checkpoints = self.heads_known = 0
        self.cosigned: dict[str, int] = {}
        self._stream, self._origin = stream, ""
        self._witnesses: list[notes.VerifierKey] = []
        self._heads: dict[int, list[Checkpoint]] = {}
        for head in heads:
            if head.size == 0:
                continue  # every ledger begins with nothing
            self._heads.setdefault(head.size, []).append(head)

    @property
    def signed(self) -> bool:
        """Whether the last line read is the head of all entries so far."""
        return self.head is not None and self.head.size == self.book.size

    def line(self, longest: int) -> bytes:
        """The next line, without its newline."""
        line = self._stream.readline(longest + 1)
        if not line.endswith(b"\n"):
            got = f"{len(line)} bytes without an end" if line else "the end of the file"
            raise EvidenceError(
                "line",
                where=self._place(),
                entry=self._next(),
                got=got,
                expected=f"{self.entries} entries and their signed head",
            )
        return line[:-1]

    def header(self) -> None:
        expected = f"a header of {FORMAT}"
        try:
            line = self.line(LONGEST_LINE)
        except EvidenceError:
            line = b""
        kind = EvidenceError if FORMAT.encode() in line else OtherFileError
        no_export = kind(
            "not a ledger's export",
            where="first line",
            expected=expected,
            advice="name a file that `presspool audit export` wrote",
        )
        try:
            value = _json(line, "first line", expected)
        except EvidenceError:
            raise no_export from None
        count, witnesses = value.get("entries"), value.get("witnesses")
        if (
            value.keys() != {"entries", "format", "origin", "witnesses"}
            or value["format"] != FORMAT
            or type(count) is not int
            or not 0 < count <= MOST_ENTRIES
            or not isinstance(witnesses, list)
            or len(witnesses) > MOST_WITNESSES
            or not all(isinstance(text, str) for text in witnesses)
            or sorted(set(witnesses)) != witnesses
        ):
            raise no_export
        self.entries, self._origin = count, str(value["origin"])
        self._witnesses = [notes.parse_key(text) for text in witnesses]
        wrong = [k.text for k in self._witnesses if k.kind != notes.COSIGNATURE]
        if wrong:
            raise EvidenceError("key of a witness", expected="a cosigning key", got=wrong[0])

    def entry(self, line: bytes) -> None:
        index = self.book.size
        leaf, space, body = line[:LEAF_CHARACTERS], line[LEAF_CHARACTERS:][:1], line[45:]
        if space != b" " or leaf != leaf_text(body):
            raise EvidenceError(
                "the entry is not what its leaf hash says", where=self._place(), entry=index
            )
        try:
            self.book.apply(entries.parse_entry(body))
        except (EvidenceError, LedgerError) as error:
            raise EvidenceError(
                "the entry may not stand here", where=self._place(), entry=index, got=error
            ) from error
        self.edge.append(leaf_of(body))
        if index == 0 and self.book.opened.origin != self._origin:
            raise EvidenceError(
                "origin", where="first line", expected=self.book.opened.origin, got=self._origin
            )
        for head in self._heads.pop(index + 1, ()):
            self._compare(head, "a head that somebody else kept")
            self.heads_known += 1

    def checkpoint(self, line: bytes) -> None:
        value = _json(line, self._place(), "a checkpoint")
        if value.keys() != {"checkpoint"} or not isinstance(value["checkpoint"], str):
            raise EvidenceError("checkpoint", where=self._place(), expected="a signed note")
        if self.signed or not self.book.size:
            raise EvidenceError("checkpoint", where=self._place(), expected="an entry")
        note = notes.parse_note(value["checkpoint"].encode())
        log = notes.parse_key(self.book.key)
        head, _ = checkpoints.open_checkpoint(note, log=log, witnesses=self._witnesses)
        found = notes.verified(note, [log, *self._witnesses])
        if len(set(found)) != len(note.signatures) or head.extensions:
            raise EvidenceError(
                "checkpoint",
                where=self._place(),
                expected="signatures of known keys only, each once",
            )
        self._compare(head, "the signed head")
        for witness in self._witnesses:
            if (witness.name, witness.id) in {(s.name, s.key_id) for s in found}:
                self.cosigned[witness.text] = head.size
        self.head, self.checkpoints = head, self.checkpoints + 1

    def end(self) -> None:
        if self._stream.read(1):
            raise EvidenceError("the file goes on after its last signed head")
        if self.book.size != self.entries:
            raise EvidenceError("entries", expected=self.entries, got=self.book.size)
        if self._heads:
            raise EvidenceError(
                "the ledger is shorter than a head that somebody else kept",
                expected=f"at least {max(self._heads)} entries",
                got=f"{self.entries} entries",
            )
        silent = [k.text for k in self._witnesses if k.text not in self.cosigned]
        if silent:
            raise EvidenceError("witness", expected="a cosignature", got=f"none of {silent[0]}")

    def _compare(self, head: Checkpoint, what: str) -> None:
        same = (head.origin, head.size, head.root)
        if same != (self._origin, self.book.size, self.edge.root()):
            first = self.head.size if self.head else 0
            raise EvidenceError(
                f"entries {first} to {self.book.size - 1} are not those of {what}",
                where=self._place(),
                entry=first,
                expected=f"{head.origin}, {head.size} entries, root {head.root.hex()}",
                got=f"root {self.edge.root().hex()}",
            )

    def _next(self) -> int | None:
        return self.book.size if self.book.size < self.entries else None

    def _place(self) -> str:
        return f"after {self.book.size} entries" if self.book.size else "at the beginning"


def _json(line: bytes, where: str, expected: str) -> dict[str, Any]:
    """A JSON object in canonical spelling."""
    try:
        value = json.loads(line)
        same = isinstance(value, dict) and rfc8785.dumps(value) == line
    except (ValueError, RecursionError):  # not JSON, not UTF-8, lone surrogates, or too deep
        same = False
    if not same:
        raise EvidenceError(where, expected=expected)
    found: dict[str, Any] = value
    return found
