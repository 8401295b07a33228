"""What a run would cost with many more outlets: bytes, seconds, memory and money.

Bytes are those of the messages that would be sent, made and counted. Seconds and memory are
measured at a few small sizes in this very process (`coordinator_points`, `outlet_points`) and laid
out on a line; how far the points lie from it is told beside. What is far beyond the points is an
extrapolation, and is called so.

Invariants:
    * No reader's record is read, and nothing is written.
    * A round's bytes are exact, but for what TLS, headers and signatures add.

Example: `what_if(contract, outlets=10_000).seconds_of_coordinator`.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from presspool.common.base.errors import ContractError
from presspool.common.contract.contract import Contract
from presspool.common.models import adapters
from presspool.common.models.models import build
from presspool.common.wire.flower import to_bytes
from presspool.common.wire.update import TrainTask, pack_task
from presspool.simulations.planning.coordinator_points import (
    made_answer,
    measured_round,
    of_outlets,
)
from presspool.simulations.planning.linear_fit import LinearFit, fitted
from presspool.simulations.planning.outlet_points import measured_step

OUTLETS = 10_000
COUNTS = (16, 32, 64, 128, 256)
SMALLER = (2, 4, 8, 12, 16)  # where an answer is large
LARGE = 1_000_000  # bytes of an answer
MOST_READERS = 32  # of a step that is measured
_HOUR, _GIGABYTE, _KIB = 3600, 1e9, 1024


@dataclass(frozen=True)
class Prices:
    """What things cost, in any one currency; None where nobody said.

    Attributes:
        cpu_hour: an hour of one processor core.
        gigabyte: 10⁹ bytes that the coordinator sends or receives.
    """

    cpu_hour: float | None = None
    gigabyte: float | None = None


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """The cost model of a run.

    Attributes:
        outlets: how many there would be.
        asked: of them in a round, or answers of an aggregation where they do not wait.
        rounds: of the run.
        steps: of a round.
        most_steps: of the whole run at one outlet, at most.
        readers: of a step at the median outlet.
        bytes_down: of one task.
        bytes_contract: of the contract in it.
        bytes_up: of one answer.
        coordinator: outlets to processor seconds of a round.
        memory: outlets to bytes of a round.
        resident: bytes of a process that holds the base model.
        first_step: readers to processor seconds of an outlet's first step.
        step: the same of a later one.
        prices: as they were given.
    """

    outlets: int
    asked: int
    rounds: int
    steps: int
    most_steps: int
    readers: float
    bytes_down: int
    bytes_contract: int
    bytes_up: int
    coordinator: LinearFit
    memory: LinearFit
    resident: int
    first_step: LinearFit
    step: LinearFit
    prices: Prices

    @property
    def traffic(self) -> int:
        """Bytes that the coordinator sends and receives in the whole run."""
        return (self.bytes_down + self.bytes_up) * self.asked * self.rounds

    @property
    def seconds_of_coordinator(self) -> float:
        """Processor seconds of the whole run at the coordinator."""
        return self.rounds * self.coordinator.at(self.asked)

    @property
    def seconds_of_outlet(self) -> float:
        """Processor seconds of the whole run at one outlet, at most."""
        return self._first + self.most_steps * self.step.at(self.readers)

    @property
    def seconds_of_outlets(self) -> float:
        """Processor seconds of the whole run at all outlets together."""
        steps = self.asked * self.rounds * self.steps
        return self.outlets * self._first + steps * self.step.at(self.readers)

    @property
    def _first(self) -> float:
        """Seconds that a first step takes more than a later one."""
        return max(0.0, self.first_step.at(self.readers) - self.step.at(self.readers))

    @property
    def memory_of_coordinator(self) -> float:
        """Bytes that the coordinator needs at most."""
        return self.resident + self.memory.at(self.asked)

    @property
    def money(self) -> dict[str, float]:
        """What the whole run costs, by what it is paid for, as far as there are prices."""
        found = {}
        if (hour := self.prices.cpu_hour) is not None:
            found["coordinator"] = hour * self.seconds_of_coordinator / _HOUR
            found["outlets"] = hour * self.seconds_of_outlets / _HOUR
        if (gigabyte := self.prices.gigabyte) is not None:
            found["traffic"] = gigabyte * self.traffic / _GIGABYTE
        return found

    def to_json(self) -> dict[str, Any]:
        """All figures, and the fits behind them."""
        return {
            "schema": 1,
            "outlets": self.outlets,
            "asked_in_round": self.asked,
            "rounds": self.rounds,
            "bytes_down": self.bytes_down,
            "bytes_contract": self.bytes_contract,
            "bytes_up": self.bytes_up,
            "bytes_of_run": self.traffic,
            "coordinator_seconds_of_round": self.coordinator.at(self.asked),
            "coordinator_seconds_of_run": self.seconds_of_coordinator,
            "coordinator_bytes_of_memory": self.memory_of_coordinator,
            "outlet_seconds_of_step": self.step.at(self.readers),
            "outlet_seconds_of_run": self.seconds_of_outlet,
            "outlets_seconds_of_run": self.seconds_of_outlets,
            "money": self.money,
            "fits": {
                "coordinator_seconds_by_outlets": self.coordinator.to_json(),
                "coordinator_memory_by_outlets": self.memory.to_json(),
                "outlet_first_step_by_readers": self.first_step.to_json(),
                "outlet_step_by_readers": self.step.to_json(),
            },
        }


def pieces_of_work() -> int:
    """How many points are measured, for progress."""
    return len(COUNTS) + len(_sizes(MOST_READERS))


def what_if(
    contract: Contract,
    *,
    outlets: int = OUTLETS,
    prices: Prices | None = None,
    on_point: Callable[[], None] = lambda: None,
) -> WhatIf:
    """The cost model of a run with so many outlets.

    Args:
        contract: a frozen one.
        outlets: how many there would be, with its own populations over and over.
        prices: of processors and traffic.
        on_point: called after each measured point.

    Raises:
        ContractError: a trust model whose rounds have further phases.
    """
    _require_plain(contract)
    many, state = of_outlets(contract, outlets), adapters.read(build(contract))
    text = many.canonical().decode()
    task = TrainTask(contract=text, digest=many.digest, round=1, state=state)
    up = len(made_answer(many, next(iter(many.outlets)), state))
    counts = SMALLER if up > LARGE else COUNTS
    rounds = []
    for count in (n for n in counts if n >= contract.federation.fewest):
        rounds.append((float(count), *measured_round(contract, count, state)))
        on_point()
    readers = contract.plan.expected_batch(int(median(contract.outlets.values())))
    steps = []
    for size in _sizes(readers):
        steps.append((float(size), *measured_step(contract, size)))
        on_point()
    return WhatIf(
        outlets=outlets,
        asked=contract.federation.cohort or contract.federation.buffer or outlets,
        rounds=contract.federation.rounds,
        steps=contract.federation.local_steps,
        most_steps=many.outlet_steps,
        readers=readers,
        bytes_down=len(to_bytes(pack_task(task))),
        bytes_contract=len(text.encode()),
        bytes_up=up,
        coordinator=fitted([(n, seconds) for n, seconds, _ in rounds]),
        memory=fitted([(n, float(peak)) for n, _, peak in rounds]),
        resident=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB,
        first_step=fitted([(n, first) for n, first, _ in steps]),
        step=fitted([(n, later) for n, _, later in steps]),
        prices=prices or Prices(),
    )


def _sizes(readers: float) -> tuple[int, ...]:
    """Readers of the steps that are measured: up to as many as the run has, or fewer."""
    most = max(8, min(MOST_READERS, round(readers)))
    return most // 4, most // 2, most


def _require_plain(contract: Contract) -> None:
    if contract.trust.adds_up:
        raise ContractError(
            "rounds whose answers are seen in their sum alone have no cost model",
            where="[federation] trust",
            expected="local",
            got=contract.federation.trust,
            advice="presspool bench secagg measures what a secure sum costs",
        )
