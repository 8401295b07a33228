"""One round of a run on its way through the outlet: what was asked, read once and passed on.

Agent, app, enforcement and budget all speak of the same round. What it says is unpacked once, its
contract is parsed once, and the adapter that it starts from is hashed once.

Example: `asked = Round.of(message.content)`; `asked.contract.plan`, `asked.number`, `asked.base`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from flwr.app import RecordDict

from presspool.common.contract.contract import Contract, read_canonical
from presspool.common.models.adapters import State, digest
from presspool.common.trust.trust_model import Phases
from presspool.common.wire.update import TrainTask, unpack_task


# A worker of a simulation reads the same contract for each outlet of each round.
@lru_cache(maxsize=2)
def _contract(text: str, digest: str) -> Contract:
    return read_canonical(text, digest=digest)


@dataclass(frozen=True)
class Round:
    """A coordinator's task, as this outlet reads it.

    Attributes:
        task: what came over the wire, every field of the right type.
        simulated: coordinator and all outlets are one simulation on this machine; only there an
            answer may be seen that means something in a sum alone.
    """

    task: TrainTask
    simulated: bool = False

    @classmethod
    def of(cls, content: RecordDict, *, simulated: bool = False) -> Round:
        """The round that a message's content asks for.

        Raises:
            ValueError: a field is missing or of the wrong type, or an array is not what it says.
        """
        return cls(unpack_task(content), simulated)

    @property
    def number(self) -> int:
        """From 1."""
        return self.task.round

    @property
    def phase(self) -> int:
        """Of the round, from 1."""
        return self.task.phase

    @property
    def phases(self) -> Phases:
        """Of the round, by name."""
        return self.contract.trust.phases_where(simulated=self.simulated)

    @property
    def trains(self) -> bool:
        """Whether this phase is the one that trains, is paid for and is bound."""
        return self.phases.releases(self.phase)

    @property
    def last(self) -> bool:
        """Whether its answer is the last that the run asks for."""
        whole = self.contract.federation.rounds, len(self.phases)
        return (self.number, self.phase) == whole

    @property
    def masked(self) -> bool:
        """Whether the round's answers are seen in their sum alone."""
        return not self.simulated and self.contract.trust.masked is not None

    @property
    def state(self) -> State:
        """The adapter that it starts from; empty in a phase of masks that does not train."""
        return self.task.state

    @cached_property
    def contract(self) -> Contract:
        """The run's contract.

        Raises:
            ContractError: not a contract, not frozen, or not the one with the task's digest.
        """
        return _contract(self.task.contract, self.task.digest)

    @cached_property
    def base(self) -> str:
        """Digest of the adapter that it starts from."""
        return digest(self.task.state)
