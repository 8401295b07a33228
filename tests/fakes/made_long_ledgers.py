"""A ledger of many entries, written in one transaction, so that it takes seconds and not minutes.

Example: `make_long(path, 100_000, signer=signer)`.
"""

from __future__ import annotations

from pathlib import Path

from tests.fakes.made_ledgers import JOB, ORIGIN, SETTINGS, SIGNER, identity

from presspool.common.accounting import events
from presspool.common.ledger import entries
from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import Checkpoint
from presspool.common.transparency.log_database import LogDatabase

ROUNDS = 8


def make_long(path: Path, size: int, *, signed_every: int = 10) -> None:
    """Runs of eight rounds, one after the other, and a signed head every few entries."""
    database, edge, day = LogDatabase(path, create=True), merkle.Frontier(), "2026-01-05"
    charge = events.charge(JOB, order=4)
    opened = entries.build(
        entries.Opened, seq=0, day=day, **{**SETTINGS, "epsilon_max": 1e6, "period_epsilon": None}
    )
    with database.writing():
        for seq in range(size):
            run, part = divmod(seq - 1, 2 * ROUNDS + 2)
            entry = opened if seq == 0 else made(seq, run, part, charge)
            body = entry.canonical()
            database.append(seq, body)
            edge.append(merkle.leaf_hash(body))
            if seq % signed_every == 0:
                text = Checkpoint(origin=ORIGIN, size=seq + 1, root=edge.root()).text
                note = notes.Note(text=text).signed(SIGNER.sign(text))
                database.keep_note(seq + 1, note.encode())
    database.close()


def made(seq: int, run: int, part: int, charge: int) -> entries.Entry:
    """The part of a run: reserved, then received and bound by turns, then settled."""
    month = 1 + min(11, run // 500)
    common = {"seq": seq, "day": f"2026-{month:02d}-05"}
    digest, reservation = f"sha256:{run:064x}", identity(run)
    if part == 0:
        return entries.build(
            entries.Reserve,
            **common,
            reservation=reservation,
            run=digest,
            unit="reader",
            period=f"2026-Q{(month + 2) // 3}",
            datasets=(identity(10**6),),
            event=JOB,
            charge=charge,
        )
    if part == 2 * ROUNDS + 1:
        return entries.build(entries.Settle, **common, reservation=reservation)
    number = (part + 1) // 2
    bytes_digest = f"sha256:{seq:064x}"
    if part % 2:
        return entries.build(
            entries.AdapterReceived, **common, run=digest, round=number, digest=bytes_digest
        )
    return entries.build(
        entries.ReleaseIntent,
        **common,
        reservation=reservation,
        round=number,
        steps=25 * number,
        digest=bytes_digest,
    )
