"""An outlet's part of the model, entry by entry: what the ledger's own rules do not keep.

`Book` knows what may come next and forgets a run that is over; a report must show it. A `Replay`
takes the same entries, in their order, and can be asked for an `OutletReading` at any time.

Invariants:
    * It checks nothing: entries come from a verified export or an opened ledger.
    * Its sums are those of the `Book` (a test compares them after every entry).

Example:
    >>> from presspool.common.ledger.ledger_state import EXAMPLE_KEY
    >>> replay = Replay()
    >>> replay.take(entries.build(entries.Opened, seq=0, day="2026-01-05", origin="example.org/o",
    ...     unit="reader", order=4, epsilon_max=8.0, delta=1e-5, key=EXAMPLE_KEY))
    >>> outlet = replay.reading(source="o.export", verified=True)
    >>> outlet.name, outlet.claim, outlet.lifetime.share
    ('o', 8.0, 0.0)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from presspool.common.accounting.filter import units
from presspool.common.audit.evidence.ledger_view import (
    CapsChange,
    Head,
    KeyChange,
    OutletReading,
    PeriodReading,
    RefusedRun,
    Release,
    ReservedRun,
    Room,
    SpendPoint,
)
from presspool.common.base.errors import LedgerError
from presspool.common.ledger import entries
from presspool.common.wire.approval import Approval

UNSIGNED = Head(size=0, root="", cosigned={}, signed_heads=0)


@dataclass
class _Period:
    used: int = 0
    runs: list[int] = field(default_factory=list)
    closed: int | None = None


@dataclass
class _Run:
    entry: entries.Reserve
    charge: int
    kept: int
    last: int
    executed: int = 0
    releases: list[Release] = field(default_factory=list)
    received: list[tuple[int, int, str]] = field(default_factory=list)
    given_back: int | None = None
    settled: int | None = None

    def reading(self, *, newest: bool) -> ReservedRun:
        entry = self.entry
        return ReservedRun(
            seq=entry.seq,
            day=entry.day,
            run=entry.run,
            reservation=entry.reservation,
            period=entry.period,
            datasets=entry.datasets,
            event=entry.event,
            reserved=entry.charge,
            charge=self.charge,
            kept=self.kept,
            executed=self.executed,
            stated=entry.stated,
            releases=tuple(self.releases),
            received=tuple(self.received),
            given_back=self.given_back,
            settled=self.settled,
            last=self.last,
            superseded=self.settled is None and not newest,
        )


class Replay:
    """What some entries add up to, with the index of each."""

    def __init__(self) -> None:
        self.size = 0
        self._day = ""
        self._opened: entries.Opened | None = None
        self._used = self._lifetime = 0
        self._highest = 0.0
        self._runs: dict[str, _Run] = {}
        self._newest: dict[str, str] = {}
        self._periods: dict[str, _Period] = {}
        self._datasets: dict[str, int] = {}
        self._refusals: list[RefusedRun] = []
        self._caps: list[CapsChange] = []
        self._keys: list[KeyChange] = []
        self._points: list[SpendPoint] = []

    @property
    def opened(self) -> entries.Opened:
        """The first entry; raises `LedgerError` before there is one."""
        if self._opened is None:
            raise LedgerError("ledger", expected="a first entry of kind 'opened'", got="none")
        return self._opened

    def take(self, entry: entries.Entry) -> None:
        """Take the next entry."""
        match entry:
            case entries.Opened():
                self._opened = entry
                self._keys.append(KeyChange(seq=entry.seq, day=entry.day, key=entry.key))
                self._take_caps(entry)
            case entries.PolicyChanged():
                self._take_caps(entry)
            case entries.Reserve():
                self._take_reserve(entry)
            case entries.ReleaseIntent() | entries.GiveBack() | entries.Settle():
                self._take_progress(entry)
            case entries.AdapterReceived():
                self._take_adapter(entry)
            case entries.Refusal():
                self._refusals.append(
                    RefusedRun(
                        seq=entry.seq,
                        day=entry.day,
                        run=entry.run,
                        reason=entry.reason,
                        charge=entry.charge,
                        free=entry.free,
                    )
                )
            case entries.KeyRotated():
                self._keys.append(KeyChange(seq=entry.seq, day=entry.day, key=entry.key))
            case entries.PeriodClosed():
                self._periods.setdefault(entry.period, _Period()).closed = entry.seq
        self.size, self._day = entry.seq + 1, entry.day

    def reading(
        self,
        *,
        source: str,
        verified: bool,
        head: Head = UNSIGNED,
        approvals: Iterable[Approval] = (),
    ) -> OutletReading:
        """Everything so far.

        Args:
            source: name of the file, to be shown.
            verified: whether hashes and signatures were checked.
            head: the newest signed head.
            approvals: of the outlet's home.

        Raises:
            LedgerError: no entry yet.
        """
        opened, caps = self.opened, self._caps[-1]
        room = self._lifetime
        last = next(reversed(self._runs), "")
        return OutletReading(
            source=source,
            verified=verified,
            origin=opened.origin,
            unit=opened.unit,
            order=opened.order,
            delta=opened.delta,
            entries=self.size,
            day=self._day,
            claim=self._highest,
            lifetime=Room(cap=caps.epsilon_max, used=self._used, room=room),
            periods=tuple(self._period(name, room) for name in self._periods),
            datasets={d: self._capped(caps.dataset, used) for d, used in self._datasets.items()},
            runs=tuple(run.reading(newest=name == last) for name, run in self._runs.items()),
            refusals=tuple(self._refusals),
            caps=tuple(self._caps),
            keys=tuple(self._keys),
            points=tuple(self._points),
            approvals=tuple(approvals),
            head=head,
        )

    def _take_caps(self, entry: entries.Opened | entries.PolicyChanged) -> None:
        self._caps.append(
            CapsChange(
                seq=entry.seq,
                day=entry.day,
                epsilon_max=entry.epsilon_max,
                period=entry.period_epsilon,
                dataset=entry.dataset_epsilon,
            )
        )
        self._highest = max(self._highest, entry.epsilon_max)
        self._lifetime = self._room(entry.epsilon_max)
        self._point(entry)

    def _take_reserve(self, entry: entries.Reserve) -> None:
        self._runs[entry.reservation] = _Run(
            entry=entry, charge=entry.charge, kept=entry.event.steps, last=entry.seq
        )
        self._newest[entry.run] = entry.reservation
        self._periods.setdefault(entry.period, _Period()).runs.append(entry.seq)
        self._charge(entry, entry, entry.charge)

    def _take_progress(
        self, entry: entries.ReleaseIntent | entries.GiveBack | entries.Settle
    ) -> None:
        run = self._runs[entry.reservation]
        if isinstance(entry, entries.ReleaseIntent):
            run.executed = entry.steps
            run.releases.append(
                Release(
                    seq=entry.seq,
                    day=entry.day,
                    round=entry.round,
                    steps=entry.steps,
                    digest=entry.digest,
                )
            )
        elif isinstance(entry, entries.GiveBack):
            self._charge(entry, run.entry, entry.charge - run.charge)
            run.charge, run.kept, run.given_back = entry.charge, entry.kept, entry.seq
        else:
            run.settled = entry.seq
        run.last = entry.seq

    def _take_adapter(self, entry: entries.AdapterReceived) -> None:
        run = self._runs.get(self._newest.get(entry.run, ""))
        if run is not None and run.settled is None:
            run.received.append((entry.seq, entry.round, entry.digest))
            run.last = entry.seq

    def _charge(self, entry: entries.Entry, run: entries.Reserve, amount: int) -> None:
        self._used += amount
        self._periods[run.period].used += amount
        for dataset in run.datasets:
            self._datasets[dataset] = self._datasets.get(dataset, 0) + amount
        self._point(entry)

    def _point(self, entry: entries.Entry) -> None:
        self._points.append(
            SpendPoint(seq=entry.seq, day=entry.day, used=self._used, room=self._lifetime)
        )

    def _period(self, name: str, lifetime: int) -> PeriodReading:
        kept = self._periods[name]
        return PeriodReading(
            name=name,
            used=kept.used,
            room=self._capped(self._caps[-1].period, kept.used),
            of_lifetime=kept.used / lifetime,
            runs=tuple(kept.runs),
            closed=kept.closed,
        )

    def _capped(self, cap: float | None, used: int) -> Room | None:
        return None if cap is None else Room(cap=cap, used=used, room=self._room(cap))

    def _room(self, epsilon: float) -> int:
        return units(epsilon=epsilon, delta=self.opened.delta, order=self.opened.order)
