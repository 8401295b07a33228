"""What a trust model decides: a round's phases, noise, privacy event, and the way of an update.

A round is one phase or several, in order; each is a task to every outlet and an answer back. In
exactly one of them outlets train: there the run is paid for, and the answer's bytes are bound in
the outlet's ledger before they leave. The other phases are for words between outlets, such as keys.
They are answered by code that is never handed anything of readers, and cost nothing.

A new trust model is a file beside this one and a line in
`presspool.common.contract.doors.TRUST_MODELS`; outlets take part only where their policy names it.

Invariants:
    * One phase trains. What leaves in it is `seal` of the privatised change; what leaves in another
      is `answer`, a function of the contract and of what the coordinator sent.
    * Nothing here draws, clips or charges: engine and ledger ask, and do.

Example:
    >>> from presspool.common.contract.doors import TRUST_MODELS
    >>> local = TRUST_MODELS["local"]()
    >>> local.phases, local.releases(1)
    (('train',), True)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import dp_accounting

    from presspool.common.contract.contract import Contract
    from presspool.common.models.adapters import State
    from presspool.common.wire.update import AdapterUpdate, TrainTask

TRAIN = "train"
MOST_PHASES = 16  # of a round


@dataclass(frozen=True, kw_only=True)
class TrustWords:
    """What pages and cards say of a trust model, in sentences or their parts.

    Attributes:
        claim: under a report's figures: what they hold against.
        how: how readers are protected.
        assumption: what has to be true for that.
        adversary: whom a statement's ε holds against, after "against".
        curator: who holds the records and adds the noise.
        actors: who is trusted by whom.
        noise_added_by: who adds the noise, and when.
        collusion: what happens to the claim if others work together.
        dropout: what happens to it if others drop out.
    """

    claim: str
    how: str
    assumption: str
    adversary: str
    curator: str
    actors: str
    noise_added_by: str
    collusion: str
    dropout: str


class TrustModel(ABC):
    """One trust model; it has no state.

    Attributes:
        phases: names of a round's phases, in order; `TRAIN` is one of them, once.
        words: for people.
    """

    phases: ClassVar[tuple[str, ...]]
    words: ClassVar[TrustWords]

    def releases(self, phase: int) -> bool:
        """Whether a phase (from 1) is the one that trains, is paid for and is bound."""
        return phase == self.phases.index(TRAIN) + 1

    def follows(self, phase: int) -> bool:
        """Whether a phase comes after that one: only who released in the round is asked then."""
        return phase > self.phases.index(TRAIN) + 1

    @abstractmethod
    def noise_share(self, contract: Contract) -> float:
        """The standard deviation of one outlet's own noise, in units of the plan's."""

    @abstractmethod
    def event(self, contract: Contract) -> dp_accounting.DpEvent:
        """The privacy event of a whole run, as an outlet's ledger charges it."""

    def epsilon(self, contract: Contract, *, charged: dp_accounting.DpEvent | None = None) -> float:
        """ε, at the contract's δ, of the very event that an outlet is charged with, by PLD.

        Args:
            contract: the run's.
            charged: the part of its event that an outlet pays which joins late; None for all.
        """
        from presspool.common.contract.privacy_plan import event_epsilon

        plan, event = contract.plan, charged or self.event(contract)
        steps = min(plan.steps, getattr(event, "count", plan.steps))
        return (
            plan.epsilon(steps) if event == plan.event(steps) else event_epsilon(event, plan.delta)
        )

    @abstractmethod
    def colluding(self, contract: Contract) -> int:
        """How many other outlets may work together with the coordinator, at most."""

    @abstractmethod
    def dropping(self, contract: Contract) -> int:
        """How many other outlets may drop out, at most, before the claim is weaker."""

    def brief(self, phase: int, answers: Sequence[Mapping[str, AdapterUpdate]]) -> bytes:  # noqa: ARG002
        """At the coordinator: what a phase's task passes on from the phases before.

        Args:
            phase: from 1.
            answers: of each earlier phase, outlet to admitted answer.
        """
        return b""

    def answer(self, contract: Contract, task: TrainTask) -> bytes:  # noqa: ARG002
        """At an outlet: what it says in a phase that does not train."""
        return b""

    @abstractmethod
    def seal(self, contract: Contract, delta: State) -> State:
        """At an outlet: what leaves of its privatised change; no array is copied needlessly.

        Args:
            contract: the run's.
            delta: name to float32 array.
        """

    @abstractmethod
    def open(
        self, contract: Contract, answers: Sequence[Mapping[str, AdapterUpdate]]
    ) -> tuple[Mapping[str, AdapterUpdate], Mapping[str, float]]:
        """At the coordinator: what is averaged, and the weights of it.

        Args:
            contract: the run's.
            answers: of each phase in order, outlet to admitted answer; arrays are read on demand.
        """
