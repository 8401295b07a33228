"""How a round's answers come together, phase by phase: as they are, or under masks.

Invariants:
    * A phase's brief follows from the answers to the phases before it, so that a coordinator that
      was killed hands out the same one again.
    * Whoever missed a phase that others' masks count on is not asked in the next.

Example: ``gathering_of(contract, number=1, kept=b"", state=state).brief(1)``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from flwr.serverapp import Grid

from presspool.common.base.errors import ContractError
from presspool.common.contract.contract import Contract
from presspool.common.models.adapters import State
from presspool.common.secagg.secagg_messages import CohortKeys
from presspool.common.trust.trust_model import Phases
from presspool.common.wire.run_grid import RunGrid
from presspool.common.wire.update import AdapterUpdate
from presspool.server.rounds.masked_gathering import MaskedGathering, keys_of

Answers = Mapping[str, AdapterUpdate]


class Gathering(Protocol):
    """What a round asks and makes of the answers.

    Attributes:
        phases: of the round.
        first: the phase that it begins with, from 1.
    """

    phases: Phases
    first: int

    @property
    def kept(self) -> bytes:
        """What later rounds of the run need of it."""

    def brief(self, phase: int) -> bytes:
        """What a phase's task passes on."""

    def asked(self, phase: int) -> Collection[str] | None:
        """The outlets of whose answers a phase is made and that it goes to; None: who is there."""

    def sends_adapter(self, phase: int) -> bool:
        """Whether a phase's task carries the adapter."""

    def fewest(self, phase: int) -> int:
        """How many answers a phase needs."""

    def take(self, phase: int, outlet: str, update: AdapterUpdate) -> None:
        """Keep an admitted answer; raises `AdmissionError` where it cannot be a part of it."""

    def opened(self) -> tuple[Answers, Mapping[str, float]]:
        """What is averaged, and the weights of it."""


class OpenGathering:
    """Answers that are seen as they are, as the contract's trust model says."""

    first, kept = 1, b""

    def __init__(self, contract: Contract) -> None:
        self._contract, self.phases = contract, contract.trust.phases
        self._taken: list[dict[str, AdapterUpdate]] = [{} for _ in self.phases]

    def brief(self, phase: int) -> bytes:
        """The trust model's."""
        return self._contract.trust.brief(phase, self._answers(phase - 1))

    def asked(self, phase: int) -> None:
        """Whoever is there."""

    def sends_adapter(self, phase: int) -> bool:  # noqa: ARG002
        """All of them."""
        return True

    def fewest(self, phase: int) -> int:  # noqa: ARG002
        """As the trust model says."""
        return self._contract.trust.fewest(self._contract)

    def take(self, phase: int, outlet: str, update: AdapterUpdate) -> None:
        """As it is."""
        self._taken[phase - 1][outlet] = update

    def opened(self) -> tuple[Answers, Mapping[str, float]]:
        """As the trust model does."""
        return self._contract.trust.open(self._contract, self._answers(len(self.phases)))

    def _answers(self, phases: int) -> list[Answers]:
        """To the first so many phases, sorted by outlet: sums do not hang on who was first."""
        return [dict(sorted(taken.items())) for taken in self._taken[:phases]]


def cohort_of(contract: Contract, grid: Grid) -> CohortKeys | None:
    """Whose sums a run's are, and by which keys they sign; None where answers are seen as they are.

    It is asked once, when a run begins: a member that changes its key later is another one.

    Args:
        contract: the run's.
        grid: who carries answers; it knows whether outlets have keys of their own.

    Raises:
        ContractError: answers would be seen alone that must not be.
        QuorumError: an outlet that masks count on is no member.
    """
    if contract.trust.masked is None:
        return None
    if not isinstance(grid, RunGrid):
        raise ContractError(
            "sums of outlets that nobody knows by a key",
            where="[federation] trust",
            expected="local on this engine; presspool coordinator run, or presspool simulate",
            got=contract.federation.trust,
        )
    return None if grid.cohort is None else keys_of(contract, grid.cohort)


def gathering_of(contract: Contract, *, number: int, kept: bytes, state: State) -> Gathering:
    """How a round's answers come together.

    Args:
        contract: the run's.
        number: of the round.
        kept: of what came before it in the run; of the start, the cohort's keys, if it has any.
        state: the adapter that the round starts from.
    """
    if not kept:
        return OpenGathering(contract)
    shapes = {name: array.shape for name, array in state.items()}
    return MaskedGathering(contract, number=number, kept=kept, shapes=shapes)
