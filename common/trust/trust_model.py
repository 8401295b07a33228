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
    * Answers that mean something only in their sum are seen alone in simulations only: over a
      network they are masked, in phases of their own (`masked`).
    * Nothing here draws, clips or charges: engine and ledger ask, and do.

Example:
    >>> from presspool.common.contract.doors import TRUST_MODELS
    >>> local = TRUST_MODELS["local"]()
    >>> local.phases, local.phases.releases(1)
    (('train',), True)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

from presspool.common.accounting import events
from presspool.common.base.errors import ContractError
from presspool.common.base.numbers import bound
from presspool.common.contract.privacy_loss import event_epsilon
from presspool.common.contract.privacy_plan import (
    ACCOUNTANT,
    GRID_BITS,
    AccountantName,
    solve_noise,
)

if TYPE_CHECKING:
    from presspool.common.contract.contract import Contract
    from presspool.common.models.adapters import State
    from presspool.common.wire.update import AdapterUpdate, TrainTask

Event = events.SelfComposed | events.Composed

TRAIN = "train"
MOST_PHASES = 16  # of a round


class Phases(tuple[str, ...]):
    """Names of a round's phases, in order; `TRAIN` is one of them, once."""

    __slots__ = ()

    def releases(self, phase: int) -> bool:
        """Whether a phase (from 1) is the one that trains, is paid for and is bound."""
        return phase == self.index(TRAIN) + 1

    def follows(self, phase: int) -> bool:
        """Whether a phase comes after that one: only who released in the round is asked then."""
        return phase > self.index(TRAIN) + 1


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
        composed_by: what a run's steps are composed by.
        several: what a reader at several outlets pays.
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
    composed_by: str
    several: str


class TrustModel(ABC):
    """One trust model; it has no state.

    Attributes:
        phases: of a round, where answers are seen as they are.
        masked: of a round over a network, where they are seen in their sum alone; none where they
            need not be masked.
        words: for people; what hangs on a contract's numbers is in braces (`words_of`).
        stated_by: what states ε, as a ledger calls it, and the package whose version counts.
        adds_up: an outlet's answer is whole numbers of one step, which mean something only in the
            sum of all: gradients, of which nothing but that sum moves the adapter.
    """

    phases: ClassVar[Phases]
    masked: ClassVar[Phases | None] = None
    words: ClassVar[TrustWords]
    stated_by: ClassVar[tuple[AccountantName, str]] = ("dp_accounting PLD", "dp-accounting")
    adds_up: ClassVar[bool] = False

    def phases_where(self, *, simulated: bool) -> Phases:
        """The phases of a round, in a simulation or over a network."""
        return self.phases if simulated or self.masked is None else self.masked

    @classmethod
    def words_of(cls, body: Mapping[str, Any]) -> TrustWords:  # noqa: ARG003
        """The words for a contract's body."""
        return cls.words

    def check(self, contract: Contract) -> None:
        """Return if the contract's other tables go with this trust model.

        Raises:
            ContractError: they do not.
        """
        if contract.pooled is not None:
            raise ContractError(
                "there is a table for noise that the pool shares",
                where="[pooled]",
                expected='[federation] trust = "pooled" beside it',
                got=f"trust = {contract.federation.trust!r}",
            )

    def filled(self, contract: Contract) -> Mapping[str, Mapping[str, Any]]:
        """What freezing fills in: table to its new values; σ, where it is not given.

        Raises:
            ContractError: an ε that no noise reaches, or that is meaningless.
        """
        p = contract.privacy
        if p.noise_multiplier is not None or p.epsilon is None:
            return {}
        sigma = solve_noise(
            epsilon=p.epsilon,
            delta=p.delta,
            sampling_rate=p.sampling_rate,
            steps=contract.outlet_steps,
        )
        return {"privacy": {"noise_multiplier": sigma}}

    @abstractmethod
    def noise_share(self, contract: Contract) -> float:
        """The standard deviation of one outlet's own noise, in units of the plan's."""

    def grid_bits(self, contract: Contract) -> int:  # noqa: ARG002
        """How many binary places the grid of sums and noise is finer than the sensitivity."""
        return GRID_BITS

    @abstractmethod
    def event(self, contract: Contract) -> Event:
        """The privacy event of a whole run, as an outlet's ledger charges it.

        Raises:
            LedgerError: a run that no ledger can price.
        """

    def epsilon(self, contract: Contract, *, charged: Event | None = None) -> float:
        """ε, at the contract's δ, of the very event that an outlet is charged with, by PLD.

        Args:
            contract: the run's.
            charged: the part of its event that an outlet pays which joins late; None for all.
        """
        plan = contract.plan
        if not plan.protected:
            return math.inf
        event = charged or self.event(contract)
        steps = min(plan.steps, event.steps)
        if event == events.from_dp(plan.event(steps)):
            return plan.epsilon(steps)
        return event_epsilon(events.to_dp(event), plan.delta)

    def spent(self, contract: Contract, steps: int) -> float:
        """ε of so many steps; more than the plan's where a round was handed out twice."""
        plan = contract.plan
        return replace(plan, steps=max(plan.steps, steps)).epsilon(steps)

    def alone(self, contract: Contract, steps: int) -> float | None:  # noqa: ARG002
        """ε of so many steps if everybody else works together; None where it is the same.

        Every attempt at a step counts as one.
        """
        return None

    def several(self, contract: Contract, outlets: int, steps: int) -> tuple[float, float]:
        """(ε, δ) of a reader at so many outlets: they compose, one after the other."""
        return outlets * self.spent(contract, steps), outlets * contract.plan.delta

    def accountant(self) -> str:
        """Name and version of what states ε."""
        return f"{ACCOUNTANT} {version('dp-accounting')}"

    def reserve(self, contract: Contract, steps: int) -> str:  # noqa: ARG002
        """What a statement of so many steps says after its accountant."""
        return f"and at most {bound(contract.plan.grid_delta)} more in δ for the noise's grid"

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

    def dtype(self, contract: Contract) -> str:  # noqa: ARG002
        """Of the arrays that outlets send, as numpy calls it."""
        return "float32"

    def fewest(self, contract: Contract) -> int:
        """How many answers a round needs to count."""
        return contract.federation.quorum

    @abstractmethod
    def seal(self, contract: Contract, delta: State) -> State:
        """At an outlet: what leaves of its privatised change; no array is copied needlessly.

        Args:
            contract: the run's.
            delta: name to array: float32, or int64 where it `adds_up`.
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
