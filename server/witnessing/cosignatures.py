r"""Cosignatures that the coordinator has gathered, each verified before it is kept.

Example: `cosignatures.add(log, note, witness=peer.witness, lines=b"— presspool/north …\n")`.
"""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import select

from presspool.common.base.errors import EvidenceError
from presspool.common.transparency import notes
from presspool.common.transparency.checkpoints import Checkpoint
from presspool.server.database import Database
from presspool.server.witnessing.witness_schema import CosignatureRow, ForkRow

_MOST_ROWS = 4096  # looked through for the best head


class CosignatureStore:
    """The table of cosignatures."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def has(self, log: notes.VerifierKey, size: int, witness: notes.VerifierKey) -> bool:
        """Whether this witness's cosignature of this head is here."""
        with self._database.reading() as session:
            return session.get(CosignatureRow, (log.text, size, witness.text)) is not None

    def add(
        self, log: notes.VerifierKey, note: notes.Note, *, witness: notes.VerifierKey, lines: bytes
    ) -> None:
        """Keep a witness's cosignature of a head; a second one changes nothing.

        Raises:
            EvidenceError: the lines are not exactly one cosignature by this witness.
            StorageError: the database refuses.
        """
        claimed = notes.parse_note(b"x\n\n" + lines).signatures
        found = notes.verified(notes.Note(text=note.text, signatures=claimed), [witness])
        if len(claimed) != 1 or len(found) != 1:
            raise EvidenceError("cosignatures", expected="one, the caller's own", got=len(claimed))
        size = Checkpoint.parse(note.text).size
        if not self.has(log, size, witness):
            row = CosignatureRow(log=log.text, size=size, witness=witness.text, line=found[0].line)
            with self._database.writing() as session:
                session.merge(row)

    def of(
        self, log: notes.VerifierKey, size: int, *, own: notes.VerifierKey
    ) -> tuple[notes.Signature, ...]:
        """The cosignatures of a head, the caller's `own` first, as many as a note may have."""
        wanted = (
            select(CosignatureRow.witness, CosignatureRow.line)
            .where(CosignatureRow.log == log.text, CosignatureRow.size == size)
            .order_by(CosignatureRow.witness)
        )
        with self._database.reading() as session:
            rows = session.execute(wanted).all()
        lines = [line for _, line in sorted(rows, key=lambda row: row.witness != own.text)]
        text = "".join(f"{line}\n" for line in lines[: notes.MOST_SIGNATURES - 1])
        return notes.parse_note(f"x\n\n{text}".encode()).signatures if lines else ()

    def best(self, log: notes.VerifierKey, *, above: int, own: notes.VerifierKey) -> int | None:
        """Size of the head over `above` entries that `own` and most others cosigned; None if none.

        Witnesses that were away cosign the newest head only, so the newest need not be the best.
        """
        wanted = (
            select(CosignatureRow.size, CosignatureRow.witness)
            .where(CosignatureRow.log == log.text, CosignatureRow.size > above)
            .order_by(CosignatureRow.size.desc())
            .limit(_MOST_ROWS)
        )
        by_size: dict[int, set[str]] = defaultdict(set)
        with self._database.reading() as session:
            for size, witness in session.execute(wanted):
                by_size[size].add(witness)
        rank = {size: (own.text in by_size[size], len(by_size[size]), size) for size in by_size}
        return max(rank, key=rank.__getitem__, default=None)

    def convict(self, log: notes.VerifierKey, *, finder: str, proof: bytes) -> None:
        """Keep a verified fork proof; one a finder."""
        with self._database.writing() as session:
            session.merge(ForkRow(log=log.text, finder=finder, proof=proof))
