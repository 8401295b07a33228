"""The Flower `Strategy`: send the adapter to a round's outlets, admit answers, aggregate.

What is made of the admitted updates is the aggregator's (`presspool.server.rounds.aggregators`),
with the weights that the contract's declared populations give; private counts play no part. Of a
run with cohorts (`presspool.common.contract.cohorts`) only the round's is asked, and averaged. A
contract that reckons with attackers has them combined by its robust rule first.

A round's phases are sent and aggregated one after the other; what is aggregated, and by
which weights, is what the trust model makes of their answers (`presspool.common.trust`).

Invariants:
    * Outlets are never asked to evaluate: a metric on readers' data would be a free release.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from presspool.common.contract.cohorts import cohort_of
from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import ROBUST_RULES
from presspool.common.models.adapters import State, digest
from presspool.common.wire.run_grid import RunGrid
from presspool.common.wire.update import (
    RecordState,
    TrainTask,
    array_record,
    pack_task,
    payload_bytes,
)
from presspool.server.rounds.admission import Admitted, Expected, admit
from presspool.server.rounds.aggregators.aggregator import Aggregator, Change, aggregator_of
from presspool.server.rounds.gathering import Gathering, OpenGathering


@dataclass
class RoundTraffic:
    """What a round moved and decided, for the run's result.

    Attributes:
        bytes_down: bytes of arrays and words sent to outlets.
        bytes_up: bytes of arrays and words received from outlets.
        admitted: the admitted updates of the phase that trains, and the refusals of all phases.
    """

    bytes_down: int = 0
    bytes_up: int = 0
    admitted: Admitted = field(default_factory=lambda: Admitted(updates={}, refused={}))


class AdapterStrategy(Strategy):
    """What a run does in one round, as Flower's strategies say it; the next has one of its own.

    Attributes:
        contract: the frozen contract.
        moments: what the aggregator remembers.
        traffic: the round's traffic and admissions.
        gathering: how the round's answers come together.
    """

    def __init__(
        self, contract: Contract, moments: State | None = None, gathering: Gathering | None = None
    ) -> None:
        self.contract = contract
        self.moments: State = moments or {}
        self.traffic = RoundTraffic()
        self.gathering: Gathering = gathering or OpenGathering(contract)
        self._state: State = {}
        self._phase = 0
        self._nodes: Mapping[int, str] = {}

    def configure_train(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,
    ) -> Iterable[Message]:
        """One task for each outlet that is asked; `config` says which `phase`."""
        phase = self._phase = int(str(config.get("phase", 1)))
        self._state = RecordState(arrays)
        self._nodes = grid.outlets if isinstance(grid, RunGrid) else {}  # stock Flower knows none
        content = pack_task(
            TrainTask(
                contract=self.contract.canonical().decode(),
                digest=self.contract.digest,
                round=server_round,
                state=self._sent(phase),
                phase=phase,
                said=self.gathering.brief(phase),
            )
        )
        nodes = self._asked(server_round, phase, grid)
        self.traffic.bytes_down += payload_bytes(content) * len(nodes)
        return [Message(content, node, "train", group_id=str(server_round)) for node in nodes]

    def _asked(self, server_round: int, phase: int, grid: Grid) -> list[int]:
        """The nodes that a phase's task goes to: who is there, or was when it was made.

        Where nobody knows whose a node is, all are asked, and those outside the cohort refuse.
        """
        there, asked = set(grid.get_node_ids()), self.gathering.asked(phase)
        if isinstance(grid, RunGrid) and self.contract.federation.cohort is not None:
            cohort = cohort_of(self.contract, server_round)
            there &= {node for node, name in grid.names.items() if name in cohort}
        if isinstance(grid, RunGrid):
            was_there = set(grid.went_on(server_round, phase))
            if asked is not None and not grid.went_on(server_round, phase - 1):
                was_there |= set(asked)  # it is made of their answers in this very moment
            there |= {node for node, name in self._nodes.items() if name in was_there}
        return sorted(n for n in there if asked is None or self._nodes.get(n) in asked)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord]:
        """The new adapter; none before the round's last phase.

        Raises:
            QuorumError: too few updates were admitted.
        """
        admitted = self._admit(server_round, list(replies))
        record = self._aggregated(server_round) if self._round_is_over() else None
        return record, MetricRecord({"admitted": admitted})

    def _admit(self, server_round: int, replies: list[Message]) -> int:
        """Take the answers to the phase that was sent last; how many they are."""
        phase, traffic = self._phase, self.traffic
        traffic.bytes_up += sum(payload_bytes(r.content) for r in replies if r.has_content())
        found = admit(replies, self._expected(server_round, phase))
        traffic.admitted = Admitted(
            updates=found.updates
            if self.gathering.phases.releases(phase)
            else traffic.admitted.updates,
            refused={**traffic.admitted.refused, **found.refused},
        )
        return len(found.updates)

    def _round_is_over(self) -> bool:
        return self._phase == len(self.gathering.phases)

    def _sent(self, phase: int) -> State:
        """The adapter, where outlets need it."""
        return self._state if self.gathering.sends_adapter(phase) else {}

    def _aggregated(self, server_round: int) -> ArrayRecord:
        aggregator = aggregator_of(self.contract)
        change = self._combined(aggregator)
        state, self.moments = aggregator.step(
            self._state, change, self.moments, number=server_round
        )
        record = ArrayRecord()
        for name in sorted(state):  # given away one by one, so that it is never there twice
            record.update(array_record({name: state.pop(name)}))
        return record

    def _combined(self, aggregator: Aggregator) -> Change:
        federation = self.contract.federation
        updates, weights = self.gathering.opened()
        if federation.attackers:
            robust: Change = ROBUST_RULES[federation.robust](updates, federation.attackers)
            return robust
        return aggregator.combine(updates, weights)

    def configure_evaluate(
        self,
        server_round: int,  # noqa: ARG002
        arrays: ArrayRecord,  # noqa: ARG002
        config: ConfigRecord,  # noqa: ARG002
        grid: Grid,  # noqa: ARG002
    ) -> Iterable[Message]:
        """Nothing: outlets do not evaluate."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> None:
        """Nothing: outlets do not evaluate."""

    def summary(self) -> None:
        """Nothing: the run's own log says what is run."""

    def _expected(self, server_round: int, phase: int) -> Expected:
        contract, trust, sent = self.contract, self.contract.trust, self._sent(phase)
        trains = self.gathering.phases.releases(phase)
        return Expected(
            outlets=frozenset(contract.outlets),
            cohort=frozenset(cohort_of(contract, server_round)),
            round=server_round,
            contract=contract.digest,
            base=digest(sent),
            phase=phase,
            shapes={name: a.shape for name, a in sent.items()} if trains else {},
            norm_cap=math.inf if trust.adds_up else contract.federation.update_norm_cap,
            quorum=self.gathering.fewest(phase),
            dtype=trust.dtype(contract) if trains else "float32",
            nodes=self._nodes,
            take=partial(self.gathering.take, phase),
        )
