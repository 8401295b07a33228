"""What a round costs a coordinator, measured: the code that runs, on answers that are made.

The answers have the contract's shapes and lie in memory as they came from the wire, as a mailbox
holds them; reading each one's bytes, admission and aggregation are what is measured. The database
and the network are not.

Invariant: nothing of readers is there: the answers are zeros.

Example: `measured_round(contract, 16, state)` is (seconds, bytes of memory at most).
"""

from __future__ import annotations

import gc
import io
import time
import tracemalloc
from collections.abc import Iterable, Iterator

import numpy as np
from flwr.app import ConfigRecord, Message

from presspool.common.contract.contract import Contract
from presspool.common.models import adapters
from presspool.common.models.adapters import State
from presspool.common.wire.flower import from_stored, node_of, stamp, to_bytes
from presspool.common.wire.run_grid import RunGrid
from presspool.common.wire.update import AdapterUpdate, array_record, pack_update
from presspool.server.rounds.strategy import AdapterStrategy

REPEATS = 3


def of_outlets(contract: Contract, count: int, **federation: None) -> Contract:
    """The contract with so many outlets: its own populations, over and over.

    Args:
        contract: the run's.
        count: of outlets.
        federation: keys of [federation] that are left out.
    """
    populations = list(contract.outlets.values())
    names = {f"outlet-{n:06}": populations[n % len(populations)] for n in range(count)}
    quorum = min(contract.federation.quorum, count)
    return contract.replace(outlets=names, federation={"quorum": quorum, **federation})


def made_answer(contract: Contract, outlet: str, state: State) -> bytes:
    """What an outlet sends in round 1: the exact bytes of an update, with zeros in it."""
    kind = np.dtype(contract.trust.dtype(contract))
    update = AdapterUpdate(
        outlet=outlet,
        round=1,
        contract=contract.digest,
        base=adapters.digest(state),
        delta={name: np.zeros(array.shape, kind) for name, array in state.items()},
    )
    return to_bytes(pack_update(update))


def measured_round(contract: Contract, count: int, state: State) -> tuple[float, int]:
    """One round at the coordinator.

    Args:
        contract: the run's.
        count: of outlets.
        state: the adapter.

    Returns:
        Processor seconds, the fewest of some; and bytes that it needs besides the answers, at most.
    """
    contract = of_outlets(contract, count, cohort=None, buffer=None, staleness=None)
    grid = _MadeGrid({name: made_answer(contract, name, state) for name in contract.outlets})
    seconds = []
    for _ in range(REPEATS):
        gc.collect()
        began = time.process_time()
        _round(contract, state, grid)
        seconds.append(time.process_time() - began)
    gc.collect()
    tracemalloc.start()
    try:
        _round(contract, state, grid)
        return min(seconds), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _round(contract: Contract, state: State, grid: RunGrid) -> None:
    strategy = AdapterStrategy(contract)
    messages = strategy.configure_train(1, array_record(state), ConfigRecord({"phase": 1}), grid)
    strategy.aggregate_train(1, grid.send_and_receive(messages))


class _MadeGrid(RunGrid):
    """Outlets whose answers are there already.

    Args:
        answers: outlet to the bytes of its answer.
    """

    def __init__(self, answers: dict[str, bytes]) -> None:
        super().__init__()
        self._answers = {node_of(name): answer for name, answer in answers.items()}
        self._names = {node_of(name): name for name in answers}

    @property
    def outlets(self) -> dict[int, str]:
        """Each outlet's node, as certificates say it."""
        return self._names

    def get_node_ids(self) -> list[int]:
        """All of them."""
        return list(self._answers)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Nobody is asked."""
        return [str(message.metadata.dst_node_id) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:  # noqa: ARG002
        """Nothing waits here."""
        return []

    def send_and_receive(
        self,
        messages: Iterable[Message],
        *,
        timeout: float | None = None,  # noqa: ARG002
    ) -> Iterator[Message]:
        """Each one's answer, read when it is asked for."""
        for message in messages:
            node = message.metadata.dst_node_id
            content = from_stored(io.BytesIO(self._answers[node]))
            yield stamp(Message(content, reply_to=stamp(message, f"{node}")), f"{node}-reply")
