"""The runs of a coordinator: submitted, worked on one after the other, and how each ended.

A run's numbers live in its folder (`presspool.common.runs.run_folder`); here is only what the
coordinator must know to go on after it was killed.

Invariants:
    * A run that was begun is finished, stopped or failed before the next one begins, unless its
      round lacks outlets: then the others have a turn each before it is asked again.
    * Complete is final; a run that was stopped or has failed goes on when submitted again.
    * An outlet that was dropped from a run stays out of it.

Example: `runs.submit("spring-0a1b2c3d4e5f", contract=digest, phase=1800.0)`; `runs.next()`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ForeignKey, String, Text, select
from sqlalchemy.orm import Mapped, mapped_column

from presspool.common.base.errors import InputError
from presspool.server.database import Base, Database

State = Literal["queued", "running", "complete", "stopped", "failed"]
LONGEST_NAME = 40  # letters of a contract's name in its run's id
OPEN: tuple[State, ...] = ("running", "queued")


class RunRow(Base):
    """A run."""

    __tablename__ = "runs"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    contract: Mapped[str] = mapped_column(String(71))
    phase: Mapped[float]
    state: Mapped[str] = mapped_column(String(16), index=True)
    submitted: Mapped[float]
    ended: Mapped[float | None]
    note: Mapped[str] = mapped_column(Text)


class DroppedRow(Base):
    """An outlet that the operator left out of a run."""

    __tablename__ = "dropped"

    run: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    outlet: Mapped[str] = mapped_column(String(63), primary_key=True)
    at: Mapped[float]
    reason: Mapped[str] = mapped_column(Text)


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A run as it stands.

    Attributes:
        id: its name here, and its folder's.
        contract: digest of its contract.
        phase: seconds that outlets have for a round.
        state: queued, running, complete, stopped or failed.
        submitted: POSIX seconds.
        ended: POSIX seconds, or None.
        note: why it waits, or why it ended.
    """

    id: str
    contract: str
    phase: float
    state: str
    submitted: float
    ended: float | None
    note: str


class Runs:
    """The table of runs.

    Args:
        database: where it is.
        clock: POSIX seconds.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    def submit(self, run: str, *, contract: str, phase: float) -> None:
        """Queue a run whose folder is ready; one that failed or was stopped is queued again.

        Raises:
            StorageError: the database refuses.
        """
        with self._database.writing() as session:
            session.merge(
                RunRow(
                    id=run,
                    contract=contract,
                    phase=phase,
                    state="queued",
                    submitted=self._clock(),
                    ended=None,
                    note="",
                )
            )

    def next(self, *, after: Collection[str] = ()) -> Submitted | None:
        """The run to work on: the one that was begun, else the oldest that waits.

        Args:
            after: runs that had their turn.
        """
        with self._database.reading() as session:
            for state in OPEN:
                others = select(RunRow).where(RunRow.state == state, RunRow.id.not_in(after))
                row = session.scalars(others.order_by(RunRow.submitted).limit(1)).first()
                if row is not None:
                    return _read(row)
        return None

    def get(self, run: str) -> Submitted:
        """One run.

        Args:
            run: its id, its contract's name, or the first letters of its id where no other has
                them.

        Raises:
            InputError: there is none of this name, or there are several.
        """
        runs = self.all()
        exact = [one for one in runs if run == one.id or _name(one) == run[:LONGEST_NAME]]
        found = exact or [one for one in runs if run and one.id.startswith(run)]
        if len(found) == 1:
            return found[0]
        known = ", ".join(one.id for one in (found or runs)[-5:])
        raise InputError(
            "several runs are called so" if found else "no such run",
            where="RUN",
            expected=f"one of {known}" if found else known or "a submitted run",
            got=ascii(run),
        )

    def all(self) -> list[Submitted]:
        """All runs, oldest first."""
        with self._database.reading() as session:
            rows = session.scalars(select(RunRow).order_by(RunRow.submitted)).all()
        return [_read(row) for row in rows]

    def mark(self, run: str, state: State, note: str = "") -> bool:
        """Say how a run stands.

        Returns:
            False where it had ended already, which stays.
        """
        with self._database.writing() as session:
            row = session.get_one(RunRow, run)
            if row.state not in OPEN:
                return False
            row.state, row.note = state, note
            row.ended = None if state in OPEN else self._clock()
        return True

    def drop(self, run: str, outlet: str, reason: str) -> None:
        """Leave an outlet's answers out of a run's open round and all later ones, for good.

        Raises:
            InputError: the run is complete, or the outlet was dropped before.
        """
        with self._database.writing() as session:
            state = session.get_one(RunRow, run).state
            if state == "complete" or session.get(DroppedRow, (run, outlet)) is not None:
                raise InputError(
                    "nothing to drop",
                    where=run,
                    expected="a run that is not complete, and an outlet that is still in it",
                    got=f"{outlet}, run {state}",
                )
            session.add(DroppedRow(run=run, outlet=outlet, at=self._clock(), reason=reason))

    def dropped(self, run: str) -> frozenset[str]:
        """Who was dropped from a run."""
        wanted = select(DroppedRow.outlet).where(DroppedRow.run == run)
        with self._database.reading() as session:
            return frozenset(session.scalars(wanted))


def _name(run: Submitted) -> str:
    return run.id.rpartition("-")[0]


def _read(row: RunRow) -> Submitted:
    return Submitted(
        id=row.id,
        contract=row.contract,
        phase=row.phase,
        state=row.state,
        submitted=row.submitted,
        ended=row.ended,
        note=row.note,
    )
