"""The ledger's state: what the entries so far add up to, and which entry may come next.

One set of rules for both sides: the outlet's store asks them before it writes, and a stranger who
verifies an export replays them entry by entry.

Invariants:
    * `apply` verifies everything first, then changes the state once; a refused entry changes
      nothing.
    * What is reserved counts as spent from that entry on. Only a give-back lowers it, only for
      steps past the last release, and only while the run is open: a crash stays spent.
    * One round of a run is released as one sequence of bytes.
    * Claims use the highest caps that were ever in force.

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

from presspool.common.accounting import events
from presspool.common.accounting.filter import Caps, units
from presspool.common.base.errors import BudgetError, EvidenceError, LedgerError
from presspool.common.ledger import entries
from presspool.common.transparency import notes

EXAMPLE_KEY = notes.Signer.load("example.org/o", bytes(32), kind=notes.NOTE).key.text
# Another machine's logarithms may differ in the last digit; nothing more is forgiven.
ROUNDING_UNITS = 4
ROUNDING = 1e-12


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
    """

    entry: entries.Reserve
    charge: int
    steps: int
    executed: int = 0
    released: dict[int, entries.ReleaseIntent] = field(default_factory=dict)
    received: dict[int, str] = field(default_factory=dict)


class LedgerState:
    """State after some entries; read it freely, change it by `apply` only.

    Attributes:
        size: entries so far.
        caps: in force now.
        highest: the weakest caps ever in force, which is what can be claimed.
        spent: charged in all, in `events.UNIT`s.
        key: verifier key that signs checkpoints of this size.
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
        self._refused: set[tuple[str, str]] = set()
        self._settled: set[str] = set()
        self._periods: dict[str, int] = {}
        self._datasets: dict[str, int] = {}
        self._closed: set[str] = set()

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
    def dangling(self) -> Mapping[str, Reservation]:
        """Reservations not settled yet: running, or left by a crash; all of it counts as spent."""
        return MappingProxyType(self._open)

    def reserved(self, run: str) -> tuple[int, str] | None:
        """Index and id of a run's first reservation, settled or not."""
        return self._runs.get(run)

    def refused(self, run: str, reason: entries.Reason) -> bool:
        """Whether the run was refused for this reason before."""
        return (run, reason) in self._refused

    def charged(self, *, period: str | None = None, dataset: str | None = None) -> int:
        """What one period or one data set was charged with, or all (`events.UNIT`s)."""
        if period is not None:
            return self._periods.get(period, 0)
        return self.spent if dataset is None else self._datasets.get(dataset, 0)

    def room(self, epsilon: float) -> int:
        """What a cap of `epsilon` holds in all at this ledger's δ and order (`events.UNIT`s)."""
        return units(epsilon=epsilon, delta=self.opened.delta, order=self.opened.order)

    def apply(self, entry: entries.Entry) -> None:
        """Take the next entry.

        Raises:
            LedgerError: the entry may not come next; the state is as before.
            BudgetError: a reservation that does not fit.
        """
        self.check(entry)
        match entry:
            case entries.Opened():
                self._opened, self._caps, self._highest = entry, entry.caps, entry.caps
                self.key = entry.key
            case entries.Reserve():
                self._open[entry.reservation] = Reservation(
                    entry=entry, charge=entry.charge, steps=entry.event.steps
                )
                self._runs.setdefault(entry.run, (entry.seq, entry.reservation))
                self._charge(entry, entry.charge)
            case entries.ReleaseIntent():
                held = self._open[entry.reservation]
                held.released[entry.round], held.executed = entry, entry.steps
            case entries.GiveBack():
                held = self._open[entry.reservation]
                self._charge(held.entry, entry.charge - held.charge)
                held.charge, held.steps = entry.charge, entry.kept
            case entries.Settle():
                del self._open[entry.reservation]
                self._settled.add(entry.reservation)
            case entries.PolicyChanged():
                self._caps, self._highest = entry.caps, self.highest.highest(entry.caps)
            case entries.KeyRotated():
                self.key = entry.key
            case entries.PeriodClosed():
                self._closed.add(entry.period)
            case entries.AdapterReceived():
                running = self._open.get(self._runs.get(entry.run, (0, ""))[1])
                if running is not None:
                    running.received[entry.round] = entry.digest
            case _:
                self._refused.add((entry.run, entry.reason))
        self.size, self.day = entry.seq + 1, entry.day

    def check(self, entry: entries.Entry) -> None:
        """Raise as `apply` would, and change nothing."""
        _require(entry.seq == self.size, "sequence number", self.size, entry.seq)
        _require(entry.day >= self.day, "day", f"{self.day} or later", entry.day)
        if isinstance(entry, entries.Opened):
            self._check_opened(entry)
            return
        opened = self.opened
        match entry:
            case entries.Reserve():
                self._check_reserve(entry)
            case entries.ReleaseIntent():
                self._check_intent(entry)
            case entries.GiveBack():
                self._check_give_back(entry)
            case entries.Settle():
                self._held(entry.reservation)
            case entries.PolicyChanged():
                entry.caps.check(delta=opened.delta, order=opened.order)
            case entries.KeyRotated():
                self._check_rotation(entry)
            case entries.PeriodClosed():
                self._check_closing(entry)
            case _:
                return  # an adapter that came, or a refusal: nothing is spent

    def _check_opened(self, entry: entries.Opened) -> None:
        _require(self._opened is None, "first entry", "one ledger in one log", "a second opening")
        entry.caps.check(delta=entry.delta, order=entry.order)
        _signing_key(entry.key, entry.origin)

    def _check_reserve(self, entry: entries.Reserve) -> None:
        if entry.unit != self.opened.unit:
            raise BudgetError(
                "unit of privacy",
                reason="unit",
                charge=entry.charge,
                free=0,
                expected=self.opened.unit,
                got=entry.unit,
                advice="a ledger's claim is for one unit; open another ledger for the other",
            )
        if entry.period in self._closed:
            raise BudgetError(
                "period",
                reason="period-closed",
                charge=entry.charge,
                free=0,
                expected="one that is not closed",
                got=entry.period,
                advice="reserve in the current period",
            )
        taken = entry.reservation in self._open or entry.reservation in self._settled
        _require(not taken, "reservation", "a new id", entry.reservation)
        self._check_charge(entry.charge, entry.event)
        self._check_room(entry)

    def _check_room(self, entry: entries.Reserve) -> None:
        caps, period = self.caps, self.charged(period=entry.period)
        limits = [("filter", self.spent, caps.epsilon_max, "the outlet's lifetime filter")]
        if caps.period is not None:
            limits.append(("period", period, caps.period, f"period {entry.period}"))
        if caps.dataset is not None:
            limits += [
                ("dataset", self.charged(dataset=d), caps.dataset, f"data set {d}")
                for d in entry.datasets
            ]
        for reason, spent, epsilon, where in limits:
            room = self.room(epsilon)
            if spent + entry.charge > room:
                raise BudgetError(
                    "the run does not fit",
                    where=where,
                    reason=reason,
                    charge=entry.charge,
                    free=max(0, room - spent),
                    expected=f"at most {max(0, room - spent) * events.UNIT:.6f} nats at order "
                    f"{self.opened.order} ({spent / room:.1%} of ε = {epsilon:g} is used)",
                    got=f"{entry.charge * events.UNIT:.6f} nats",
                    advice="ask for fewer steps, a smaller sampling rate or more noise",
                )

    def _check_charge(self, charge: int, event: events.SelfComposed | events.Composed) -> None:
        right = events.charge(event, order=self.opened.order)
        close = abs(charge - right) <= ROUNDING_UNITS + ROUNDING * right
        _require(close, "charge", f"{right} units for this event", charge)

    def _check_intent(self, entry: entries.ReleaseIntent) -> None:
        held = self._held(entry.reservation)
        before = max(held.released, default=-1)
        _require(entry.round > before, "round", f"one after {before}", entry.round)
        fits = held.executed <= entry.steps <= held.steps
        _require(fits, "executed steps", f"{held.executed} to {held.steps}", entry.steps)

    def _check_give_back(self, entry: entries.GiveBack) -> None:
        held = self._held(entry.reservation)
        fits = held.executed <= entry.kept < held.steps
        _require(fits, "kept steps", f"{held.executed} to {held.steps - 1}", entry.kept)
        cheaper = entry.charge <= held.charge
        _require(cheaper, "charge after giving back", f"at most {held.charge}", entry.charge)
        if entry.kept:
            self._check_charge(entry.charge, held.entry.event.first(entry.kept))
        else:
            _require(entry.charge == 0, "charge", "0 for no steps", entry.charge)

    def _check_rotation(self, entry: entries.KeyRotated) -> None:
        _signing_key(entry.key, self.opened.origin)
        old = notes.parse_key(self.key)
        value = notes.decode_base64(entry.signature, what="signature")
        signature = notes.Signature(name=old.name, key_id=old.id, value=value)
        message = entries.rotation_message(self.opened.origin, entry.key)
        notes.verified(notes.Note(text=message, signatures=(signature,)), [old])

    def _check_closing(self, entry: entries.PeriodClosed) -> None:
        _require(entry.period not in self._closed, "period", "one that is open", entry.period)
        running = sorted(i for i, r in self._open.items() if r.entry.period == entry.period)
        _require(not running, "period", "no open reservations; settle them", ", ".join(running))
        total = self.charged(period=entry.period)
        _require(entry.charge == total, "charge of the period", total, entry.charge)

    def _charge(self, entry: entries.Reserve, amount: int) -> None:
        self.spent += amount
        self._periods[entry.period] = self._periods.get(entry.period, 0) + amount
        for dataset in entry.datasets:
            self._datasets[dataset] = self._datasets.get(dataset, 0) + amount

    def _held(self, reservation: str) -> Reservation:
        held = self._open.get(reservation)
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
