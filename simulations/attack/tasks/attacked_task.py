"""What the attacks need to know of a task: what canaries and made readers write, and what tells.

Coins, arms, noise, the matched filter and the bounds are the same for all tasks. A task that can be
attacked is one file here and one line in `ATTACKED`.

Invariant: nothing here looks at a coin.

Example:
    >>> ATTACKED.names
    ('classification', 'fill-mask', 'generation')
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from presspool.common.base.registry import Registry
from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import task_of
from presspool.common.models.adapters import State
from presspool.common.tasks.scores.exposure import Scores

if TYPE_CHECKING:
    from presspool.simulations.attack.canaries import Canaries
    from presspool.simulations.attack.gradients import Probe


class AttackedTask(ABC):
    """A contract's task, as its attackers see it.

    Args:
        contract: the attacked run's.

    Attributes:
        contract: as given.
        columns: of a record in an outlet's file, without the reader.
        exposes: whether exposure is measured, by what `known` gives.
        spans_left_out: in plain words, why tokens are not read off updates; None where they are.
    """

    exposes: ClassVar[bool] = False
    spans_left_out: ClassVar[str | None] = None

    def __init__(self, contract: Contract) -> None:
        self.contract, self.columns = contract, task_of(contract).columns

    # --- Who is there ----------------------------------------------------------------------------

    @abstractmethod
    def words(self) -> list[str]:
        """What canaries' texts are made of, sorted."""

    def labels(self, drawn: NDArray[np.float64]) -> NDArray[np.int64]:
        """Canaries' labels, by uniform numbers below 1, both (canaries,); zeros if it has none."""
        return np.zeros(len(drawn), np.int64)

    @abstractmethod
    def planted(self, canaries: Canaries) -> pa.Table:
        """The included canaries' records as an outlet's file has them: strings, reader first."""

    @abstractmethod
    def records(self, canaries: Canaries) -> pa.Table:
        """Every canary's record, as the task's `parse` leaves it."""

    @abstractmethod
    def made(self, readers: int, seed: int) -> pa.Table:
        """Records of made readers, as `planted`."""

    @abstractmethod
    def parsed(self, table: pa.Table) -> pa.Table:
        """An outlet's records as `parse` leaves them, and their reader; without unusable ones."""

    # --- A malicious coordinator -----------------------------------------------------------------

    @abstractmethod
    def sent(self) -> State:
        """The adapter that it sends in every round."""

    @abstractmethod
    def silent(self, members: pa.Table) -> pa.Table:
        """Who stands beside the canaries then, of these readers' records: they add nothing.

        Neighbouring data sets may hold anybody, so the claim covers this as well.
        """

    # --- What the final adapter tells ------------------------------------------------------------

    @abstractmethod
    def known(self, probe: Callable[[int], Probe], canaries: Canaries) -> Scores:
        """How well the final adapter knows each canary, the higher the surer; (canaries,) float64.

        Args:
            probe: gives a probe before a round, counted from 0; -1 for the final adapter.
            canaries: all of them.
        """


ATTACKED: Registry[type[AttackedTask]] = Registry(
    "task that can be attacked",
    {
        "classification": (
            "presspool.simulations.attack.tasks.attacked_classifier:AttackedClassifier"
        ),
        "fill-mask": "presspool.simulations.attack.tasks.attacked_filler:AttackedFiller",
        "generation": "presspool.simulations.attack.tasks.attacked_writer:AttackedWriter",
    },
)


def attacked(contract: Contract) -> AttackedTask:
    """The attackers' view of a contract's task.

    Raises:
        ContractError: a task that no attack is written for.
    """
    return ATTACKED[contract.task.kind](contract)
