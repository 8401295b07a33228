"""A ledger's state that forgets nothing: runs that are over, and the budget over time.

Invariants:
    * It is the state of the same entries and adds nothing up itself: what it holds are the
      state's own reservations and entries as they came.
    * Its memory grows with the ledger; who only asks what may come next keeps a `LedgerState`.

Example:
    >>> from presspool.common.ledger.ledger_state import EXAMPLE_KEY
    >>> history = History()
    >>> history.apply(entries.build(entries.Opened, seq=0, day="2026-01-05", unit="reader", order=4,
    ...     origin="example.org/o", epsilon_max=8.0, delta=1e-5, key=EXAMPLE_KEY))
    >>> [(point.seq, point.used) for point in history.points], len(history.runs)
    ([(0, 0)], 0)
"""

from __future__ import annotations

from dataclasses import dataclass

from presspool.common.ledger import entries
from presspool.common.ledger.frozen_data import DataFrozen
from presspool.common.ledger.ledger_state import LedgerState, Reservation
from presspool.common.ledger.restored_entries import Restored

_CHANGES = (  # what changes the budget
    entries.Opened,
    entries.PolicyChanged,
    entries.Reserve,
    entries.GiveBack,
    Restored,
)


@dataclass(frozen=True, kw_only=True)
class SpendPoint:
    """The budget after one entry that changed it.

    Attributes:
        used: charged so far, in `events.UNIT`s.
        room: of the lifetime cap in force then.
    """

    seq: int
    day: str
    used: int
    room: int

    @property
    def share(self) -> float:
        """The used share of the filter."""
        return self.used / self.room


class History(LedgerState):
    """The state after some entries, and how it came to that.

    Attributes:
        runs: id of every reservation, open or over, to what became of it.
        capped: the entries that set caps, the opening first.
        keyed: the entries that set the key, the opening first.
        refusals: the entries that refused a run.
        data: the entries of frozen data.
        points: the budget over time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.runs: dict[str, Reservation] = {}
        self.capped: list[entries.Opened | entries.PolicyChanged] = []
        self.keyed: list[entries.Opened | entries.KeyRotated] = []
        self.refusals: list[entries.Refusal] = []
        self.data: list[DataFrozen] = []
        self.points: list[SpendPoint] = []

    def apply(self, entry: entries.Entry) -> Reservation | None:
        """As the state does, and keep it."""
        held = super().apply(entry)
        if held is not None:
            self.runs[held.entry.reservation] = held
        if isinstance(entry, entries.Opened | entries.PolicyChanged):
            self.capped.append(entry)
        if isinstance(entry, entries.Opened | entries.KeyRotated):
            self.keyed.append(entry)
        if isinstance(entry, entries.Refusal):
            self.refusals.append(entry)
        if isinstance(entry, DataFrozen):
            self.data.append(entry)
        if isinstance(entry, _CHANGES):
            room = self.room(self.caps.epsilon_max)
            self.points.append(SpendPoint(seq=entry.seq, day=entry.day, used=self.spent, room=room))
        return held
