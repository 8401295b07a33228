"""The Flower `Strategy`: send the adapter to every outlet, admit the answers, average them.

The new adapter is the old one plus Σ w_j Δ_j / Σ w_j over the admitted outlets, with the weights
that the contract's declared populations give; private counts play no part. Where the contract names
a server optimiser, that average is its gradient (`presspool.server.rounds.server_optimizer`). FedIT
(Zhang et al., ICASSP 2024) averages both LoRA factors this way; with FFA-LoRA (Sun et al., ICLR
2024) A is frozen at its public value, so that averaging B is averaging the product BA exactly.

A round's phases are sent and aggregated one after the other; what is averaged, and by which
weights, is what the contract's trust model makes of their answers (`presspool.common.trust`).

Invariants:
    * The sum runs in outlet order in float64, so its bytes do not depend on who answered first.
    * It runs array by array: over the wire a round needs no more memory with more outlets.
    * Outlets are never asked to evaluate: a metric on readers' data would be a free release.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from presspool.common.contract.contract import Contract
from presspool.common.models.adapters import State, digest
from presspool.common.wire.flower import node_of
from presspool.common.wire.update import (
    AdapterUpdate,
    RecordState,
    TrainTask,
    array_record,
    pack_task,
    payload_bytes,
)
from presspool.server.rounds.admission import Admitted, Expected, admit
from presspool.server.rounds.server_optimizer import step


@dataclass
class RoundTraffic:
    """What a round moved and decided, for the run's result.

    Attributes:
        bytes_down: array bytes sent to outlets.
        bytes_up: array bytes received from outlets.
        admitted: the admitted updates of the phase that trains, and the refusals of all phases.
    """

    bytes_down: int = 0
    bytes_up: int = 0
    admitted: Admitted = field(default_factory=lambda: Admitted(updates={}, refused={}))


class AdapterAveraging(Strategy):
    """Weighted averaging of admitted adapter updates.

    Attributes:
        contract: the frozen contract.
        moments: what the server's optimiser remembers.
        traffic: the last round's traffic and admissions.
    """

    def __init__(self, contract: Contract, moments: State | None = None) -> None:
        self.contract = contract
        self.moments: State = moments or {}
        self.traffic = RoundTraffic()
        self._sent: State = {}
        self._answers: list[Mapping[str, AdapterUpdate]] = []  # of this round's phases so far

    def configure_train(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,
    ) -> Iterable[Message]:
        """One task for every connected outlet; `config` says the `phase`, the contract the rest."""
        phase = int(str(config.get("phase", 1)))
        if phase == 1:
            self._answers, self.traffic = [], RoundTraffic()
        self._sent = RecordState(arrays)
        content = pack_task(
            TrainTask(
                contract=self.contract.canonical().decode(),
                digest=self.contract.digest,
                round=server_round,
                state=self._sent,
                phase=phase,
                said=self.contract.trust.brief(phase, self._answers),
            )
        )
        nodes = sorted(grid.get_node_ids())
        self.traffic.bytes_down += payload_bytes(content) * len(nodes)
        return [Message(content, node, "train", group_id=str(server_round)) for node in nodes]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord]:
        """The new adapter; none before the round's last phase.

        Raises:
            QuorumError: too few updates were admitted.
        """
        self._admit(server_round, list(replies))
        record = self._averaged(server_round) if self._round_is_over() else None
        return record, MetricRecord({"admitted": len(self._answers[-1])})

    def _admit(self, server_round: int, replies: list[Message]) -> None:
        """Take the answers to the phase that was sent last."""
        phase, traffic = len(self._answers) + 1, self.traffic
        traffic.bytes_up += sum(payload_bytes(r.content) for r in replies if r.has_content())
        found = admit(replies, self._expected(server_round, phase))
        self._answers.append(found.updates)
        traffic.admitted = Admitted(
            updates=found.updates
            if self.contract.trust.releases(phase)
            else traffic.admitted.updates,
            refused={**traffic.admitted.refused, **found.refused},
        )

    def _round_is_over(self) -> bool:
        return len(self._answers) == len(self.contract.trust.phases)

    def _averaged(self, server_round: int) -> ArrayRecord:
        averaged = Average(*self.contract.trust.open(self.contract, self._answers))
        state, self.moments = step(
            self.contract.server,
            self._sent,
            averaged,
            self.moments,
            number=server_round,
            done=(server_round - 1) / self.contract.federation.rounds,
        )
        record = ArrayRecord()
        for name in sorted(state):  # given away one by one, so that it is never there twice
            record.update(array_record({name: state.pop(name)}))
        return record

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
        federation, trains = self.contract.federation, self.contract.trust.releases(phase)
        return Expected(
            outlets=frozenset(self.contract.outlets),
            round=server_round,
            contract=self.contract.digest,
            base=digest(self._sent),
            phase=phase,
            shapes={name: a.shape for name, a in self._sent.items()} if trains else {},
            norm_cap=federation.update_norm_cap,
            quorum=federation.quorum,
            nodes={node_of(name): name for name in self.contract.outlets},
        )


class Average(Mapping[str, NDArray[np.float64]]):
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
