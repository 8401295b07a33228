"""The Flower `Strategy`: send the adapter to every outlet, admit the answers, aggregate them.

What is made of the admitted updates is the aggregator's (`presspool.server.rounds.aggregators`),
with the weights that the contract's declared populations give; private counts play no part.

Invariants:
    * Outlets are never asked to evaluate: a metric on readers' data would be a free release.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from presspool.common.contract.contract import Contract
from presspool.common.models.adapters import State, digest
from presspool.common.wire.flower import node_of
from presspool.common.wire.update import (
    RecordState,
    TrainTask,
    array_record,
    pack_task,
    payload_bytes,
)
from presspool.server.rounds.admission import Admitted, Expected, admit
from presspool.server.rounds.aggregators.aggregator import aggregator_of


@dataclass
class RoundTraffic:
    """What a round moved and decided, for the run's result.

    Attributes:
        bytes_down: array bytes sent to outlets.
        bytes_up: array bytes received from outlets.
        admitted: the admitted updates and the refusals.
    """

    bytes_down: int = 0
    bytes_up: int = 0
    admitted: Admitted = field(default_factory=lambda: Admitted(updates={}, refused={}))


class AdapterStrategy(Strategy):
    """What a run does in a round, as Flower's strategies say it.

    Attributes:
        contract: the frozen contract.
        moments: what the aggregator remembers.
        traffic: the last round's traffic and admissions.
    """

    def __init__(self, contract: Contract, moments: State | None = None) -> None:
        self.contract = contract
        self.moments: State = moments or {}
        self.traffic = RoundTraffic()
        self._sent: State = {}

    def configure_train(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,  # noqa: ARG002
        grid: Grid,
    ) -> Iterable[Message]:
        """One task for every connected outlet; `config` is not used, the contract says it all."""
        self._sent = RecordState(arrays)
        content = pack_task(
            TrainTask(
                contract=self.contract.canonical().decode(),
                digest=self.contract.digest,
                round=server_round,
                state=self._sent,
            )
        )
        nodes = sorted(grid.get_node_ids())
        self.traffic = RoundTraffic(bytes_down=payload_bytes(content) * len(nodes))
        return [Message(content, node, "train", group_id=str(server_round)) for node in nodes]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord, MetricRecord]:
        """The new adapter.

        Raises:
            QuorumError: too few updates were admitted.
        """
        replies = list(replies)
        self.traffic.bytes_up = sum(payload_bytes(r.content) for r in replies if r.has_content())
        self.traffic.admitted = admit(replies, self._expected(server_round))
        aggregator = aggregator_of(self.contract)
        change = aggregator.combine(self.traffic.admitted.updates, self.contract.weights())
        state, self.moments = aggregator.step(self._sent, change, self.moments, number=server_round)
        record = ArrayRecord()
        for name in sorted(state):  # given away one by one, so that it is never there twice
            record.update(array_record({name: state.pop(name)}))
        return record, MetricRecord({"admitted": len(self.traffic.admitted.updates)})

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

    def _expected(self, server_round: int) -> Expected:
        federation = self.contract.federation
        return Expected(
            outlets=frozenset(self.contract.outlets),
            round=server_round,
            contract=self.contract.digest,
            base=digest(self._sent),
            shapes={name: array.shape for name, array in self._sent.items()},
            norm_cap=federation.update_norm_cap,
            quorum=federation.quorum,
            nodes={node_of(name): name for name in self.contract.outlets},
        )
