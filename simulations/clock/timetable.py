"""When each round is on a simulation's clock, and what becomes of each outlet's task in it.

All of it follows from the contract and public draws, so it is known before anything trains: which
tasks are worth their work, in which order, and whether the run can come to its end at all.

A round is as a coordinator's on a network (`presspool.server.transport.grpc_grid`). Its tasks lie
there until everybody has answered, or until the deadline. Who has not answered then is missing, if
enough others have; else the round stays open and those that are missing are asked again, with what
was answered kept. Who still works on a round that is over works it off before the next.

Invariants:
    * An outlet works on a round once: an answer that is late for one deadline is the answer for the
      next, and none is made twice. Only a task that never came back is done again.
    * The same contract and table give the same timetable, on every machine.

Example: `timetable(contract, table)[0].virtual.late`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from presspool.common.contract.cohorts import cohort_of
from presspool.common.contract.contract import Contract
from presspool.common.runs.clock_table import ClockTable
from presspool.common.runs.virtual_round import VirtualRound
from presspool.simulations.clock.buffered_rounds import buffered_rounds
from presspool.simulations.clock.pace import Pace, fails, paces
from presspool.simulations.clock.timed_round import LONGEST, TimedRound, never


def timetable(
    contract: Contract, table: ClockTable, *, known: Collection[str] = ()
) -> tuple[TimedRound, ...]:
    """Every round of a run.

    Args:
        contract: the frozen contract.
        table: the clock's.
        known: further outlets that a trace may have.

    Raises:
        DataError: a trace that cannot be read, or is not of these outlets.
        InputError: a round never has enough answers.
    """
    speeds = paces(contract, table, known=known)
    if contract.federation.buffer is not None:
        return buffered_rounds(contract, table, speeds)
    return tuple(_rounds(contract, table, speeds))


def _rounds(
    contract: Contract, table: ClockTable, speeds: Mapping[str, Pace]
) -> Iterator[TimedRound]:
    now, free = 0.0, dict.fromkeys(speeds, 0.0)
    for number in range(1, contract.federation.rounds + 1):
        asked = {name: speeds[name] for name in cohort_of(contract, number)}
        round_ = _OpenRound(number, table, asked, free)
        timed = round_.closed(now, fewest=contract.trust.fewest(contract))
        free |= round_.working
        now = timed.virtual.ended
        yield timed


class _OpenRound:
    """A round while its outlets are asked.

    Args:
        number: from 1.
        table: the clock's.
        speeds: outlet to pace, of those that are asked.
        free: outlet to the moment from which on it can work on this round.
    """

    def __init__(
        self, number: int, table: ClockTable, speeds: Mapping[str, Pace], free: Mapping[str, float]
    ) -> None:
        self._number, self._table, self._speeds, self._free = number, table, speeds, free
        self.working: dict[str, float] = {}  # outlet to the moment of its answer

    def closed(self, begun: float, *, fewest: int) -> TimedRound:
        """The round, asked again and again until enough have answered."""
        opened, attempt, deadline = begun, 1, self._table.deadline
        while opened - begun < LONGEST:
            until = opened + deadline
            failed = self._ask(opened, until, attempt)
            answered = [name for name, at in self.working.items() if at <= until]
            if len(answered) >= fewest:
                return self._timed(begun, until, answered, failed, attempt)
            idle = int((self._next(until) - until) // deadline)  # deadlines that change nothing
            opened, attempt = until + idle * deadline, attempt + 1 + idle
        raise never(self._number, fewest=fewest, got=len(answered))

    def _next(self, after: float) -> float:
        """The first moment from which on somebody begins, or has an answer."""
        begins = (
            pace.begins(max(after, self._free[name]))
            for name, pace in self._speeds.items()
            if name not in self.working
        )
        return min([*begins, *(at for at in self.working.values() if at > after)], default=after)

    def _ask(self, opened: float, until: float, attempt: int) -> int:
        """Let everybody who can take up the task do so; returns how many never come back."""
        failed = 0
        for name, pace in self._speeds.items():
            if name in self.working:
                continue
            begins = pace.begins(max(opened, self._free[name]))
            if begins >= until:
                continue
            if fails(self._table, name, self._number, attempt):
                failed += 1
            else:
                self.working[name] = pace.ends(begins)
        return failed

    def _timed(
        self, begun: float, until: float, answered: list[str], failed: int, tries: int
    ) -> TimedRound:
        asked, late = len(self._speeds), len(self.working) - len(answered)
        everybody = len(answered) == asked
        virtual = VirtualRound(
            begun=begun,
            ended=max(self.working.values()) if everybody else until,
            asked=asked,
            answered=len(answered),
            late=late,
            failed=failed,
            away=asked - len(self.working) - failed,
            tries=tries,
        )
        vain = dict.fromkeys(self.working.keys() - set(answered), self._number)
        return TimedRound(virtual=virtual, counted=dict.fromkeys(answered, self._number), vain=vain)
