"""A ledger that was restored from an older copy: what it says, and what it has to charge.

The entries that came after the copy are gone, but their leaf hashes are not: the coordinator has
them, under a head that this ledger signed. So each stands in the restored ledger as a `Lost` entry,
whose leaf is the hash of the entry that was there. The tree is the old one, every head that was
ever signed still holds, and nobody can tell another history. Behind them stands one `Restored`
entry, which charges the most that can have been spent in what is lost.

Invariants:
    * After a lost entry nothing may come but another one, or the `Restored` entry.
    * What is charged is not the operator's to choose: it follows from the caps and the basis. The
      basis is the operator's word, and every audit shows it.
    * A lost entry can have raised the lifetime cap, which is the claim, and no hash can show that:
      that it did not is part of the operator's word on both bases that charge.
    * Runs that were open in the copy are over: rounds of theirs may have been released since.

Example:
    >>> periods_between("2026-11-30", "2027-01-02", like="2026-Q4")
    ('2026-Q4', '2027-Q1')
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field

from presspool.common.accounting import events
from presspool.common.base.errors import LedgerError
from presspool.common.ledger.entry_base import Charge, LedgerEntry, Period
from presspool.common.transparency import merkle

if TYPE_CHECKING:
    from presspool.common.ledger.ledger_state import LedgerState

Basis = Literal["moved", "period", "lifetime"]
BASES: Final[dict[Basis, str]] = {
    "moved": "nothing was lost: the outlet was stopped before the copy was made",
    "period": "the caps on periods, and what a period is, were not changed since the copy, and "
    "the lifetime cap was not raised",
    "lifetime": "nothing is known of what came after the copy, but that the lifetime cap was not "
    "raised",
}
"""What an operator says by each basis."""
_LOST = re.compile(
    rb'\{"day":"[0-9-]{10}","kind":"lost","leaf":"([0-9a-f]{64})","seq":[0-9]{1,16}\}'
)
_MOST_PERIODS = 1200


class Lost(LedgerEntry):
    """An entry that is gone; its leaf hash, which is known, is this entry's leaf as well."""

    kind: Literal["lost"] = "lost"
    leaf: Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z")]


class Restored(LedgerEntry):
    """The ledger goes on from an older copy, and pays for what it cannot know.

    Attributes:
        lost: how many entries are gone, all directly before this one.
        basis: what the operator says of them, which bounds what they can have charged.
        periods: whose budget counts as spent, in order; none unless the basis is "period".
        charge: what is charged, in `events.UNIT`s.
    """

    kind: Literal["restored"] = "restored"
    lost: Annotated[int, Field(ge=0, lt=2**53)]
    basis: Basis
    periods: Annotated[tuple[Period, ...], Field(max_length=_MOST_PERIODS)]
    charge: Charge


def leaf_of(body: bytes) -> bytes:
    """The leaf hash of an entry's bytes: their own hash, or that of the entry that was lost."""
    lost = _LOST.fullmatch(body)
    return bytes.fromhex(lost[1].decode()) if lost else merkle.leaf_hash(body)


def periods_between(first: str, last: str, *, like: str) -> tuple[str, ...]:
    """The periods from one day to another, named as `like` is: years, halves, quarters, months."""
    begin, end = date.fromisoformat(first), date.fromisoformat(last)
    months = range(12 * begin.year + begin.month - 1, 12 * end.year + end.month)
    return tuple(dict.fromkeys(_name(*divmod(month, 12), like=like) for month in months))


def _name(year: int, month: int, *, like: str) -> str:
    kind = like[5:6]
    if not kind:
        return f"{year:04d}"
    if kind in "QH":
        return f"{year:04d}-{kind}{month // (3 if kind == 'Q' else 6) + 1}"
    return f"{year:04d}-{month + 1:02d}"


def owed(book: LedgerState, basis: Basis, periods: tuple[str, ...]) -> int:
    """The most that can have been charged in what is lost, in `events.UNIT`s.

    Raises:
        LedgerError: the basis bounds nothing here.
    """
    if basis == "moved":
        return 0
    left = max(0, book.room(book.caps.epsilon_max) - book.spent)
    if basis == "lifetime":
        return left
    return min(left, sum(left_of(book, period) for period in periods))


def left_of(book: LedgerState, period: str) -> int:
    """What a period's cap has left; raises `LedgerError` where there is no such cap."""
    cap = book.caps.period
    if cap is None:
        raise LedgerError(
            "periods have no cap here",
            expected="a cap on periods, which bounds what can have been spent",
            got="none",
            advice="only the basis 'lifetime' holds for this ledger",
        )
    return max(0, book.room(cap) - book.charged(period=period))


def restored_sentence(found: Sequence[Restored]) -> str:
    """What an audit adds of a ledger that was restored; "" for one that never was."""
    said = [
        f"; it was restored from an older copy on {entry.day}: {entry.lost} entries are lost, "
        f"{entry.charge * events.UNIT:.4f} nats are charged for them, and its operator says that "
        f"{BASES[entry.basis]}"
        for entry in found
    ]
    return "".join(said)


def users(runs: int, found: Sequence[Restored]) -> str:
    """Who uses a ledger's budget, and the verb: its runs, and what is charged for lost entries."""
    named = f"{runs} run{'s' * (runs != 1)}"
    if any(entry.charge for entry in found):
        return f"{named} and what was lost use"
    return f"{named} use{'s' * (runs == 1)}"


def check_restored(book: LedgerState, entry: Restored) -> None:
    """Raise `LedgerError` unless this may come next and its periods are those of what is lost.

    The charge is compared by `rules`, which knows how much rounding is forgiven.
    """
    expected: tuple[str, ...] = ()
    if entry.basis == "period":
        like = entry.periods[0] if entry.periods else book.known[:4]
        expected = periods_between(book.known, entry.day, like=like)
    for holds, what, right, got in (
        (entry.lost == book.lost, "lost entries", book.lost, entry.lost),
        (not book.lost or entry.day == book.day, "day", book.day, entry.day),
        (entry.basis != "moved" or not book.lost, "basis", "one that charges", entry.basis),
        (entry.periods == expected, "periods", expected, entry.periods),
    ):
        if not holds:
            raise LedgerError(what, expected=right, got=got)
