"""One frozen model of everything that reports, cards, pages and metrics show of an outlet.

How to use it: `sources.read(paths)` turns ledger exports, ledgers, outlets' homes and run folders
into an `evidence.Evidence`, which holds an `OutletReading` for each ledger; a live page feeds a
`History` with new entries and asks `projection.reading` for an `OutletReading` now and then. Show
its fields, never sums of your own: what is here, and in `evidence`, is all that may be shown.

Invariants:
    * Every number can be recomputed from the export: it is in an entry, or the sum or the ratio of
      such numbers. Each record names its entry (`seq`, the index in the ledger).
    * Budgets are whole `events.UNIT`s, as in the ledger; shares are of the lifetime cap in force.
    * What an outlet's files do not say is None or empty, never a guess: `Approval.by` is "" where
      the approval names nobody.
    * Texts from files (names of outlets, runs, people) are never markup; whoever prints escapes.

Example:
    >>> half = Room(cap=8.0, used=50, room=100)
    >>> half.share, half.free, half.times(20)
    (0.5, 50, 2)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from presspool.common.accounting import events
from presspool.common.ledger import entries
from presspool.common.ledger.entries import KeyRotated, Opened, PolicyChanged, Refusal
from presspool.common.ledger.frozen_data import DataFrozen
from presspool.common.ledger.history import SpendPoint
from presspool.common.ledger.restored_entries import Restored
from presspool.common.wire.approval import Approval


@dataclass(frozen=True, kw_only=True)
class Room:
    """How much of one cap is used.

    Attributes:
        cap: ε of the cap in force, at the ledger's δ and order.
        used: charged under it so far, in `events.UNIT`s.
        room: what it holds in all, in the same units.
    """

    cap: float
    used: int
    room: int

    @property
    def share(self) -> float:
        """The share of the cap that is used; above 1 where the cap was lowered afterwards."""
        return self.used / self.room

    @property
    def free(self) -> int:
        """What still fits, in `events.UNIT`s."""
        return max(0, self.room - self.used)

    def times(self, charge: int) -> int:
        """How many charges of this size still fit."""
        return self.free // max(1, charge)


@dataclass(frozen=True, kw_only=True)
class ReservedRun:
    """One run that the ledger admitted.

    Attributes:
        seq: entry of the reservation.
        day: of that entry.
        run: digest of the contract.
        event: what the run's code does, composed, as it was reserved.
        reserved: what was reserved, in `events.UNIT`s.
        charge: what stays charged after give-backs.
        kept: steps that stay charged.
        executed: steps that the last release declared.
        stated: the contract's own ε, with accountant and version; None where none was stated, and
            in a non-private ledger.
        releases: the rounds whose exact bytes were bound before they were sent.
        received: the rounds for which an aggregated adapter arrived.
        given_back: entry of the last give-back, or None.
        settled: entry that ended the run; None while the reservation is open.
        last: the newest entry about this run.
        superseded: open although a later run was reserved: two pools, or a crash.
    """

    seq: int
    day: str
    run: str
    reservation: str
    period: str
    datasets: tuple[str, ...]
    event: events.SelfComposed | events.Composed
    reserved: int
    charge: int
    kept: int
    executed: int
    stated: entries.Stated | None
    releases: tuple[entries.ReleaseIntent, ...]
    received: tuple[entries.AdapterReceived, ...]
    given_back: int | None
    settled: int | None
    last: int
    superseded: bool

    @property
    def open(self) -> bool:
        """Whether the reservation is open: it counts as spent all the same."""
        return self.settled is None

    @property
    def dangling(self) -> bool:
        """Open, and another run came after it."""
        return self.open and self.superseded

    @property
    def phases(self) -> tuple[events.SelfComposed, ...]:
        """The event's phases, in their order."""
        return events.phases_of(self.event)


@dataclass(frozen=True, kw_only=True)
class PeriodReading:
    """One period of an outlet.

    Attributes:
        name: "2026-Q1", say.
        used: charged under it, in `events.UNIT`s.
        room: under its own cap; None where periods have none.
        of_lifetime: its part of the lifetime filter.
        runs: entries of its reservations.
        closed: entry that closed it, or None.
    """

    name: str
    used: int
    room: Room | None
    of_lifetime: float
    runs: tuple[int, ...]
    closed: int | None


@dataclass(frozen=True, kw_only=True)
class HeadReading:
    """The head that the reading ends with.

    Attributes:
        size: entries that the newest signed head covers; 0 where nothing is signed.
        root: its root hash in hex; "" where nothing is signed.
        cosigned: verifier key of each witness whose cosignature was checked, and the largest size
            that it cosigned. Which of the keys to believe is for who reads this to know.
        signed_heads: how many signed heads were checked or are kept.
        key_known: the ledger's first key was compared with one from elsewhere.
        heads_known: heads from elsewhere that the entries agree with.
    """

    size: int
    root: str
    cosigned: Mapping[str, int]
    signed_heads: int
    key_known: bool = False
    heads_known: int = 0


@dataclass(frozen=True, kw_only=True)
class OutletReading:
    """Everything that one outlet's ledger says.

    Attributes:
        source: name of the file that it was read from.
        verified: an export whose hashes, rules and signatures were checked; False for a ledger's
            own file, which was replayed by the same rules.
        origin: the ledger's name.
        order: α of its filter.
        delta: its δ.
        entries: how many there are.
        day: of the last one; "" for none.
        claim: the ε that the ledger claims: the highest lifetime cap that was ever in force; None
            for a non-private ledger, which claims nothing.
        no_claim: why nothing is claimed; "" where something is.
        lifetime: the filter.
        datasets: data-set id to the room under the cap for data sets, or None without such a cap.
        refusals: its entries, as the next two.
        caps: every change, the opening first.
        keys: every key, the first at entry 0.
        points: the budget over time.
        approvals: what the outlet's people approved; only an outlet's home has them.
        head: the newest signed head.
        restored: the entries by which it went on from an older copy.
        data: the entries of frozen data.
    """

    source: str
    verified: bool
    origin: str
    unit: Literal["reader", "record"]
    order: int
    delta: float
    entries: int
    day: str
    claim: float | None
    no_claim: str
    lifetime: Room
    periods: tuple[PeriodReading, ...]
    datasets: Mapping[str, Room | None]
    runs: tuple[ReservedRun, ...]
    refusals: tuple[Refusal, ...]
    caps: tuple[Opened | PolicyChanged, ...]
    keys: tuple[Opened | KeyRotated, ...]
    points: tuple[SpendPoint, ...]
    approvals: tuple[Approval, ...]
    head: HeadReading
    restored: tuple[Restored, ...] = ()
    data: tuple[DataFrozen, ...] = ()

    @property
    def name(self) -> str:
        """The last part of the ledger's name: the outlet's own name where it was made by us."""
        return self.origin.rpartition("/")[2]

    @property
    def reserved(self) -> int:
        """Charged by open reservations, in `events.UNIT`s; counts as spent."""
        return sum(run.charge for run in self.runs if run.open)

    @property
    def settled(self) -> int:
        """Charged by runs that are over."""
        return self.lifetime.used - self.reserved

    @property
    def dangling(self) -> tuple[ReservedRun, ...]:
        """Open reservations that a later run has overtaken."""
        return tuple(run for run in self.runs if run.dangling)

    @property
    def more(self) -> int | None:
        """How many further runs that ask for what the last one asked still fit; None for no run.

        Under the lifetime filter and, where that has a cap, the last run's period and data sets.
        """
        if not self.runs:
            return None
        last = self.runs[-1]
        period = next(p for p in self.periods if p.name == last.period)
        # After a closed period the next run counts under another one.
        under = None if period.closed is not None else period.room
        rooms = [self.lifetime, under, *(self.datasets[d] for d in last.datasets)]
        return min(room.times(last.reserved) for room in rooms if room is not None)

    def approval(self, run: str) -> Approval | None:
        """A person's approval of the run, where the outlet's files have one."""
        return next((a for a in self.approvals if a.run == run), None)
