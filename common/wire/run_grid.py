"""What every Flower `Grid` of ours has in common: the one run that its messages belong to.

Example: `class LocalGrid(RunGrid): ...`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from presspool.common.runs.virtual_round import VirtualRound
from presspool.common.wire.flower import Run, become_server, run_of

RUN_ID = 1
LEFT_OUT: Final[Mapping[int, str]] = {1001: "not-a-member", 1002: "dropped"}
"""Why an answer that is there does not count, as a Grid says it in Flower's numbers for errors."""


class RunGrid(Grid):
    """A Grid of one run; making one makes this process the run's server."""

    def __init__(self) -> None:
        become_server(run_id=RUN_ID)
        self._run = run_of(RUN_ID)

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._run

    @property
    def outlets(self) -> Mapping[int, str]:
        """Node to outlet, where nodes are known by certificates; none in a simulation."""
        return {}

    @property
    def names(self) -> Mapping[int, str]:
        """Node to outlet, as whoever made the grid has it: whom to ask, and no proof."""
        return self.outlets

    @property
    def cohort(self) -> Mapping[str, bytes] | None:
        """Outlet to the key by which other outlets know it; None in a simulation."""
        return None

    def virtual(self, number: int) -> VirtualRound | None:  # noqa: ARG002
        """A round on a simulation's clock; None where only the clock on the wall counts."""
        return None

    def due(self, number: int) -> Sequence[tuple[int, int]] | None:  # noqa: ARG002
        """Node and round of each task whose answer is due, where outlets do not wait; else None."""
        return None

    def went_on(self, round: int, phase: int) -> Collection[str]:  # noqa: ARG002
        """Outlets that the phase after this one was handed out to already, before a restart.

        That one was made of their answers, so these count, whoever takes part now.
        """
        return ()

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message from the coordinator to an outlet's node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)
