"""Does a long simulation grow? Memory of coordinator and worker after each of many rounds.

Invariant: the slope is that of a least-squares line over the last nine tenths of the rounds, so
that what is loaded in the first ones does not count.

Example:
    >>> slope([1.0, 1.0, 1.5, 2.0])
    0.35
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from presspool.simulations.bench.claims import Claim
from presspool.simulations.bench.simulators.contestant_process import ContestantProcess
from presspool.simulations.bench.simulators.simulator_turns import RoundSizes

MOST_GROWTH = 0.1  # MB a round
CLIENTS = 5  # a round of few outlets: what grows hangs on the number of rounds


@dataclass(frozen=True, kw_only=True)
class MemoryGrowth:
    """Memory over rounds.

    Attributes:
        rounds: how many.
        clients: of each.
        resident: MB of all processes after each round.
    """

    rounds: int
    clients: int
    resident: list[float]

    @property
    def claim(self) -> Claim:
        """The slope, MB a round."""
        text = f"memory over {self.rounds} rounds of {self.clients} clients, MB a round"
        settled = self.resident[len(self.resident) // 10 :]
        return Claim(text=text, value=slope(settled), bound=MOST_GROWTH)


def grown(rounds: int, *, advance: Callable[[], None] = lambda: None) -> MemoryGrowth:
    """Simulate so many rounds with one worker and look after each."""
    sizes, resident = RoundSizes(clients=CLIENTS), list[float]()
    with ContestantProcess(("pool", "1"), sizes) as process:
        for _ in range(rounds):
            resident.append(process.turn().resident / 1e6)
            advance()
    return MemoryGrowth(rounds=rounds, clients=CLIENTS, resident=resident)


def slope(values: Sequence[float]) -> float:
    """Of the least-squares line through values at 0, 1, …; 0 where there are fewer than two."""
    if len(values) < 2:
        return 0.0
    return statistics.linear_regression(range(len(values)), values).slope
