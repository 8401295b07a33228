"""One file that a stranger can check: every entry, every signed head, every cosignature.

Lines, each in its one canonical spelling and ended by a newline:

    {"entries":…,"format":…,"origin":…,"witnesses":[verifier keys]}
    leaf-hash entry                     one line an entry, in their order
    {"checkpoint":"…"}                  after the entry that makes the log as large as it says

Invariants:
    * Every byte is vouched for: entries by the root that the log's key signed, a witness's key by
      its cosignature, the rest by having one spelling. No other bytes are accepted. Only a whole
      older head, or a witness with its cosignatures, can be left out: neither says less is spent.
    * Equal ledgers have equal exports.
    * Only what is in the ledger is exported: no file names, no paths, no clock.

Example:
    >>> import io, pathlib, tempfile
    >>> from presspool.common.accounting.filter import Caps
    >>> signer = notes.Signer.generate("example.org/outlet", kind=notes.NOTE)
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "ledger.db"
    >>> with Ledger.create(path, signer=signer, order=4,
    ...                    unit="reader", delta=1e-5, caps=Caps(epsilon_max=8)) as ledger:
    ...     head = export(ledger, file := io.BytesIO(), signer=signer, witnesses=[])
    >>> head.size, file.getvalue()[:38]
    (1, b'{"entries":1,"format":"presspool-ledge')
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, BinaryIO

import rfc8785

from presspool.common.base.errors import LedgerError
from presspool.common.ledger.restored_entries import leaf_of
from presspool.common.ledger.store import Ledger
from presspool.common.transparency import notes
from presspool.common.transparency.checkpoints import Checkpoint

FORMAT = "presspool-ledger-export/1"


def export(
    ledger: Ledger,
    stream: BinaryIO,
    *,
    signer: notes.Signer | None,
    witnesses: Iterable[notes.VerifierKey],
) -> Checkpoint:
    """Write the ledger as it is now; later entries may be added meanwhile.

    Args:
        ledger: what to export.
        stream: where to; write it beside the file wanted and rename it.
        signer: signs the newest head, if that is not signed yet; None to export only what is
            signed already.
        witnesses: whose cosignatures to include.

    Returns:
        The newest head.

    Raises:
        LedgerError: another key signs this ledger, or nothing is signed and there is no signer.
    """
    newest = Checkpoint.parse((ledger.checkpoint(signer) if signer else _signed(ledger)).text)
    known = {(key.name, key.id): key for key in witnesses}
    kept = [note for note in ledger.checkpoints() if _size(note) <= newest.size]
    used = {(s.name, s.key_id) for note in kept for s in note.signatures} & known.keys()
    header: dict[str, Any] = {
        "entries": newest.size,
        "format": FORMAT,
        "origin": newest.origin,
        "witnesses": sorted(known[name].text for name in used),
    }
    stream.write(rfc8785.dumps(header) + b"\n")
    done = 0
    for note in kept:
        for body in ledger.bodies(done, _size(note)):
            stream.write(leaf_text(body) + b" " + body + b"\n")
        done = _size(note)
        signed = {"checkpoint": _only(note, used).encode().decode()}
        stream.write(rfc8785.dumps(signed) + b"\n")
    return newest


def leaf_text(body: bytes) -> bytes:
    """An entry's leaf hash as it stands in the file."""
    return base64.b64encode(leaf_of(body))


def _only(note: notes.Note, used: set[tuple[str, bytes]]) -> notes.Note:
    """The note with the log's own line, which is its first, and those of known witnesses."""
    own, *others = note.signatures
    lines = [own, *(s for s in others if (s.name, s.key_id) in used)]
    return notes.Note(text=note.text, signatures=tuple(lines))


def _signed(ledger: Ledger) -> notes.Note:
    """The newest signed head."""
    kept = ledger.checkpoints()
    if not kept:
        raise LedgerError(
            "nothing in this ledger is signed yet",
            expected="a signed head",
            got="none",
            advice="give the ledger's signing key",
        )
    return kept[-1]


def _size(note: notes.Note) -> int:
    return Checkpoint.parse(note.text).size
