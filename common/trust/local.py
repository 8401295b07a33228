"""Trust model "local": the whole transcript of an outlet is private by itself.

Each outlet adds all the noise of the plan to its own sums, by its own generator, before anything
leaves it. So its ε holds whatever the coordinator and all other outlets do; a round is one phase,
an update travels as it is, and the coordinator averages by the contract's weights.

Invariant: sealing and opening are the identity and copy nothing.

Example:
    >>> Local().seal(None, {"w": 1})
    {'w': 1}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from presspool.common.accounting import events
from presspool.common.trust.trust_model import TRAIN, Event, Phases, TrustModel, TrustWords

if TYPE_CHECKING:
    from presspool.common.contract.contract import Contract
    from presspool.common.models.adapters import State
    from presspool.common.wire.update import AdapterUpdate


class Local(TrustModel):
    """See the module."""

    phases = Phases((TRAIN,))
    words = TrustWords(
        claim="Trust model local: each outlet adds its own noise, so its figure holds whatever the "
        "coordinator and the other outlets do.",
        how="Each outlet adds the noise itself, with its own generator, before anything leaves it. "
        "Its readers are protected whatever the coordinator and all other outlets do together.",
        assumption="Assumed: the outlet runs the program that the contract describes, its "
        "generator is secret and good, and its operator does not publish the readers' data by "
        "another way.",
        adversary="an adversary who sees every update of that outlet and every adapter of the run",
        curator="the outlet is the curator of its readers' records and adds the noise itself, "
        "before anything leaves it.",
        actors="Outlets hold their readers' records and are trusted by their own readers only. The "
        "coordinator averages what they send and is not trusted. Other outlets and whoever gets "
        "the adapter are not trusted and may work together.",
        noise_added_by="Each outlet, to its own sums, before anything leaves it",
        collusion="the claim holds even if the coordinator and all other outlets work together.",
        dropout="each outlet's noise is enough for its own readers, so any number of other outlets "
        "may drop out",
        composed_by="privacy loss distributions",
        several="Several outlets, which answer in turn, compose concurrently (Vadhan and Zhang "
        "2023): their ε and δ add up.",
    )

    def noise_share(self, contract: Contract) -> float:  # noqa: ARG002
        """All of the plan's noise."""
        return 1.0

    def event(self, contract: Contract) -> Event:
        """The plan's own."""
        return events.from_dp(contract.plan.event())

    def colluding(self, contract: Contract) -> int:
        """All the others."""
        return len(contract.outlets) - 1

    def dropping(self, contract: Contract) -> int:
        """All the others."""
        return len(contract.outlets) - 1

    def seal(self, contract: Contract, delta: State) -> State:  # noqa: ARG002
        """The very change."""
        return delta

    def open(
        self, contract: Contract, answers: Sequence[Mapping[str, AdapterUpdate]]
    ) -> tuple[Mapping[str, AdapterUpdate], Mapping[str, float]]:
        """The updates as they came, by the contract's weights."""
        return answers[self.phases.index(TRAIN)], contract.weights()
