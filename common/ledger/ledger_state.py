"""The ledger's state: what the entries so far add up to.

`LedgerState.apply` is the only place where entries are added up, and one set of rules (`rules`)
says which may come next, for both sides: the outlet's store asks them before it writes, and a
stranger who verifies an export replays them entry by entry. A `LedgerState` forgets runs that are
over; a `History`, for recomputations and reports, is one that does not.

Invariants:
    * `apply` verifies everything first, then changes the state once; a refused entry changes
      nothing.
    * What is reserved counts as spent from that entry on. Only a give-back lowers it, only for
      steps past the last release, and only while the run is open: a crash stays spent.
    * One round of a run is released as one sequence of bytes.
    * Claims use the highest caps that were ever in force; a ledger that is non-private, or may
      be, has no claim: a lost entry from before the first run can have been the one that says so.
    * No cap forgets what is lost: a data set first seen later may have been trained on in it.

Example:
    >>> book = LedgerState()
    >>> book.apply(entries.build(entries.Opened, seq=0, day="2026-01-05", origin="example.org/o",
    ...     unit="reader", order=4, epsilon_max=8.0, delta=1e-5, key=EXAMPLE_KEY))
    >>> book.apply(entries.build(entries.Settle, seq=1, day="2026-01-05", reservation="0" * 32))
    Traceback (most recent call last):
    ...
    presspool.common.base.errors.LedgerError: reservation:
      expected one that is open
      got      00000000000000000000000000000000
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from presspool.common.accounting.filter import Caps, units
from presspool.common.base.errors import LedgerError
from presspool.common.ledger import entries, restored_entries, rules
from presspool.common.ledger.frozen_data import DataFrozen
from presspool.common.transparency import notes

NO_CLAIM = (
    "NON-PRIVATE: the noise could be drawn again, so nothing is claimed and nobody is protected."
)
IN_DOUBT = (
    "COUNTS AS NON-PRIVATE: entries from before the first run that is known are lost, and may say "
    "that the noise could be drawn again, so nothing is claimed."
)
EXAMPLE_KEY = notes.Signer.load("example.org/o", bytes(32), kind=notes.NOTE).key.text


@dataclass(kw_only=True)
class Reservation:
    """One admitted run.

    Attributes:
        entry: as it was admitted.
        charge: what it costs now, after give-backs.
        steps: what it may execute in all.
        executed: steps that the last release intent declared.
        released: release intents by round.
        received: digest of the adapter that each begun round started from, the newest.
        arrivals: every adapter that came while this was the run's newest reservation, and open.
        given_back: entry of the last give-back, or None.
        settled: entry that ended the run; None while the reservation is open.
        last: the newest entry about this run.
    """

    entry: entries.Reserve
    charge: int
    steps: int
    executed: int = 0
    released: dict[int, entries.ReleaseIntent] = field(default_factory=dict)
    received: dict[int, str] = field(default_factory=dict)
    arrivals: list[entries.AdapterReceived] = field(default_factory=list)
    given_back: int | None = None
    settled: int | None = None
    last: int = 0


class LedgerState:
    """State after some entries; read it freely, change it by `apply` only.

    Attributes:
        size: entries so far.
        caps: in force now.
        highest: the weakest caps ever in force, which is what can be claimed.
        spent: charged in all, in `events.UNIT`s.
        key: verifier key that signs checkpoints of this size.
        periods: name to what was charged under it, in the order of their first entries.
        datasets: id to what was charged under it, in the same order.
        closed: period to the entry that closed it.
        lost: entries of which only the leaf is known and that are not paid for yet.
        known: day of the last entry that is known.
        restored: the entries by which it went on from an older copy.
        non_private: entry that says that nobody is protected; None where there is none.
        frozen: commitments to frozen data.
        in_doubt: entry from which on nobody can know whether a lost one said that, or None.
    """

    def __init__(self) -> None:
        self.size = 0
        self.day = ""
        self.spent = 0
        self.key = ""
        self._opened: entries.Opened | None = None
        self._caps: Caps | None = None
        self._highest: Caps | None = None
        self._open: dict[str, Reservation] = {}
        self._runs: dict[str, tuple[int, str]] = {}
        self._newest: dict[str, str] = {}
        self._refused: set[tuple[str, str]] = set()
        self._settled: set[str] = set()
        self.periods: dict[str, int] = {}
        self.datasets: dict[str, int] = {}
        self.closed: dict[str, int] = {}
        self.lost, self.known = 0, ""
        self.restored: list[restored_entries.Restored] = []
        self._restored_charge = 0  # what a data set that is new here may have been charged with
        self.non_private: int | None = None
        self.in_doubt: int | None = None
        self.frozen: set[str] = set()

    @property
    def opened(self) -> entries.Opened:
        """The first entry; raises `LedgerError` before there is one."""
        if self._opened is None:
            raise LedgerError("ledger", expected="a first entry of kind 'opened'", got="none")
        return self._opened

    @property
    def caps(self) -> Caps:
        """The caps in force now."""
        assert self._caps is not None or self.opened  # raises before the first entry
        return self._caps or self.opened.caps

    @property
    def highest(self) -> Caps:
        """The weakest caps that were ever in force."""
        return self._highest or self.caps

    @property
    def claim(self) -> float | None:
        """ε of everything that was ever released under this ledger; None for no bound at all."""
        return self.highest.epsilon_max if self.unclaimed is None else None

    @property
    def unclaimed(self) -> int | None:
        """The entry for which nothing is claimed; None where something is."""
        return self.in_doubt if self.non_private is None else self.non_private

    @property
    def no_claim(self) -> str:
        """Why nothing is claimed, for people; "" where something is."""
        if self.unclaimed is None:
            return ""
        return IN_DOUBT if self.non_private is None else NO_CLAIM

    @property
    def began(self) -> bool:
        """Whether a run was ever reserved."""
        return bool(self._runs)

    @property
    def dangling(self) -> Mapping[str, Reservation]:
        """Reservations not settled yet: running, or left by a crash; all of it counts as spent."""
        return MappingProxyType(self._open)

    def reserved(self, run: str) -> tuple[int, str] | None:
        """Index and id of a run's first reservation, settled or not."""
        return self._runs.get(run)

    def refused(self, run: str, reason: entries.Reason) -> bool:
        """Whether the run was refused for this reason before."""
        return (run, reason) in self._refused

    def taken(self, reservation: str) -> bool:
        """Whether there has been a reservation of this id."""
        return reservation in self._open or reservation in self._settled

    def charged(self, *, period: str | None = None, dataset: str | None = None) -> int:
        """What one period or one data set was charged with, or all (`events.UNIT`s)."""
        if period is not None:
            return self.periods.get(period, 0)
        if dataset is not None:
            return self.datasets.get(dataset, self._restored_charge)
        return self.spent

    def room(self, epsilon: float) -> int:
        """What a cap of `epsilon` holds in all at this ledger's δ and order (`events.UNIT`s)."""
        return units(epsilon=epsilon, delta=self.opened.delta, order=self.opened.order)

    def check(self, entry: entries.Entry) -> None:
        """Raise as `apply` would, and change nothing."""
        rules.check(self, entry)

    def apply(self, entry: entries.Entry) -> Reservation | None:
        """Take the next entry.

        Returns:
            The reservation that the entry is about, as it is now, if there is one.

        Raises:
            LedgerError: the entry may not come next; the state is as before.
            BudgetError: a reservation that does not fit.
        """
        self.check(entry)
        held = self._apply(entry)
        if held is not None:
            held.last = entry.seq
        self.size, self.day = entry.seq + 1, entry.day
        if not isinstance(entry, restored_entries.Lost):
            self.known = entry.day
        return held

    def _apply(self, entry: entries.Entry) -> Reservation | None:
        match entry:
            case entries.Reserve():
                return self._reserve(entry)
            case entries.ReleaseIntent() | entries.GiveBack() | entries.Settle():
                return self._go_on(entry, self._open[entry.reservation])
            case entries.AdapterReceived():
                return self._receive(entry)
            case entries.Opened():
                self._opened, self._caps, self._highest = entry, entry.caps, entry.caps
                self.key = entry.key
            case entries.PolicyChanged():
                self._caps, self._highest = entry.caps, self.highest.highest(entry.caps)
            case entries.KeyRotated():
                self.key = entry.key
            case entries.NonPrivate():
                self.non_private = entry.seq
            case entries.PeriodClosed():
                self.closed[entry.period] = entry.seq
                self.periods.setdefault(entry.period, 0)
            case DataFrozen():
                self.frozen.add(entry.commitment)
            case restored_entries.Lost():
                self.lost += 1
                self._doubt(entry.seq)
            case restored_entries.Restored():
                self._restore(entry)
            case _:
                self._refused.add((entry.run, entry.reason))
        return None

    def _restore(self, entry: restored_entries.Restored) -> None:
        """Charge what cannot be known; nothing that was open in the copy is ever trained again."""
        for period in entry.periods:
            left = restored_entries.left_of(self, period)
            self.periods[period] = self.periods.get(period, 0) + left
        for dataset in self.datasets:
            self.datasets[dataset] += entry.charge
        self._restored_charge += entry.charge
        self.spent, self.lost = self.spent + entry.charge, 0
        self.restored.append(entry)
        if entry.basis == "moved":
            return
        self._doubt(entry.seq)  # some may be lost of which no head, and so no leaf, was published
        for reservation, held in self._open.items():
            held.settled = held.last = entry.seq
            self._settled.add(reservation)
        self._open.clear()

    def _doubt(self, seq: int) -> None:
        """What is lost may have been `NonPrivate`, unless a run came first, which forbids it."""
        if self.in_doubt is None and not self.began:
            self.in_doubt = seq

    def _reserve(self, entry: entries.Reserve) -> Reservation:
        held = Reservation(entry=entry, charge=entry.charge, steps=entry.event.steps)
        self._open[entry.reservation] = held
        self._runs.setdefault(entry.run, (entry.seq, entry.reservation))
        self._newest[entry.run] = entry.reservation
        self._charge(entry, entry.charge)
        return held

    def _go_on(
        self, entry: entries.ReleaseIntent | entries.GiveBack | entries.Settle, held: Reservation
    ) -> Reservation:
        match entry:
            case entries.ReleaseIntent():
                held.released[entry.round], held.executed = entry, entry.steps
            case entries.GiveBack():
                self._charge(held.entry, entry.charge - held.charge)
                held.charge, held.steps, held.given_back = entry.charge, entry.kept, entry.seq
            case _:
                held.settled = entry.seq
                del self._open[entry.reservation]
                self._settled.add(entry.reservation)
        return held

    def _receive(self, entry: entries.AdapterReceived) -> Reservation | None:
        """What a round started from is asked of a run's first reservation, shown at its newest."""
        first = self._open.get(self._runs.get(entry.run, (0, ""))[1])
        if first is not None:
            first.received[entry.round] = entry.digest
        newest = self._open.get(self._newest.get(entry.run, ""))
        if newest is not None:
            newest.arrivals.append(entry)
        return newest

    def _charge(self, entry: entries.Reserve, amount: int) -> None:
        self.spent += amount
        self.periods[entry.period] = self.periods.get(entry.period, 0) + amount
        for dataset in entry.datasets:
            self.datasets[dataset] = self.charged(dataset=dataset) + amount
