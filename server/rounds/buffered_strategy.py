"""The strategy of a run whose outlets do not wait for each other (`contract.buffers`).

Who answers when, and from which adapter, is the grid's to say. A task is handed out when its answer
is due, with the adapter that its outlet started from: so nothing is on its way between rounds, and
what a checkpoint holds beside the newest adapter are the few before it that answers may start from.

Invariants:
    * An answer counts if it is exactly what its own round's task asked for: that round's number and
      the digest of that round's adapter. One of a round that is too long ago is of no round.
    * An outlet has one answer in an aggregation.

Example: `strategy_of(contract, moments, gathering)` is one where the contract has a buffer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from presspool.common.base.errors import QuorumError
from presspool.common.contract.buffers import refuse_waiting, weights_now
from presspool.common.contract.contract import Contract
from presspool.common.models.adapters import State, digest
from presspool.common.wire.run_grid import RunGrid
from presspool.common.wire.update import (
    AdapterUpdate,
    RecordState,
    TrainTask,
    pack_task,
    payload_bytes,
)
from presspool.server.rounds.admission import Admitted, admit
from presspool.server.rounds.aggregators.aggregator import Aggregator, Change
from presspool.server.rounds.gathering import Gathering
from presspool.server.rounds.strategy import AdapterStrategy

_EARLIER = "earlier/"  # of the names of kept adapters' arrays, before round and name


def strategy_of(contract: Contract, moments: State, gathering: Gathering) -> AdapterStrategy:
    """The strategy of a contract's rounds; arguments as for `AdapterStrategy`."""
    kind = AdapterStrategy if contract.federation.buffer is None else BufferedStrategy
    return kind(contract, moments, gathering)


class BufferedStrategy(AdapterStrategy):
    """See the module; `moments` hold earlier adapters too."""

    def __init__(
        self, contract: Contract, moments: State | None = None, gathering: Gathering | None = None
    ) -> None:
        own, self._states = _apart(moments or {})
        super().__init__(contract, own, gathering)
        self._number = 0

    def configure_train(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,  # noqa: ARG002  a round has one phase
        grid: Grid,
    ) -> Iterable[Message]:
        """One task for each answer that is due, from the adapter that its outlet started from."""
        due = grid.due(server_round) if isinstance(grid, RunGrid) else None
        if due is None:
            refuse_waiting(self.contract, "a simulation")
            raise AssertionError("only runs with a buffer are asked this way")
        self._number, self._phase, self._state = server_round, 1, RecordState(arrays)
        self._states = {**self._states, server_round: self._state}
        contents = {number: self._task(number) for _, number in due}
        self.traffic.bytes_down += sum(payload_bytes(contents[number]) for _, number in due)
        group = str(server_round)
        return [Message(contents[number], node, "train", group_id=group) for node, number in due]

    def _task(self, number: int) -> RecordDict:
        return pack_task(
            TrainTask(
                contract=self.contract.canonical().decode(),
                digest=self.contract.digest,
                round=number,
                state=self._states[number],
            )
        )

    def _admit(self, server_round: int, replies: list[Message]) -> int:
        """Take the answers, each by the round that it says it is of."""
        traffic, by_round = self.traffic, defaultdict[int, list[Message]](list)
        for reply in replies:
            by_round[self._round_of(reply)].append(reply)
        updates: dict[str, AdapterUpdate] = {}
        refused: dict[str, str] = {}
        for number, group in sorted(by_round.items()):
            expected = self._expected(number, 1)
            others = expected.outlets - updates.keys()
            base = digest(self._states[number])
            found = admit(group, replace(expected, base=base, quorum=0, cohort=others))
            updates |= found.updates
            refused |= found.refused
        traffic.bytes_up += sum(payload_bytes(r.content) for r in replies if r.has_content())
        traffic.admitted = Admitted(updates=dict(sorted(updates.items())), refused=refused)
        if len(updates) < (fewest := self.gathering.fewest(1)):
            raise QuorumError(
                f"aggregation {server_round} has too few admitted updates",
                where="coordinator",
                expected=f"at least {fewest}",
                got="; ".join([str(len(updates)), *(f"{w}: {y}" for w, y in refused.items())]),
            )
        return len(updates)

    def _round_of(self, reply: Message) -> int:
        """The round that an answer says it is of, if there is such a task now; else this one."""
        said = reply.content.config_records if reply.has_content() else {}
        number = said["update"].get("round") if "update" in said else None
        return number if isinstance(number, int) and number in self._states else self._number

    def _combined(self, aggregator: Aggregator) -> Change:
        updates, _ = self.gathering.opened()
        started = {name: update.round for name, update in updates.items()}
        return aggregator.combine(updates, weights_now(self.contract, started, number=self._number))

    def _aggregated(self, server_round: int) -> ArrayRecord:
        record = super()._aggregated(server_round)
        self.moments = {**self.moments, **self._kept()}
        return record

    def _kept(self) -> State:
        """The adapters that an answer of the next aggregation may start from, but the newest."""
        stale = self.contract.federation.staleness or 0
        return {
            f"{_EARLIER}{number}/{name}": array
            for number, state in self._states.items()
            if number > self._number - stale
            for name, array in state.items()
        }


def _apart(moments: State) -> tuple[State, Mapping[int, State]]:
    """The aggregator's own moments, and earlier adapters by round."""
    states = defaultdict[int, dict[str, NDArray[np.float32]]](dict)
    for key in [key for key in moments if key.startswith(_EARLIER)]:
        number, _, name = key.removeprefix(_EARLIER).partition("/")
        states[int(number)][name] = moments[key]
    return {k: a for k, a in moments.items() if not k.startswith(_EARLIER)}, states
