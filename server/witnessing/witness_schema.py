"""The tables behind the witness service. Logs and witnesses are named by their verifier keys.

They change by migrations only; rows are never changed or deleted.
"""

from __future__ import annotations

from sqlalchemy import LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from presspool.server.database import Base

_KEY = String(400)  # a verifier key's text


class ConsortiumRow(Base):
    """An entry of the consortium log."""

    __tablename__ = "consortium"
    __table_args__ = (UniqueConstraint("contract", "round", name="one_entry_a_round"),)

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    contract: Mapped[str] = mapped_column(String(71))
    round: Mapped[int]
    body: Mapped[bytes] = mapped_column(LargeBinary)


class LeavesRow(Base):
    """Leaf hashes of a member's ledger, 32 bytes each, from index `start` on."""

    __tablename__ = "ledger_leaves"

    log: Mapped[str] = mapped_column(_KEY, primary_key=True)
    start: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hashes: Mapped[bytes] = mapped_column(LargeBinary)


class HeadRow(Base):
    """A head of a member's ledger, with that member's signature alone."""

    __tablename__ = "ledger_heads"

    log: Mapped[str] = mapped_column(_KEY, primary_key=True)
    size: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    note: Mapped[bytes] = mapped_column(LargeBinary)


class CosignatureRow(Base):
    """One witness's first cosignature of one head."""

    __tablename__ = "cosignatures"

    log: Mapped[str] = mapped_column(_KEY, primary_key=True)
    size: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    witness: Mapped[str] = mapped_column(_KEY, primary_key=True)
    line: Mapped[str] = mapped_column(Text)


class ForkRow(Base):
    """Proof that a log told two stories."""

    __tablename__ = "fork_proofs"

    log: Mapped[str] = mapped_column(_KEY, primary_key=True)
    finder: Mapped[str] = mapped_column(String(63), primary_key=True)
    proof: Mapped[bytes] = mapped_column(LargeBinary)
