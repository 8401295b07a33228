"""What the coordinator makes of a round's averaged update: add it, or take an Adam step with it.

Outlets send noisy gradients; what is done with their average is post-processing and costs nothing.
Adam at the coordinator (FedAdam: Reddi et al., ICLR 2021, algorithm 2) sees the noise averaged over
the outlets, where Adam at an outlet would see it whole and forget its moments every round.

Invariants:
    * A step is a pure function of state, update, moments and round: a resumed run makes the same.
    * Moments are float32, as they are in a checkpoint, and have the names of the state's arrays.

Example:
    >>> state = {"w": np.zeros(1, np.float32)}
    >>> spec = Server(learning_rate={"all": 2.0})
    >>> step(spec, state, {"w": np.ones(1)}, {}, done=0.0, number=1)[0]
    {'w': array([2.], dtype=float32)}
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from presspool.common.contract.contract_schema import Server
from presspool.common.contract.schedule import factor
from presspool.common.models.adapters import State, group_of

Arrays = dict[str, NDArray[np.float32]]

# Keeps 0/0 away; far below any update that has noise on it.
TINY = 1e-12


def step(
    spec: Server,
    state: State,
    update: Mapping[str, NDArray[np.float64]],
    moments: State,
    *,
    done: float,
    number: int,
) -> tuple[Arrays, Arrays]:
    """The next state, and the moments to remember for the step after it.

    Args:
        spec: the contract's table.
        state: the adapter that was sent out.
        update: the averaged change of it, float64.
        moments: of the step before; empty at the first and where there are none.
        done: share of the rounds that were done before this one, for the schedule.
        number: this round, from 1.
    """
    rate = factor(spec.schedule, done)
    if spec.name == "adam":
        moments = _moments(spec, update, moments)
    rates, after = spec.learning_rate, dict[str, NDArray[np.float32]]()
    for name, array in state.items():  # one at a time: in float64 a whole adapter is large
        change = _direction(spec, moments, name, number) if spec.name == "adam" else update[name]
        own = rates["all" if "all" in rates else group_of(name)]
        after[name] = (array + rate * own * change).astype(np.float32)
    return after, dict(moments)


def _moments(spec: Server, update: Mapping[str, NDArray[np.float64]], before: State) -> Arrays:
    """Decaying means of the update (`first/`) and of its square (`second/`)."""
    after: Arrays = {}
    for name, change in update.items():
        for key, beta, value in zip(
            (f"first/{name}", f"second/{name}"), spec.betas, (change, change**2), strict=True
        ):
            old = before.get(key, np.zeros(1, np.float32))
            after[key] = (beta * old + (1 - beta) * value).astype(np.float32)
    return after


def _direction(spec: Server, moments: State, name: str, number: int) -> NDArray[np.float64]:
    """m̂ / (√v̂ + τ), with Kingma & Ba's correction for the moments' start at zero."""
    first = moments[f"first/{name}"].astype(np.float64) / (1 - spec.betas[0] ** number)
    second = moments[f"second/{name}"].astype(np.float64) / (1 - spec.betas[1] ** number)
    result: NDArray[np.float64] = first / (np.sqrt(second) + TINY)
    return result
