"""What an aggregator is: it combines a round's updates into one, and takes a step with that.

Outlets send noisy gradients or noisy changes; whatever is made of them here is post-processing and
costs no privacy. `presspool.common.contract.doors.AGGREGATORS` lists what a contract may name.

Invariants:
    * A step is a pure function of state, updates, moments and round: a resumed run makes the same.
    * Sums run in outlet order in float64, so their bytes do not depend on who answered first.
    * One array at a time: over the wire a round needs no more memory with more outlets.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from presspool.common.contract.contract import Contract
from presspool.common.contract.contract_schema import Server
from presspool.common.contract.doors import AGGREGATORS
from presspool.common.contract.schedule import factor
from presspool.common.models.adapters import State, group_of
from presspool.common.wire.update import AdapterUpdate

Arrays = dict[str, NDArray[np.float32]]
Change = Mapping[str, NDArray[np.float64]]


class Aggregator(ABC):
    """How a round's updates become the next adapter.

    Args:
        spec: the contract's table.
        rounds: of the whole run, for the schedule.

    Attributes:
        rated: the contract's table whose learning rate decides how far the adapter moves.
    """

    rated: ClassVar[Literal["optimizer", "server"]]

    def __init__(self, spec: Server, rounds: int) -> None:
        self.spec, self._rounds = spec, rounds

    def combine(self, updates: Mapping[str, AdapterUpdate], weights: Mapping[str, float]) -> Change:
        """One change of the adapter from many: the weighted mean, where nothing else is said.

        Args:
            updates: outlet to admitted update, at least one.
            weights: outlet to weight, from the contract's declared populations.
        """
        return WeightedMean(updates, weights)

    def remember(self, change: Change, moments: State) -> State:  # noqa: ARG002
        """What is kept for the next round; float32, because a checkpoint holds it."""
        return {}

    @abstractmethod
    def direction(
        self, change: Change, moments: State, name: str, number: int
    ) -> NDArray[np.float64]:
        """Where one array moves at rate 1.

        Args:
            change: the combined update.
            moments: what `remember` gave for this round.
            name: of the array.
            number: of the round, from 1.
        """

    def step(
        self, state: State, change: Change, moments: State, *, number: int
    ) -> tuple[Arrays, State]:
        """The next state, and what to remember for the step after it.

        Args:
            state: the adapter that was sent out.
            change: the combined update of it, float64.
            moments: of the step before; empty at the first.
            number: this round, from 1.
        """
        kept, rates = self.remember(change, moments), self.spec.learning_rate
        rate, after = factor(self.spec.schedule, (number - 1) / self._rounds), Arrays()
        for name, array in state.items():  # one at a time: in float64 a whole adapter is large
            moved = self.direction(change, kept, name, number)
            own = rates["all" if "all" in rates else group_of(name)]
            after[name] = (array + rate * own * moved).astype(np.float32)
        return self._averaged(after, kept, moments, number)

    def _averaged(
        self, after: Arrays, kept: State, moments: State, number: int
    ) -> tuple[Arrays, State]:
        """The running mean of the run's tail, beside the moments; after the last round, instead."""
        count = number - math.floor(self._rounds * (1 - self.spec.tail))
        if self.spec.tail == 0 or count < 1:
            return after, kept
        means = {
            f"mean/{name}": mean + (array - mean) / np.float32(count)
            for name, array in after.items()
            for mean in [moments.get(f"mean/{name}", array)]
        }
        if number == self._rounds:
            after = {name: means[f"mean/{name}"] for name in after}
        return after, {**kept, **means}


def aggregator_of(contract: Contract) -> Aggregator:
    """The aggregator that a contract names."""
    made = AGGREGATORS[contract.server.name](contract.server, contract.federation.rounds)
    assert isinstance(made, Aggregator)
    return made


class WeightedMean(Mapping[str, NDArray[np.float64]]):
    """Σ w_j Δ_j / Σ w_j over updates, each array summed in outlet order when it is asked for.

    Args:
        updates: outlet to admitted update, at least one.
        weights: outlet to weight.
    """

    def __init__(self, updates: Mapping[str, AdapterUpdate], weights: Mapping[str, float]) -> None:
        total = sum(weights[outlet] for outlet in sorted(updates))
        self._parts = [(weights[o] / total, updates[o].delta) for o in sorted(updates)]

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        (share, delta), *others = self._parts
        result = share * delta[name].astype(np.float64)
        for share, delta in others:
            result += share * delta[name].astype(np.float64)
        return result

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts[0][1])

    def __len__(self) -> int:
        return len(self._parts[0][1])
