"""What a simulation's grid is: Flower's `Grid` over outlets whose settings lie on this machine.

Invariants:
    * The same messages give the same replies, in the order of the messages, however many workers
      there are (`--deterministic`).
    * Leaving the block ends whatever the grid started.

Example: `with GRIDS["local"](settings, workers=2) as grid: serve(grid, folder)`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from flwr.app import Message

from presspool.client.identity.settings import read_settings
from presspool.common.base.errors import InputError
from presspool.common.wire.flower import SERVER_NODE
from presspool.common.wire.run_grid import RunGrid


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where workers work, for grids that have a choice.

    Attributes:
        address: HOST:PORT of the cluster to join; None for this machine alone.
        gpus: of each worker; a fraction where several share one.
        joined: what a grid holds of it in the block of `SimulationGrid.at`.
    """

    address: str | None = None
    gpus: float = 0.0
    joined: Any = None


HERE = Place()
Check = Callable[[Path], None]
MOST_TOGETHER = 32
"""Outlets that train side by side: more hardly fill batches better, and progress is told of all."""


class SimulationGrid(RunGrid):
    """A grid of simulated outlets.

    Args:
        outlets: one `outlet.toml` for each outlet; node numbers follow their order.
        workers: how many outlets work at a time; 0 serves all in this process, one by one.
        on_reply: called after each reply, for progress.
        place: where the workers work.
    """

    def __init__(
        self,
        outlets: Sequence[Path],
        *,
        workers: int,
        on_reply: Callable[[], None] = lambda: None,
        place: Place = HERE,
    ) -> None:
        super().__init__()
        self._nodes = {SERVER_NODE + 1 + i: path for i, path in enumerate(outlets)}
        self._workers, self._on_reply = min(workers, len(outlets)), on_reply
        self._place = place
        self._set_up()

    @abstractmethod
    def _set_up(self) -> None:
        """What the grid needs besides, when all that was given is known."""

    @classmethod
    def check(cls, place: Place, *, workers: int) -> None:  # noqa: ARG003
        """Look whether so many workers can work there, before anything of a run is written.

        Raises:
            InputError: they cannot; this grid may know no place but this machine.
        """
        if place != HERE:
            raise InputError(
                "this grid works on this machine's processors alone",
                where="--ray-address" if place.address else "[simulation] gpus_per_worker",
                advice='say grid = "ray" in [simulation], or leave it out',
            )

    @classmethod
    @contextmanager
    def at(cls, place: Place, *, workers: int) -> Iterator[Place]:
        """The place, checked, and joined once for everything in the block where it is a cluster."""
        cls.check(place, workers=workers)
        yield place

    @classmethod
    def look(cls, place: Place, outlets: Sequence[Path], check: Check) -> None:  # noqa: ARG003
        """Look whether the outlets' records can be read where they are trained.

        Args:
            place: where workers work.
            outlets: settings.
            check: reads an outlet's records that no path leads to, and compares them with the
                contract; raises `InputError`.

        Raises:
            InputError: they cannot.
        """
        for path in outlets:
            check(path)

    @cached_property
    def names(self) -> Mapping[int, str]:
        """Node to outlet, by the settings."""
        return {node: read_settings(path).name for node, path in self._nodes.items()}

    def get_node_ids(self) -> list[int]:
        """One node for each outlet."""
        return list(self._nodes)

    def _groups(self, waiting: Sequence[Message], *, parts: int) -> Iterator[list[Message]]:
        """Neighbouring messages that one worker answers in one pass, no outlet twice in one.

        Args:
            waiting: the messages.
            parts: groups there are at least, where there are so many messages.
        """
        size = min(MOST_TOGETHER, -(-len(waiting) // parts))
        group: list[Message] = []
        for message in waiting:
            node = message.metadata.dst_node_id
            if len(group) == size or any(node == m.metadata.dst_node_id for m in group):
                yield group
                group = []
            group.append(message)
        if group:
            yield group

    @abstractmethod
    def close(self) -> None:
        """End what was started at once; unfinished tasks are dropped."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
