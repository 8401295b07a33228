"""FedAdam (Reddi et al., ICLR 2021, algorithm 2): the mean update is Adam's gradient.

Adam at the coordinator sees the noise averaged over the outlets, where Adam at an outlet would see
it whole and forget its moments every round.

Invariant: moments are float32, as they are in a checkpoint, and have the names of the state's
arrays.

Example:
    >>> from presspool.common.contract.contract_schema import Server
    >>> adam, state = Adam(Server(name="adam"), 3), {"w": np.zeros(1, np.float32)}
    >>> adam.step(state, {"w": np.full(1, 0.5)}, {}, number=1)[0]
    {'w': array([1.], dtype=float32)}
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from presspool.common.models.adapters import State
from presspool.server.rounds.aggregators.aggregator import Aggregator, Arrays, Change

# Keeps 0/0 away; far below any update that has noise on it.
TINY = 1e-12


class Adam(Aggregator):
    """Takes a step of Adam with the mean update for its gradient."""

    rated = "server"

    def remember(self, change: Change, moments: State) -> State:
        """Decaying means of the update (`first/`) and of its square (`second/`)."""
        after: Arrays = {}
        for name, gradient in change.items():
            values = {f"first/{name}": gradient, f"second/{name}": gradient**2}
            for beta, (key, value) in zip(self.spec.betas, values.items(), strict=True):
                old = moments.get(key, np.zeros(1, np.float32))
                after[key] = (beta * old + (1 - beta) * value).astype(np.float32)
        return after

    def direction(
        self,
        change: Change,  # noqa: ARG002
        moments: State,
        name: str,
        number: int,
    ) -> NDArray[np.float64]:
        """m̂ / (√v̂ + τ), with Kingma & Ba's correction for the moments' start at zero."""
        first = moments[f"first/{name}"].astype(np.float64) / (1 - self.spec.betas[0] ** number)
        second = moments[f"second/{name}"].astype(np.float64) / (1 - self.spec.betas[1] ** number)
        result: NDArray[np.float64] = first / (np.sqrt(second) + TINY)
        return result
