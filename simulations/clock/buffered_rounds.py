"""The timetable of outlets that do not wait for each other (`presspool.common.contract.buffers`).

Events follow from public speeds and hours alone: an outlet starts from the newest adapter when it
is there; its answer goes into the buffer, or is dropped as too old; a full buffer is an aggregation
and lets those that are in it start anew. A task that never comes back is given out again after a
deadline. So who answers what, and from which adapter, is known before anything trains.

Invariants:
    * An outlet has each aggregation's task once at most, and one answer in a buffer at most.
    * Every task that is worked on is counted once, or is in vain.

Example: `presspool.simulations.clock.timetable.timetable(contract, table)` takes these rounds where
a contract has a buffer.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping

from presspool.common.contract.contract import Contract
from presspool.common.runs.clock_table import ClockTable
from presspool.common.runs.virtual_round import VirtualRound
from presspool.simulations.clock.pace import Pace, fails
from presspool.simulations.clock.timed_round import LONGEST, TimedRound, never

_ARRIVES, _STARTS = 0, 1  # at one moment, in this order


def buffered_rounds(
    contract: Contract, table: ClockTable, speeds: Mapping[str, Pace]
) -> tuple[TimedRound, ...]:
    """Every aggregation of a run.

    Raises:
        InputError: a buffer is never full.
    """
    pool = _Pool(contract, table, speeds)
    while len(pool.ended) < contract.federation.rounds:
        pool.go_on()
    return pool.rounds()


class _Pool:
    """Outlets at work: a queue of moments, and what is in the buffer.

    Args:
        contract: the run's.
        table: the clock's.
        speeds: outlet to pace.

    Attributes:
        ended: the moment of each aggregation so far.
    """

    def __init__(self, contract: Contract, table: ClockTable, speeds: Mapping[str, Pace]) -> None:
        self._size, self._stale = (
            contract.federation.buffer or 1,
            contract.federation.staleness or 0,
        )
        self._table, self._speeds, self.ended = table, speeds, list[float]()
        self._queue: list[tuple[float, int, str, int]] = []  # moment, what, outlet, round
        self._buffer: dict[str, int] = {}
        self._counted: list[dict[str, int]] = []
        self._worked = defaultdict[int, set[str]](set)  # round to who worked on its task
        self._told = defaultdict[int, Counter[str]](Counter)  # aggregation to what happened
        self._attempts = Counter[str]()
        for name in speeds:
            self._start(name, 0.0)

    def go_on(self) -> None:
        """The next thing that happens."""
        now, what, name, number = heapq.heappop(self._queue)
        if now - (self.ended[-1] if self.ended else 0.0) > LONGEST:
            raise never(self._now, fewest=self._size, got=len(self._buffer))
        self._arrive(name, number, now) if what == _ARRIVES else self._work(name, now)

    def rounds(self) -> tuple[TimedRound, ...]:
        """The timetable."""
        begins = [0.0, *self.ended]
        used = {pair for counted in self._counted for pair in counted.items()}
        return tuple(
            TimedRound(
                virtual=_virtual(begins[at], begins[at + 1], self._size, self._told[at + 1]),
                counted=counted,
                vain={
                    name: at + 1
                    for name in sorted(self._worked[at + 1])
                    if (name, at + 1) not in used
                },
            )
            for at, counted in enumerate(self._counted)
        )

    @property
    def _now(self) -> int:
        """The aggregation that is waited for, from 1."""
        return len(self.ended) + 1

    def _start(self, name: str, at: float) -> None:
        heapq.heappush(self._queue, (self._speeds[name].begins(at), _STARTS, name, 0))

    def _work(self, name: str, now: float) -> None:
        self._attempts[name] += 1
        if fails(self._table, name, self._now, self._attempts[name]):
            self._told[self._now]["failed"] += 1
            self._start(name, now + self._table.deadline)
            return
        self._worked[self._now].add(name)
        heapq.heappush(self._queue, (self._speeds[name].ends(now), _ARRIVES, name, self._now))

    def _arrive(self, name: str, number: int, now: float) -> None:
        if self._now - number > self._stale:
            self._told[self._now]["late"] += 1
            self._start(name, now)
            return
        self._buffer[name] = number
        if len(self._buffer) == self._size:
            self._counted.append(self._buffer)
            self.ended.append(now)
            for done in sorted(self._buffer):
                self._start(done, now)
            self._buffer = {}


def _virtual(begun: float, ended: float, answered: int, told: Counter[str]) -> VirtualRound:
    late, failed = told["late"], told["failed"]
    return VirtualRound(
        begun=begun,
        ended=ended,
        asked=answered + late + failed,
        answered=answered,
        late=late,
        failed=failed,
        away=0,
    )
