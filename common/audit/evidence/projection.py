"""An outlet's part of the model, out of its ledger's history.

Invariants:
    * It checks nothing and adds nothing up: a `History` has done both.
    * It looks at the history as it is now; what it returns does not change with it.

Example:
    >>> from presspool.common.ledger import entries
    >>> from presspool.common.ledger.ledger_state import EXAMPLE_KEY
    >>> history = History()
    >>> history.apply(entries.build(entries.Opened, seq=0, day="2026-01-05", unit="reader", order=4,
    ...     origin="example.org/o", epsilon_max=8.0, delta=1e-5, key=EXAMPLE_KEY))
    >>> outlet = reading(history, source="o.export", verified=True)
    >>> outlet.name, outlet.claim, outlet.lifetime.share
    ('o', 8.0, 0.0)
"""

from __future__ import annotations

from collections.abc import Iterable

from presspool.common.audit.evidence.ledger_view import (
    HeadReading,
    OutletReading,
    PeriodReading,
    ReservedRun,
    Room,
)
from presspool.common.ledger.history import History
from presspool.common.ledger.ledger_state import Reservation
from presspool.common.wire.approval import Approval

UNSIGNED = HeadReading(size=0, root="", cosigned={}, signed_heads=0)


def reading(
    history: History,
    *,
    source: str,
    verified: bool,
    head: HeadReading = UNSIGNED,
    approvals: Iterable[Approval] = (),
) -> OutletReading:
    """Everything so far.

    Args:
        history: of a verified export or of an opened ledger.
        source: name of the file, to be shown.
        verified: whether hashes and signatures were checked.
        head: the newest signed head.
        approvals: of the outlet's home.

    Raises:
        LedgerError: no entry yet.
    """
    opened, caps = history.opened, history.caps
    last = next(reversed(history.runs), "")
    return OutletReading(
        source=source,
        verified=verified,
        origin=opened.origin,
        unit=opened.unit,
        order=opened.order,
        delta=opened.delta,
        entries=history.size,
        day=history.day,
        claim=history.claim,
        no_claim=history.no_claim,
        lifetime=_room(history, caps.epsilon_max, history.spent),
        periods=_periods(history),
        datasets={
            name: _capped(history, caps.dataset, used) for name, used in history.datasets.items()
        },
        runs=tuple(
            _run(held, newest=name == last, private=history.claim is not None)
            for name, held in history.runs.items()
        ),
        refusals=tuple(history.refusals),
        caps=tuple(history.capped),
        keys=tuple(history.keyed),
        points=tuple(history.points),
        approvals=tuple(approvals),
        head=head,
        restored=tuple(history.restored),
        data=tuple(history.data),
    )


def _run(held: Reservation, *, newest: bool, private: bool) -> ReservedRun:
    entry = held.entry
    return ReservedRun(
        seq=entry.seq,
        day=entry.day,
        run=entry.run,
        reservation=entry.reservation,
        period=entry.period,
        datasets=entry.datasets,
        event=entry.event,
        reserved=entry.charge,
        charge=held.charge,
        kept=held.steps,
        executed=held.executed,
        stated=entry.stated if private else None,
        releases=tuple(held.released.values()),
        received=tuple(held.arrivals),
        given_back=held.given_back,
        settled=held.settled,
        last=held.last,
        superseded=held.settled is None and not newest,
    )


def _periods(history: History) -> tuple[PeriodReading, ...]:
    runs: dict[str, list[int]] = {name: [] for name in history.periods}
    for held in history.runs.values():
        runs[held.entry.period].append(held.entry.seq)
    lifetime = history.room(history.caps.epsilon_max)
    return tuple(
        PeriodReading(
            name=name,
            used=used,
            room=_capped(history, history.caps.period, used),
            of_lifetime=used / lifetime,
            runs=tuple(runs[name]),
            closed=history.closed.get(name),
        )
        for name, used in history.periods.items()
    )


def _capped(history: History, cap: float | None, used: int) -> Room | None:
    return None if cap is None else _room(history, cap, used)


def _room(history: History, cap: float, used: int) -> Room:
    return Room(cap=cap, used=used, room=history.room(cap))
