"""Entries and ledgers that several ledger tests share."""

from __future__ import annotations

import base64
from typing import Any

from presspool.common.accounting import events
from presspool.common.ledger import entries
from presspool.common.ledger.entry_base import rotation_message
from presspool.common.ledger.ledger_state import LedgerState
from presspool.common.ledger.store import Ledger
from presspool.common.transparency import notes

ORIGIN = "example.org/outlet"
SIGNER = notes.Signer.load(ORIGIN, b"k" * 32, kind=notes.NOTE)
WITNESSES = [
    notes.Signer.load(f"example.org/peer{i}", bytes([i]) * 32, kind=notes.COSIGNATURE)
    for i in (1, 2, 3)
]
RUN = "sha256:" + "a" * 64
DIGEST = "sha256:" + "d" * 64
DAY = "2026-01-05"
JOB = events.SelfComposed(
    event=events.PoissonSampled(rate=0.02, event=events.Gaussian(noise_multiplier=1.2)), count=200
)
SETTINGS: dict[str, Any] = {
    "origin": ORIGIN,
    "unit": "reader",
    "order": 4,
    "epsilon_max": 8.0,
    "delta": 1e-5,
    "key": SIGNER.key.text,
}


def identity(number: int) -> str:
    """A stand-in for a random id."""
    return f"{number:032x}"


def opened(**changes: Any) -> LedgerState:
    """A book with its first entry."""
    book = LedgerState()
    book.apply(entries.build(entries.Opened, seq=0, day=DAY, **{**SETTINGS, **changes}))
    return book


def following(book: LedgerState, kind: Any, **parts: Any) -> Any:
    """The next entry for a book, not applied."""
    return entries.build(kind, **{"seq": book.size, "day": DAY, **parts})


def reserve(book: LedgerState, number: int = 1, **changes: Any) -> entries.Reserve:
    """A reservation of the standard job, not applied."""
    event = changes.get("event", JOB)
    parts: dict[str, Any] = {
        "reservation": identity(number),
        "run": RUN,
        "unit": "reader",
        "period": "2026-Q1",
        "datasets": (identity(10**6),),
        "event": event,
        "charge": events.charge(event, order=book.opened.order),
    }
    made: entries.Reserve = following(book, entries.Reserve, **{**parts, **changes})
    return made


def rotation(book: LedgerState, signer: notes.Signer, new: notes.Signer) -> entries.KeyRotated:
    """A change of keys that `signer` vouches for, not applied."""
    message = rotation_message(book.opened.origin, new.key.text)
    signature = base64.b64encode(signer.sign(message).value).decode()
    made: entries.KeyRotated = following(
        book, entries.KeyRotated, key=new.key.text, signature=signature
    )
    return made


def close_period(ledger: Ledger, period: str) -> None:
    """No more runs in a period. Nobody types this yet; ledgers that say it are read."""
    charge = ledger.refresh().charged(period=period)
    ledger._write(lambda: ledger._next(entries.PeriodClosed, period=period, charge=charge))


def rotate_key(ledger: Ledger, old: notes.Signer, new: notes.VerifierKey) -> None:
    """Let `new` sign from here on. Nobody types this yet; ledgers that say it are read."""
    message = rotation_message(ledger.book.opened.origin, new.text)
    signature = base64.b64encode(old.sign(message).value).decode()
    parts = {"key": new.text, "signature": signature}
    ledger._write(lambda: ledger._next(entries.KeyRotated, **parts))
