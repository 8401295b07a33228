"""What a coordinator that attacks one outlet gets to see: every adapter it sent, every answer.

The outlet is the real one: its Flower app, its self-test, its release. The attacker plays the
coordinator and, by saying nothing in their place, all other outlets; the promise of trust model
"local" holds against exactly that. An honest attacker sends what the contract's averaging makes;
a malicious one sends an adapter of its own choice in every round (`bait`), which the promise covers
as well. A transcript is written after every round and continued there.

Example: `listen(contract, settings, Path("runs/attack/control.npz"), sent=bait(contract))`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import Message
from numpy.typing import NDArray

from presspool.client.identity.settings import read_settings
from presspool.common.base.errors import PressPoolError
from presspool.common.base.files import replace_file
from presspool.common.contract.contract import Contract
from presspool.common.models import adapters
from presspool.common.models.adapters import State
from presspool.common.models.models import build
from presspool.common.wire.update import TrainTask, pack_task, unpack_update
from presspool.server.rounds.aggregators.aggregator import aggregator_of
from presspool.simulations.grids.local_grid import LocalGrid

# A logit that no round's steps come near.
CERTAIN = 1e4


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """One outlet's rounds.

    Attributes:
        contract: what was trained, its noise included.
        population: that the contract declares for the outlet.
        states: the adapter before each round and after the last: rounds + 1 of them.
        updates: the released change of each round.
    """

    contract: Contract
    population: int
    states: tuple[State, ...]
    updates: tuple[State, ...]


def scaled_noise(contract: Contract, scale: float) -> Contract:
    """The contract with its σ times `scale`, and no ε of its own; 0 for a run without noise.

    1 leaves it as it is. Anything else is for controls and for tests of the attack: what is
    trained then is never what the contract claims.
    """
    if scale == 1:
        return contract
    sigma = contract.plan.noise_multiplier * scale
    return contract.replace(
        privacy={"noise_multiplier": sigma, "epsilon": math.inf if sigma == 0 else None}
    )


def bait(contract: Contract) -> State:
    """An adapter under which a record's gradient hangs on nothing but the record.

    A zero head whose first bias is huge answers label 0 with certainty, whatever it reads and
    however a round's steps move it: the gradient of a record of label y stays
    (e_0 - e_y) ⊗ (features, 1), and every step of a round adds exactly that for everybody drawn.
    """
    state = {n: np.zeros_like(array) for n, array in adapters.read(build(contract)).items()}
    (bias,) = (n for n in state if adapters.group_of(n) == "head" and n.endswith(".bias"))
    state[bias][0] = CERTAIN
    return state


def listen(
    contract: Contract,
    settings: Path,
    kept: Path,
    *,
    sent: State | None = None,
    on_round: Callable[[], None] = lambda: None,
) -> Transcript:
    """Run the outlet through all rounds of the contract, or through those that are missing.

    Args:
        contract: frozen.
        settings: the outlet's `outlet.toml`.
        kept: file that holds the rounds so far.
        sent: what every round starts from; None for what honest averaging makes.
        on_round: called after each round that is run now.

    Raises:
        PressPoolError: the outlet answers with a failure.
    """
    first = adapters.read(build(contract)) if sent is None else sent
    states, updates = _read(kept) if kept.exists() else ([first], [])
    moments: State = {}
    with LocalGrid([settings], workers=0) as grid:
        for number in range(1, contract.federation.rounds + 1):
            if number > len(updates):
                updates.append(_ask(grid, contract, number, states[-1]))
                on_round()
            if sent is None:
                last, answer = states[number - 1], updates[number - 1]
                state, moments = _next(contract, number, last, answer, moments)
            else:
                state = sent
            if number == len(states):
                states.append(state)
                _write(kept, states, updates)
    return Transcript(
        contract=contract,
        population=contract.outlets[read_settings(settings).name],
        states=tuple(states),
        updates=tuple(updates),
    )


def _ask(grid: LocalGrid, contract: Contract, number: int, state: State) -> State:
    text = contract.canonical().decode()
    task = TrainTask(contract=text, digest=contract.digest, round=number, state=state)
    (node,) = grid.get_node_ids()
    message = Message(pack_task(task), node, "train", group_id=str(number))
    (reply,) = grid.send_and_receive([message])
    if reply.has_error():
        raise PressPoolError(
            "the attacked outlet could not train",
            where=f"round {number}",
            got=reply.error.reason,
            advice="its own log says more: run with one round by `presspool simulate`",
        )
    return unpack_update(reply.content).delta


def _next(
    contract: Contract, number: int, state: State, delta: State, moments: State
) -> tuple[State, State]:
    """The coordinator's own step; the average of one outlet's answers is its answer."""
    averaged = {name: array.astype(np.float64) for name, array in delta.items()}
    return aggregator_of(contract).step(state, averaged, moments, number=number)


def _write(path: Path, states: list[State], updates: list[State]) -> None:
    arrays: dict[str, NDArray[np.float32]] = {}
    for kind, rounds in (("state", states), ("update", updates)):
        for number, state in enumerate(rounds):
            arrays |= {f"{kind}/{number}/{name}": array for name, array in state.items()}
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    replace_file(path, stream.getvalue())


def _read(path: Path) -> tuple[list[State], list[State]]:
    rounds: dict[str, dict[int, dict[str, NDArray[np.float32]]]] = {"state": {}, "update": {}}
    with np.load(path) as arrays:
        for key in arrays.files:
            kind, number, name = key.split("/", 2)
            rounds[kind].setdefault(int(number), {})[name] = arrays[key]
    return [rounds["state"][i] for i in sorted(rounds["state"])], [
        rounds["update"][i] for i in sorted(rounds["update"])
    ]
