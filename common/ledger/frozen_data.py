r"""A data set was frozen: what the ledger says of it, and what opens that.

A plain digest of readers' data would tell a stranger who knows all but one reader whether that one
is there. So the ledger holds SHA-256(nonce ‖ digest), of 32 random bytes and the digest of the
rows. The nonce stands in the snapshot alone, which never leaves the outlet: whoever has the
snapshot can show what was frozen, and nobody else learns anything of it (a hash commitment: hiding
because the nonce is random and secret, binding because SHA-256 is).

Invariants:
    * Everything else in the entry is the operator's own choice, made before a record was read.
      Numbers of records or readers, and dates in the data, have no field to go in.
    * The entry is written before the snapshot is in its place. A kill in between leaves the old
      snapshot, and an entry for one that nothing was ever trained on.

Example:
    >>> rows = "sha256:" + "a" * 64
    >>> made = Opening(nonce="00" * 32, digest=rows, source="duckdb", query="FROM clicks")
    >>> made.said()["commitment"] == commitment(bytes(32), rows) != rows
    True
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from presspool.common.base.errors import EvidenceError, InputError
from presspool.common.base.validation import unread
from presspool.common.ledger.entry_base import Day, LedgerEntry, Sha256

FOOTER: Final = b"presspool-snapshot"  # key of a snapshot's footer
OPENING: Final = "opening"  # in what stands there
SourceKind = Literal["duckdb", "parquet", "postgres"]
MostRecords = Annotated[int, Field(ge=1, le=1_000_000)]


class DataFrozen(LedgerEntry):
    """A snapshot of the outlet's data was made, or at least about to be.

    Attributes:
        commitment: `commitment` of the snapshot's rows.
        source: what was read.
        query: SHA-256 of the whole statement, whose text stays at the outlet.
        window: the first day that was asked for, and the day after the last; None for all.
        consent: SHA-256 of the predicate that every record had to meet; None for none.
        most_records: of a reader; None for all.
    """

    kind: Literal["data-frozen"] = "data-frozen"
    commitment: Sha256
    source: SourceKind
    query: Sha256
    window: tuple[Day, Day] | None = None
    consent: Sha256 | None = None
    most_records: MostRecords | None = None


class Opening(BaseModel):
    """What a snapshot says of itself, and what opens the ledger's entry about it.

    Attributes:
        nonce: 32 random bytes in hexadecimal.
        digest: of the rows (`presspool.common.data.rows_digest`).
        query: the statement itself.
        consent: the predicate itself; the others are as in the entry.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nonce: Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z")]
    digest: Sha256
    source: SourceKind
    query: str
    window: tuple[Day, Day] | None = None
    consent: str | None = None
    most_records: MostRecords | None = None

    def said(self) -> dict[str, Any]:
        """The parts of the ledger's entry."""
        return {
            "commitment": commitment(bytes.fromhex(self.nonce), self.digest),
            "source": self.source,
            "query": _sha256(self.query.encode()),
            "window": self.window,
            "consent": None if self.consent is None else _sha256(self.consent.encode()),
            "most_records": self.most_records,
        }


def commitment(nonce: bytes, digest: str) -> str:
    """SHA-256 of a nonce, 32 bytes, and the 32 bytes of a digest."""
    return _sha256(nonce + bytes.fromhex(digest.removeprefix("sha256:")))


def opening_in(snapshot: Path) -> Opening:
    """What opens a snapshot's entry.

    Raises:
        InputError: no snapshot, or one that was made of a file, of which no ledger says anything.
    """
    import pyarrow.parquet as pq

    try:
        said = json.loads((pq.read_metadata(snapshot).metadata or {})[FOOTER])
        return Opening.model_validate_json(json.dumps(said[OPENING]))
    except (OSError, KeyError, ValueError) as error:  # Arrow's and pydantic's are ValueErrors
        raise InputError(
            "no snapshot that a ledger speaks of",
            where=str(snapshot),
            expected="what `presspool outlet import` makes of a [data] table",
            got=unread(error),
        ) from None


def entry_of(opening: Opening, frozen: Sequence[DataFrozen]) -> DataFrozen:
    """The ledger's entry that a snapshot opens.

    Raises:
        EvidenceError: no entry holds its commitment, or one says something else of it.
    """
    said = opening.said()
    for entry in frozen:
        if entry.commitment == said["commitment"]:
            _require_same(entry, said)
            return entry
    raise EvidenceError(
        "the ledger has no entry of this snapshot",
        expected=said["commitment"],
        got=f"{len(frozen)} entries of frozen data, none of them with it",
    )


def _require_same(entry: DataFrozen, said: Mapping[str, Any]) -> None:
    for key, value in said.items():
        if getattr(entry, key) != value:
            raise EvidenceError(
                f"the entry says another {key} than the snapshot",
                entry=entry.seq,
                expected=value,
                got=getattr(entry, key),
            )


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
