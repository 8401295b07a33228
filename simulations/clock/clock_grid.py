"""A grid around any grid of a simulation, on which a clock decides who answers in time.

Tasks whose answers will not count are not handed to the workers at all: nobody waits for a
straggler of a simulation, nor computes what is thrown away. Outlets with a ledger are excepted:
what is worked on is paid for, in time or not, so they train it and nobody takes the answer.

Invariants:
    * Answers that count are those of the timetable, in the order of the messages.
    * The grid inside gives the same answers as without a clock; a clock only leaves some out.

Example: `ClockGrid(grid, timetable(contract, table))` behaves as `grid` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from flwr.app import Message

from presspool.common.runs.virtual_round import VirtualRound
from presspool.common.wire.run_grid import RunGrid
from presspool.common.wire.update import task_round
from presspool.simulations.clock.timed_round import TimedRound
from presspool.simulations.grids.simulation_grid import SimulationGrid


class ClockGrid(RunGrid):
    """A simulation's grid on a clock of its own.

    Args:
        inner: what trains; whoever made it closes it.
        rounds: the timetable.
        pays: outlets have ledgers, which count what is worked on in vain.
        on_skip: called for each task that is not handed out, for progress.
    """

    def __init__(
        self,
        inner: SimulationGrid,
        rounds: Sequence[TimedRound],
        *,
        pays: bool = False,
        on_skip: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._inner, self._rounds, self._pays, self._on_skip = inner, rounds, pays, on_skip

    @property
    def names(self) -> Mapping[int, str]:
        """As the grid inside knows them."""
        return self._inner.names

    def virtual(self, number: int) -> VirtualRound:
        """The round on this clock."""
        return self._rounds[number - 1].virtual

    def due(self, number: int) -> list[tuple[int, int]]:
        """By the timetable; with what is worked on in vain, where outlets pay for that."""
        timed, nodes = self._rounds[number - 1], {name: node for node, name in self.names.items()}
        found = [*timed.counted.items(), *(timed.vain.items() if self._pays else ())]
        return [(nodes[name], of) for name, of in sorted(found)]

    def get_node_ids(self) -> list[int]:
        """Everybody's: a task lies there for those who come later."""
        return self._inner.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand out those whose answers count; returns their ids."""
        return self._inner.push_messages(self._worked_on(messages)[0])

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there."""
        return self._inner.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """The answers that come in time, in the order of the messages; as the grid inside."""
        counted, vain = self._worked_on(messages)
        replies = list(self._inner.send_and_receive(counted, timeout=timeout))
        if vain:  # after the others, because an outlet may have one of each
            self._inner.send_and_receive(vain, timeout=timeout)
        return replies

    def _worked_on(self, messages: Iterable[Message]) -> tuple[list[Message], list[Message]]:
        """A round's messages whose answers count, and those that are only paid for."""
        messages = list(messages)
        timed = self._rounds[int(messages[0].metadata.group_id) - 1]
        counted = [m for m in messages if timed.counted.get(self._name(m)) == task_round(m.content)]
        vain = [m for m in messages if timed.vain.get(self._name(m)) == task_round(m.content)]
        vain = vain if self._pays else []
        for _ in range(len(messages) - len(counted) - len(vain)):
            self._on_skip()
        return counted, vain

    def _name(self, message: Message) -> str:
        return self.names[message.metadata.dst_node_id]
