"""Our own simulation: coordinator's app, grid and outlets, as `presspool simulate` has them.

Invariants:
    * The whole path: contract, task, admission, the outlets' engine with its checks, one privatised
      step each, average, checkpoint. Only the pause before a round is added.
    * Every outlet has one reader, whose records are the client's; the sampling rate is 1, so each
      round trains on all of them.

Example: ``python -m presspool.simulations.bench.simulators.contestant pool 1``
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from flwr.app import Message

from presspool.common.contract.contract import parse_contract
from presspool.common.runs.run_file import RunFile, Simulation
from presspool.common.wire.update import unpack_task
from presspool.server.rounds.server_app import serve
from presspool.simulations.bench.engine_tasks import LABELS, RANK
from presspool.simulations.bench.simulators.simulator_task import Arrays, done_between
from presspool.simulations.bench.simulators.simulator_turns import (
    CLIP,
    LEARNING_RATE,
    NOISE,
    RoundDone,
    RoundSizes,
    Turns,
)
from presspool.simulations.grids.local_grid import LocalGrid
from presspool.simulations.simulate import SimulateOptions, prepare

WORDS = ("the", "paper", "says", "that", "a", "new", "law", "was", "passed", "by", "one", "vote")
MOST_ROUNDS = 10_000


class NoMoreTurnsError(Exception):
    """The measurement is over."""


class TurnGrid(LocalGrid):
    """The grid of `presspool simulate`, which waits for its turn before each round."""

    turns: Turns
    records: int  # of each outlet
    _before: Arrays | None = None
    _clients: int = 0

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """As the grid does it, in its turn."""
        held = list(messages)
        state = {k: np.asarray(v) for k, v in unpack_task(held[0].content).state.items()}
        if not self.turns.next(self._done(state)):
            raise NoMoreTurnsError
        self._before = state
        replies = list(super().send_and_receive(held, timeout=timeout))
        self._clients = sum(not reply.has_error() for reply in replies)
        return replies

    def _done(self, state: Arrays) -> RoundDone | None:
        if self._before is None:
            return None
        return done_between(
            self._before, state, clients=self._clients, records=self._clients * self.records
        )


def pool(sizes: RoundSizes, workers: str) -> None:
    """Take turns with so many workers; 0 serves all outlets in this process."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        contract = parse_contract(body(sizes, write_records(data, sizes), rounds=MOST_ROUNDS))
        run = RunFile(contract=contract, simulation=Simulation(data=data))
        prepared = prepare(run, SimulateOptions(out=Path(folder) / "run"))
        try:
            with prepared.folder.alone(), TurnGrid(prepared.outlets, workers=int(workers)) as grid:
                grid.turns, grid.records = Turns(), sizes.records
                serve(grid, prepared.folder)
        except NoMoreTurnsError:
            return


def write_records(folder: Path, sizes: RoundSizes) -> list[str]:
    """Write every outlet's file of one reader into a new folder; returns the outlets' names."""
    folder.mkdir()
    draw = random.Random(0)  # noqa: S311 - made texts
    names = [f"client-{number:03}" for number in range(sizes.clients)]
    for name in names:
        pq.write_table(_made_records(name, sizes, draw), folder / f"{name}.parquet")
    return names


def body(sizes: RoundSizes, names: list[str], *, rounds: int) -> dict[str, Any]:
    """The contract: the other contestants' model, step, clip norm and noise."""
    return {
        "name": "bench",
        "task": {"labels": [f"label {i}" for i in range(LABELS)], "max_length": sizes.tokens},
        "adapter": {"rank": RANK, "alpha": 2.0 * RANK, "method": "fedit"},
        "federation": {"rounds": rounds, "local_steps": 1, "quorum": sizes.clients},
        "outlets": dict.fromkeys(names, 1),
        "privacy": {
            "noise_multiplier": NOISE,
            "clip": CLIP,
            "records_per_reader": sizes.records,
            "sampling_rate": 1.0,
        },
        "optimizer": {"learning_rate": LEARNING_RATE},
    }


def _made_records(reader: str, sizes: RoundSizes, draw: random.Random) -> pa.Table:
    texts = [" ".join(draw.choices(WORDS, k=sizes.tokens)) for _ in range(sizes.records)]
    labels = [f"label {draw.randrange(LABELS)}" for _ in texts]
    return pa.table({"reader": [reader] * sizes.records, "text": texts, "label": labels})
