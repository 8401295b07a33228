"""FedAvg (McMahan et al., AISTATS 2017): the adapter moves by the weighted mean of the changes.

FedIT (Zhang et al., ICASSP 2024) averages both LoRA factors this way; with FFA-LoRA (Sun et al.,
ICLR 2024) A is frozen at its public value, so that averaging B is averaging the product BA exactly.

Example:
    >>> from presspool.common.contract.contract_schema import Server
    >>> state, twice = {"w": np.zeros(1, np.float32)}, Server(learning_rate={"all": 2.0})
    >>> Average(twice, 3).step(state, {"w": np.ones(1)}, {}, number=1)[0]
    {'w': array([2.], dtype=float32)}
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from presspool.common.models.adapters import State
from presspool.server.rounds.aggregators.aggregator import Aggregator, Change


class Average(Aggregator):
    """Adds the mean update times the rate."""

    rated = "optimizer"

    def direction(
        self,
        change: Change,
        moments: State,  # noqa: ARG002
        name: str,
        number: int,  # noqa: ARG002
    ) -> NDArray[np.float64]:
        """The mean itself."""
        return change[name]
