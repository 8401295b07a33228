"""Refused calls as counters: a row an outlet, code, run and day, however many calls there were.

Invariants:
    * Nothing that a caller invents is stored: a run or round counts only where the outlet was given
      a task of it.
    * The first refusal of its kind is written at once, further ones at most every `EVERY` seconds;
      a kill of the coordinator loses no more than what came since.

Example: `counts.add("north-post", "late", run="r1", round=3)`; `counts.found(run="r1")`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from presspool.server.database import Database
from presspool.server.transport.mailbox_schema import RefusalRow, TaskRow

EVERY = 2.0
_DAY = 86_400.0
_Kind = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class RefusedCall:
    """Calls that were refused on one day.

    Attributes:
        at: when the newest was, in seconds since 1970.
        outlet: whose.
        code: why.
        run: the run, where it is one of the outlet's.
        round: the newest of its rounds that a call named, or 0.
        count: how many calls.
    """

    at: float
    outlet: str
    code: str
    run: str = ""
    round: int = 0
    count: int = 1


class RefusalCounts:
    """The table of refusals; any number of threads may use it.

    Args:
        database: where it is.
        writing: a transaction of the one writer.
        now: seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        writing: Callable[[], AbstractContextManager[Session]],
        now: Callable[[], float],
    ) -> None:
        self._database, self._writing, self._now = database, writing, now
        self._lock = threading.Lock()
        self._more: dict[_Kind, int] = {}  # that are not in the database yet
        self._written: dict[_Kind, float] = {}

    def add(self, outlet: str, code: str, *, run: str, round: int) -> None:
        """Count a refusal; raises `StorageError` where the database refuses."""
        run, round = self._known(outlet, run, round)
        kind, now = (outlet, code, run), self._now()
        with self._lock:
            self._more[kind] = self._more.get(kind, 0) + 1
            if now - self._written.get(kind, -EVERY) < EVERY:
                return
            self._write(kind, now, round)

    def found(self, *, run: str | None = None) -> list[RefusedCall]:
        """What was refused, of all runs or one, oldest first; without what another process holds.

        Raises:
            StorageError: the database refuses.
        """
        with self._lock:
            for kind in list(self._more):
                self._write(kind, self._now(), 0)
        wanted = select(RefusalRow).order_by(RefusalRow.id)
        if run is not None:
            wanted = wanted.where(RefusalRow.run == run)
        with self._database.reading() as session:
            rows = session.scalars(wanted).all()
        return [
            RefusedCall(
                at=row.at,
                outlet=row.outlet,
                code=row.code,
                run=row.run,
                round=row.round,
                count=row.count,
            )
            for row in rows
        ]

    def _write(self, kind: _Kind, now: float, round: int) -> None:
        outlet, code, run = kind
        of_kind = (RefusalRow.outlet == outlet, RefusalRow.code == code, RefusalRow.run == run)
        today = select(RefusalRow).where(*of_kind, RefusalRow.at >= now - now % _DAY)
        with self._writing() as session:
            row = session.scalars(today.order_by(RefusalRow.id.desc()).limit(1)).first()
            if row is None:
                row = RefusalRow(outlet=outlet, code=code, run=run, round=0, count=0)
                session.add(row)
            row.count, row.at = row.count + self._more[kind], now
            row.round = round or row.round
        del self._more[kind]
        self._written[kind] = now

    def _known(self, outlet: str, run: str, round: int) -> tuple[str, int]:
        """Of a run and a round that a call named, what the outlet has ever been given."""
        mine = select(TaskRow.id).where(TaskRow.outlet == outlet, TaskRow.run == run).limit(1)
        with self._database.reading() as session:
            if not run or session.scalar(mine) is None:
                return "", 0
            given = session.scalar(mine.where(TaskRow.round == round)) is not None
        return run, round if given else 0
