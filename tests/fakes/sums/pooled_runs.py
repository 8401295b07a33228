"""Frozen contracts whose outlets share their noise, without a model; and their sums by hand.

Example: `pooled_contract(outlets=4, colluders=1)` has four outlets of 10, 20, 30 and 40 readers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.fakes.made_runs import made_update

from presspool.common.contract.contract import EXAMPLE, Contract, parse_contract
from presspool.common.wire.update import AdapterUpdate

HASH = "sha256:" + "0" * 64
NAMES = ("head.weight", "lora.B")
Whole = dict[str, NDArray[Any]]


def pooled_body(*, outlets: int = 4, **changes: Mapping[str, Any]) -> dict[str, Any]:
    """A body before freezing; a table's keys are changed one by one."""
    body: dict[str, Any] = json.loads(EXAMPLE) | {
        "outlets": {f"outlet-{at}": 10 * at for at in range(1, outlets + 1)},
        "federation": {"trust": "pooled", "rounds": 3, "local_steps": 1},
        "privacy": {"epsilon": 6.0, "clip": 1.0, "sampling_rate": 0.3},
        "pooled": {"colluders": 1, "dropouts": 0},
    }
    for table, keys in changes.items():
        body[table] = {**body.get(table, {}), **keys}
    return body


def pooled_contract(*, parameters: int = 10, **changes: Any) -> Contract:
    """The same, frozen for so many trained numbers."""
    body = pooled_body(**changes)
    body["model"] = dict.fromkeys(("weights", "tokenizer", "manifest"), HASH)
    body["pooled"] = {"parameters": parameters, **body["pooled"]}
    return parse_contract(body).with_noise()


def answers_of(
    contract: Contract, sums: Sequence[Whole], *, round: int = 1
) -> list[dict[str, AdapterUpdate]]:
    """One phase's answers: the sealed sums of the contract's first outlets."""
    sealed = [contract.trust.seal(contract, one) for one in sums]
    return [
        {
            name: made_update(name, delta=delta, round=round)
            for name, delta in zip(contract.outlets, sealed, strict=False)
        }
    ]


def by_hand(contract: Contract, sums: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """−rate·γ·Σ/b in Python's own whole numbers and floats, of the contract's first outlets."""
    readers = sum(list(contract.outlets.values())[: len(sums)])
    sensitivity = sum(c * c for c in contract.privacy.clip.values()) ** 0.5
    grid = 2.0 ** (np.frexp(sensitivity)[1] - 1 - (contract.pooled.grid if contract.pooled else 0))
    rate, b = contract.optimizer.learning_rate["all"], contract.privacy.sampling_rate * readers
    return {
        name: [
            -rate * float(grid) * sum(int(one[name].flat[at]) for one in sums) / b
            for at in range(sums[0][name].size)
        ]
        for name in sums[0]
    }
