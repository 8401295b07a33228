"""What a run has handed out so far, and what that costs outlets at most.

Invariants:
    * A round that was handed out counts for each outlet of its cohort, whole or not.
    * Nobody remembers which rounds were handed out again, so each attempt counts for everybody.

Example: `HandedOut(contract=contract, number=3, rounds=4).steps("daily-bugle")`.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Self

from presspool.common.contract.cohorts import rounds_of
from presspool.common.contract.contract import Contract
from presspool.common.runs.result_file import RESULT_FILE, read_result
from presspool.common.runs.results import OutletResult, PooledFigures
from presspool.common.runs.run_folder import RunFolder
from presspool.server.rounds.round_checkpoint import RoundCheckpoint


@dataclass(frozen=True, kw_only=True)
class HandedOut:
    """What was handed out.

    Attributes:
        contract: the run's.
        number: the newest round that was handed out; 0 for none.
        rounds: how many were, each as often as it was.
    """

    contract: Contract
    number: int
    rounds: int

    @classmethod
    def before(cls, folder: RunFolder, point: RoundCheckpoint, contract: Contract) -> Self:
        """What was handed out before a run is begun, or continued."""
        whole = len(point.rounds) - 1
        if not (folder.path / RESULT_FILE).exists():
            return cls(contract=contract, number=whole, rounds=whole)
        said, local = read_result(folder.path), contract.federation.local_steps
        number = min(len(said.rounds), contract.federation.rounds)
        once = cls(contract=contract, number=number, rounds=number)
        again = max(o.steps - once.steps(o.name) for o in said.outlets) // local
        return cls(contract=contract, number=whole, rounds=max(whole, number + again))

    def next(self, number: int, *, free: bool) -> Self:
        """A round is handed out; one that costs nothing again counts once."""
        rounds = max(self.rounds + (not free), number)
        return type(self)(contract=self.contract, number=number, rounds=rounds)

    def steps(self, outlet: str) -> int:
        """Private steps that an outlet was asked for, at most."""
        own = bisect_right(rounds_of(self.contract, outlet), self.number)
        return (own + self.rounds - self.number) * self.contract.federation.local_steps

    @property
    def most_steps(self) -> int:
        """Of the outlet that was asked for most."""
        return max(map(self.steps, self.contract.outlets))

    def epsilon(self, steps: int) -> float | None:
        """ε of so many steps, which may be more than the plan's; None where nothing is noised."""
        if not self.contract.plan.protected:
            return None
        return self.contract.trust.spent(self.contract, steps)

    @property
    def largest_epsilon(self) -> float | None:
        """The largest ε that an outlet may have spent."""
        return self.epsilon(self.most_steps)

    def outlets(self) -> tuple[OutletResult, ...]:
        """What it cost each outlet's readers, by name."""
        plan, weights = self.contract.plan, self.contract.weights()
        return tuple(
            OutletResult(
                name=name,
                population=population,
                weight=weights[name],
                unit=plan.unit,
                steps=self.steps(name),
                epsilon=self.epsilon(self.steps(name)),
                delta=plan.delta if plan.protected else None,
            )
            for name, population in sorted(self.contract.outlets.items())
        )

    def pooled(self) -> PooledFigures | None:
        """What stands beside an ε that leans on the other outlets; every attempt counts."""
        trust, steps = self.contract.trust, self.most_steps
        if (alone := trust.alone(self.contract, steps)) is None:
            return None
        every, _ = trust.several(self.contract, len(self.contract.outlets), steps)
        return PooledFigures(alone=alone, every=every)
