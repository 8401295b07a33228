"""Which entry may come next in a ledger: everything is checked here before anything changes.

Invariants:
    * Nothing is changed, whether an entry is refused or not.
    * What a book cannot afford is a `BudgetError`; everything else that may not stand here is a
      `LedgerError` that names what was expected.

Example: `check(book, entry)` returns, or raises as `book.apply(entry)` would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from presspool.common.accounting import events
from presspool.common.base.errors import BudgetError, EvidenceError, LedgerError
from presspool.common.ledger import entries, restored_entries
from presspool.common.ledger.entry_base import rotation_message
from presspool.common.transparency import notes

if TYPE_CHECKING:
    from presspool.common.ledger.ledger_state import LedgerState, Reservation

# Another machine's logarithms may differ in the last digit; nothing more is forgiven.
ROUNDING_UNITS = 4
ROUNDING = 1e-12


def check(book: LedgerState, entry: entries.Entry) -> None:
    """Raise as `apply` would, and change nothing."""
    _require(entry.seq == book.size, "sequence number", book.size, entry.seq)
    _require(entry.day >= book.day, "day", f"{book.day} or later", entry.day)
    if isinstance(entry, entries.Opened):
        _check_opened(book, entry)
        return
    opened = book.opened
    if book.lost and not isinstance(entry, restored_entries.Lost | restored_entries.Restored):
        raise LedgerError(
            "entries of this ledger are lost, and not paid for yet",
            expected="an entry 'restored'",
            got=entry.kind,
            advice="presspool outlet budget restored --charge period",
        )
    match entry:
        case entries.Reserve():
            _check_reserve(book, entry)
        case entries.ReleaseIntent():
            _check_intent(book, entry)
        case entries.GiveBack():
            _check_give_back(book, entry)
        case entries.Settle():
            _held(book, entry.reservation)
        case entries.PolicyChanged():
            entry.caps.check(delta=opened.delta, order=opened.order)
        case entries.KeyRotated():
            _check_rotation(book, entry)
        case entries.NonPrivate():
            first = book.non_private is None and not book.began
            _require(first, "non-private", "before any run, and once", f"entry {entry.seq}")
        case entries.PeriodClosed():
            _check_closing(book, entry)
        case restored_entries.Lost():
            same = not book.lost or entry.day == book.day
            _require(same, "day of a lost entry", book.day, entry.day)
        case restored_entries.Restored():
            restored_entries.check_restored(book, entry)
            right = restored_entries.owed(book, entry.basis, entry.periods)
            _require(_close(entry.charge, right), "charge", f"{right} units", entry.charge)
        case _:
            return  # an adapter that came, a refusal, or frozen data: nothing is spent


def _check_opened(book: LedgerState, entry: entries.Opened) -> None:
    _require(book.size == 0, "first entry", "one ledger in one log", "a second opening")
    entry.caps.check(delta=entry.delta, order=entry.order)
    _signing_key(entry.key, entry.origin)


def _check_reserve(book: LedgerState, entry: entries.Reserve) -> None:
    if entry.unit != book.opened.unit:
        raise BudgetError(
            "unit of privacy",
            reason="unit",
            charge=entry.charge,
            free=0,
            expected=book.opened.unit,
            got=entry.unit,
            advice="a ledger's claim is for one unit; open another ledger for the other",
        )
    if entry.period in book.closed:
        raise BudgetError(
            "period",
            reason="period-closed",
            charge=entry.charge,
            free=0,
            expected="one that is not closed",
            got=entry.period,
            advice="reserve in the current period",
        )
    if entry.purpose == "reader-counts":
        plain = (
            isinstance(entry.event, events.SelfComposed) and entry.event.event.type == "gaussian"
        )
        _require(plain, "event of counted readers", "Gaussians, not sampled", entry.event.type)
    taken = book.taken(entry.reservation)
    _require(not taken, "reservation", "a new id", entry.reservation)
    _check_charge(book, entry.charge, entry.event)
    alone = events.charge_alone(entry.event, order=book.opened.order)
    same = alone == entry.alone or (alone and entry.alone and _close(entry.alone, alone))
    _require(bool(same), "charge alone", f"{alone} units for this event", entry.alone)
    _check_room(book, entry)


def _check_room(book: LedgerState, entry: entries.Reserve) -> None:
    caps, period = book.caps, book.charged(period=entry.period)
    limits = [("filter", book.spent, caps.epsilon_max, "the outlet's lifetime filter")]
    if caps.period is not None:
        limits.append(("period", period, caps.period, f"period {entry.period}"))
    if caps.dataset is not None:
        limits += [
            ("dataset", book.charged(dataset=d), caps.dataset, f"data set {d}")
            for d in entry.datasets
        ]
    for reason, spent, epsilon, where in limits:
        room = book.room(epsilon)
        if spent + entry.charge > room:
            raise BudgetError(
                "the run does not fit",
                where=where,
                reason=reason,
                charge=entry.charge,
                free=max(0, room - spent),
                expected=f"at most {max(0, room - spent) * events.UNIT:.6f} nats at order "
                f"{book.opened.order} ({spent / room:.1%} of ε = {epsilon:g} is used)",
                got=f"{entry.charge * events.UNIT:.6f} nats",
                advice="ask for fewer steps, a smaller sampling rate or more noise",
            )


def _check_charge(
    book: LedgerState, charge: int, event: events.SelfComposed | events.Composed
) -> None:
    right = events.charge(event, order=book.opened.order)
    _require(_close(charge, right), "charge", f"{right} units for this event", charge)


def _close(charge: int, right: int) -> bool:
    return abs(charge - right) <= ROUNDING_UNITS + ROUNDING * right


def _check_intent(book: LedgerState, entry: entries.ReleaseIntent) -> None:
    held = _held(book, entry.reservation)
    before = max(held.released, default=-1)
    _require(entry.round > before, "round", f"one after {before}", entry.round)
    fits = held.executed <= entry.steps <= held.steps
    _require(fits, "executed steps", f"{held.executed} to {held.steps}", entry.steps)


def _check_give_back(book: LedgerState, entry: entries.GiveBack) -> None:
    held = _held(book, entry.reservation)
    fits = held.executed <= entry.kept < held.steps
    _require(fits, "kept steps", f"{held.executed} to {held.steps - 1}", entry.kept)
    cheaper = entry.charge <= held.charge
    _require(cheaper, "charge after giving back", f"at most {held.charge}", entry.charge)
    if entry.kept:
        _check_charge(book, entry.charge, held.entry.event.first(entry.kept))
    else:
        _require(entry.charge == 0, "charge", "0 for no steps", entry.charge)


def _check_rotation(book: LedgerState, entry: entries.KeyRotated) -> None:
    _signing_key(entry.key, book.opened.origin)
    old = notes.parse_key(book.key)
    value = notes.decode_base64(entry.signature, what="signature")
    signature = notes.Signature(name=old.name, key_id=old.id, value=value)
    message = rotation_message(book.opened.origin, entry.key)
    notes.verified(notes.Note(text=message, signatures=(signature,)), [old])


def _check_closing(book: LedgerState, entry: entries.PeriodClosed) -> None:
    _require(entry.period not in book.closed, "period", "one that is open", entry.period)
    running = sorted(i for i, r in book.dangling.items() if r.entry.period == entry.period)
    _require(not running, "period", "no open reservations; settle them", ", ".join(running))
    total = book.charged(period=entry.period)
    _require(entry.charge == total, "charge of the period", total, entry.charge)


def _held(book: LedgerState, reservation: str) -> Reservation:
    held = book.dangling.get(reservation)
    if held is None:
        raise LedgerError("reservation", expected="one that is open", got=reservation)
    return held


def _signing_key(text: str, origin: str) -> None:
    try:
        key = notes.parse_key(text)
    except EvidenceError as error:
        raise LedgerError("signing key", got=str(error)) from None
    right = key.name == origin and key.kind == notes.NOTE
    _require(right, "signing key", f"a note key named {origin}", text)


def _require(holds: bool, what: str, expected: object, got: object) -> None:
    if not holds:
        raise LedgerError(what, expected=expected, got=got)
