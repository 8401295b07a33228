"""What travels between coordinator and outlets: a training task down, an adapter update up.

Both are Flower messages whose content is one `ArrayRecord` ("adapter") and one `ConfigRecord`
("task" or "update"). Arrays are raw little-endian float32 with an explicit shape: nothing is
unpickled or guessed from a header.

`AdapterUpdate` is additive: adding two updates is adding their vectors, scaling one is scaling its
vector, so aggregation is a weighted sum in outlet order and nothing else.

Invariant: an `AdapterUpdate` holds every field that ever leaves an outlet in a training round.

Example:
    >>> one = AdapterUpdate(outlet="a", round=1, contract="sha256:0", base="sha256:1",
    ...                     delta={"w": np.ones(2, np.float32)})
    >>> (one.scaled(0.5)["w"]).tolist()
    [0.5, 0.5]
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from presspool.common.adapters import State
from presspool.common.ledger.entries import GUARD_REASONS

ENCODING = "presspool.float32le"

# The only words an outlet ever says about a failure; texts and traces stay with its operator.
# None of them depends on readers' data. The "not-now" ones may be asked again.
FAILURES = {
    1: "contract-invalid",
    2: "model-unavailable",
    3: "engine-refused",
    4: "outlet-misconfigured",
    5: "internal-error",
    6: "not-now-quiet-hours",
    7: "not-now-approval",
    8: "over-budget",
    9: "round-released",
    10: "run-over",
    11: "ledger-unusable",
    **dict(enumerate(GUARD_REASONS, start=20)),
}


@dataclass(frozen=True, kw_only=True)
class TrainTask:
    """One outlet's work for one round.

    Attributes:
        contract: canonical JSON of the frozen contract.
        digest: its sha256.
        round: from 1.
        state: the adapter to start from.
    """

    contract: str
    digest: str
    round: int
    state: State


@dataclass(frozen=True, kw_only=True)
class AdapterUpdate:
    """One outlet's private answer to a task.

    Attributes:
        outlet: who trained.
        round: from 1.
        contract: digest of the contract it was trained under.
        base: digest of the adapter state it started from.
        delta: name to float32 array, the privatised change of the adapter.
    """

    outlet: str
    round: int
    contract: str
    base: str
    delta: State

    def scaled(self, weight: float) -> dict[str, NDArray[np.float64]]:
        """`weight` times the update, in float64 so that a sum does not lose small outlets."""
        return {name: weight * a.astype(np.float64) for name, a in self.delta.items()}


def add(
    left: Mapping[str, NDArray[np.float64]], right: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """The sum of two scaled updates with the same names."""
    return {name: left[name] + right[name] for name in left}


def pack_task(task: TrainTask) -> RecordDict:
    """The task as the content of a Flower message."""
    fields: dict[str, Any] = {
        "contract": task.contract, "digest": task.digest, "round": task.round,
    }  # fmt: skip
    return RecordDict({"adapter": array_record(task.state), "task": ConfigRecord(fields)})


def unpack_task(content: RecordDict) -> TrainTask:
    """The task in a message's content.

    Raises:
        ValueError: a field is missing or of the wrong type, or an array is not what it says.
    """
    fields = _fields(content, "task", {"contract": str, "digest": str, "round": int})
    return TrainTask(state=_unpack(content), **fields)


def pack_update(update: AdapterUpdate) -> RecordDict:
    """The update as the content of a Flower message."""
    fields: dict[str, Any] = {
        "outlet": update.outlet, "round": update.round, "contract": update.contract,
        "base": update.base,
    }  # fmt: skip
    return RecordDict({"adapter": array_record(update.delta), "update": ConfigRecord(fields)})


def unpack_update(content: RecordDict) -> AdapterUpdate:
    """The update in a message's content; shapes and values are for admission to judge.

    Raises:
        ValueError: a field is missing or of the wrong type, or an array is not what it says.
    """
    kinds = {"outlet": str, "round": int, "contract": str, "base": str}
    return AdapterUpdate(delta=_unpack(content), **_fields(content, "update", kinds))


def payload_bytes(content: RecordDict) -> int:
    """Bytes of array data in a message's content."""
    return sum(len(a.data) for record in content.array_records.values() for a in record.values())


def array_record(state: State) -> ArrayRecord:
    """An adapter state as a Flower record."""
    arrays = {
        name: Array("float32", tuple(a.shape), ENCODING, np.ascontiguousarray(a, "<f4").tobytes())
        for name, a in sorted(state.items())
    }
    return ArrayRecord(arrays)


def state_of(record: ArrayRecord) -> dict[str, NDArray[np.float32]]:
    """The adapter state in a Flower record.

    Raises:
        ValueError: an array is not what it says.
    """
    return {name: _array(name, array) for name, array in record.items()}


def _unpack(content: RecordDict) -> dict[str, NDArray[np.float32]]:
    if set(content.array_records) != {"adapter"}:
        raise ValueError(
            f"expected one array record 'adapter', got {sorted(content.array_records)}"
        )
    return state_of(content.array_records["adapter"])


def _array(name: str, array: Array) -> NDArray[np.float32]:
    if (array.dtype, array.stype) != ("float32", ENCODING):
        raise ValueError(f"{name}: expected float32 {ENCODING}, got {array.dtype} {array.stype}")
    if min(array.shape, default=0) < 0 or len(array.data) != 4 * math.prod(array.shape):
        raise ValueError(f"{name}: {len(array.data)} bytes do not fill shape {array.shape}")
    flat = np.frombuffer(array.data, dtype="<f4")
    return flat.reshape(array.shape).astype(np.float32)


def _fields(content: RecordDict, record: str, kinds: Mapping[str, type]) -> dict[str, Any]:
    if set(content.config_records) != {record} or content.metric_records:
        raise ValueError(f"expected one config record {record!r} and no metrics")
    fields = cast(Mapping[str, Any], content.config_records[record])
    if set(fields) != set(kinds):
        raise ValueError(f"expected fields {sorted(kinds)}, got {sorted(fields)}")
    for name, kind in kinds.items():
        if type(fields[name]) is not kind:
            raise ValueError(f"{name}: expected {kind.__name__}, got {type(fields[name]).__name__}")
    return dict(fields)
