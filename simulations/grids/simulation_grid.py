"""What a simulation's grid is: Flower's `Grid` over outlets whose settings lie on this machine.

Invariants:
    * The same messages give the same replies, in the order of the messages, however many workers
      there are (`--deterministic`).
    * Leaving the block ends whatever the grid started.

Example: `with GRIDS["local"](settings, workers=2) as grid: serve(grid, folder)`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from presspool.common.wire.flower import SERVER_NODE
from presspool.common.wire.run_grid import RunGrid


class SimulationGrid(RunGrid):
    """A grid of simulated outlets.

    Args:
        outlets: one `outlet.toml` for each outlet; node numbers follow their order.
        workers: how many outlets work at a time; 0 serves all in this process, one by one.
        on_reply: called after each reply, for progress.
    """

    def __init__(
        self, outlets: Sequence[Path], *, workers: int, on_reply: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__()
        self._nodes = {SERVER_NODE + 1 + i: path for i, path in enumerate(outlets)}
        self._workers, self._on_reply = min(workers, len(outlets)), on_reply

    def get_node_ids(self) -> list[int]:
        """One node for each outlet."""
        return list(self._nodes)

    @abstractmethod
    def close(self) -> None:
        """End what was started at once; unfinished tasks are dropped."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
