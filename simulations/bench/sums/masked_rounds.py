"""Rounds of next to nothing whose answers are masked, beside the same rounds in the open.

Who masks is the real outlet's part, in the benchmark's outlets; the coordinator's part is what a
run's rounds use. The first round exchanges keys and has a phase more than the others.

Example: ``MaskedRounds(grid, masked_contract(["a", "b", "c"]), cohort).one_round()``.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord

from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.wire.update import array_record
from presspool.server.rounds.masked_gathering import MaskedGathering, keys_of
from presspool.server.rounds.strategy import AdapterStrategy
from presspool.server.transport.grpc_grid import GrpcGrid

STATE = {"w0": np.zeros(1, np.float32)}


def masked_contract(body: Mapping[str, Any], outlets: Collection[str]) -> Contract:
    """A plain contract's body with the table of a pool; a fifth of the outlets may collude."""
    digest = "sha256:" + "0" * 64
    table = {"colluders": -(-len(outlets) // 5), "dropouts": 0, "parameters": 1}
    changed = {
        "name": "masked",
        "model": {**body["model"], "manifest": digest},
        "federation": {"trust": "pooled", "rounds": 1000, "local_steps": 1},
        "privacy": {**body["privacy"], "noise_multiplier": 5.0},
        "pooled": table,
    }
    return parse_contract({**body, **changed}).with_noise()


class MaskedRounds:
    """The rounds of one run.

    Args:
        grid: of the run.
        contract: whose noise the pool shares.
        cohort: outlet to the key by which the others know it.
    """

    def __init__(self, grid: GrpcGrid, contract: Contract, cohort: Mapping[str, bytes]) -> None:
        self._grid, self._contract = grid, contract
        self._round, self._kept = 0, keys_of(contract, cohort).before(b"")
        self._record: ArrayRecord = array_record(STATE)

    def one_round(self) -> float:
        """All phases of the next round; returns seconds."""
        self._round += 1
        began = time.monotonic()
        gathering = MaskedGathering(
            self._contract,
            number=self._round,
            kept=self._kept,
            shapes={name: array.shape for name, array in STATE.items()},
        )
        strategy = AdapterStrategy(self._contract, gathering=gathering)
        for phase in range(gathering.first, len(gathering.phases) + 1):
            config = ConfigRecord({"phase": phase})
            asked = strategy.configure_train(self._round, self._record, config, self._grid)
            strategy.aggregate_train(self._round, self._grid.send_and_receive(asked))
        self._kept = gathering.kept
        return time.monotonic() - began
