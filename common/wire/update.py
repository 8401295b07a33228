"""What travels between coordinator and outlets: a training task down, an adapter update up.

Both are Flower messages whose content is one `ArrayRecord` ("adapter") and one `ConfigRecord`
("task" or "update"). Arrays are raw little-endian float32 with an explicit shape, or signed whole
numbers where the trust model adds such up: nothing is unpickled or guessed from a header.

A round's first phase, and a phase that says nothing but arrays, travel without the fields `phase`
and `said`, as in rounds of one phase; so there is one encoding of every message.

Invariants:
    * An `AdapterUpdate` holds every field that ever leaves an outlet in a round.
    * What was unpacked is read-only, and is not copied: an array is made of its bytes, or read from
      where they are stored, when it is asked for.

Example:
    >>> one = AdapterUpdate(outlet="a", round=1, contract="sha256:0", base="sha256:1",
    ...                     delta={"w": np.ones(2, np.float32)})
    >>> unpack_update(pack_update(one)).delta["w"].tolist()
    [1.0, 1.0]
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from presspool.common.ledger.entries import GUARD_REASONS
from presspool.common.models.adapters import State
from presspool.common.wire.flower import data_bytes

ENCODINGS = {kind: f"presspool.{kind}le" for kind in ("float32", "int32", "int64")}
_USUAL: dict[str, Any] = {"phase": 1, "said": b""}

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
    12: "not-now-witnesses",
    13: "contract-newer",
    **dict(enumerate(GUARD_REASONS, start=20)),
}


@dataclass(frozen=True, kw_only=True)
class TrainTask:
    """One outlet's work for one phase of a round.

    Attributes:
        contract: canonical JSON of the frozen contract.
        digest: its sha256.
        round: from 1.
        state: the adapter that the round starts from.
        phase: of the round, from 1.
        said: what the trust model passes on from earlier phases.
    """

    contract: str
    digest: str
    round: int
    state: State
    phase: int = 1
    said: bytes = b""


@dataclass(frozen=True, kw_only=True)
class AdapterUpdate:
    """One outlet's private answer to a task.

    Attributes:
        outlet: who trained.
        round: from 1.
        contract: digest of the contract it was trained under.
        base: digest of the adapter state it started from.
        delta: name to float32 array, the privatised change of the adapter, or to what the trust
            model seals of it; none in a phase that does not train.
        phase: of the round, from 1.
        said: what the trust model says in a phase that does not train.
    """

    outlet: str
    round: int
    contract: str
    base: str
    delta: State
    phase: int = 1
    said: bytes = b""


class RecordState(Mapping[str, NDArray[np.float32]]):
    """A Flower record seen as an adapter state: no array is held beside its bytes.

    Args:
        record: of arrays as `array_record` makes them.
        dtype: of all of them; whole numbers are the sealed shares of a sum.

    Raises:
        ValueError: an array is not what it says.
    """

    def __init__(self, record: ArrayRecord, *, dtype: str = "float32") -> None:
        for name, array in record.items():
            _check(name, array, dtype)
        self.record, self._dtype = record, np.dtype(dtype)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        array = self.record[name]
        stored = self._dtype.newbyteorder("<")
        flat = np.frombuffer(array.data, dtype=stored).astype(self._dtype, copy=False)
        return flat.reshape(array.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.record)

    def __len__(self) -> int:
        return len(self.record)


def pack_task(task: TrainTask) -> RecordDict:
    """The task as the content of a Flower message."""
    fields: dict[str, Any] = {
        "contract": task.contract,
        "digest": task.digest,
        "round": task.round,
        **_of_phase(task),
    }
    return RecordDict({"adapter": array_record(task.state), "task": ConfigRecord(fields)})


def unpack_task(content: RecordDict) -> TrainTask:
    """The task in a message's content.

    Raises:
        ValueError: a field is missing or of the wrong type, or an array is not what it says.
    """
    fields = _fields(content, "task", {"contract": str, "digest": str, "round": int})
    return TrainTask(state=_unpack(content), **fields)


def task_round(content: RecordDict) -> int:
    """The round of the task that a message of ours carries; nothing else of it is read."""
    return int(str(content.config_records["task"]["round"]))


def pack_update(update: AdapterUpdate) -> RecordDict:
    """The update as the content of a Flower message."""
    fields: dict[str, Any] = {
        "outlet": update.outlet,
        "round": update.round,
        "contract": update.contract,
        "base": update.base,
        **_of_phase(update),
    }
    return RecordDict({"adapter": array_record(update.delta), "update": ConfigRecord(fields)})


def unpack_update(content: RecordDict, *, dtype: str = "float32") -> AdapterUpdate:
    """The update in a message's content; shapes and values are for admission to judge.

    Args:
        content: of the message.
        dtype: of its arrays, as the contract's trust model has it.

    Raises:
        ValueError: a field is missing or of the wrong type, or an array is not what it says.
    """
    kinds = {"outlet": str, "round": int, "contract": str, "base": str}
    return AdapterUpdate(delta=_unpack(content, dtype), **_fields(content, "update", kinds))


def payload_bytes(content: RecordDict) -> int:
    """Bytes of arrays and of a trust model's words in a message's content."""
    words = (record.get("said", b"") for record in content.config_records.values())
    arrays = (a for record in content.array_records.values() for a in record.values())
    return sum(map(data_bytes, arrays)) + sum(len(said) for said in words if type(said) is bytes)


def array_record(state: State) -> ArrayRecord:
    """An adapter state as a Flower record; the same one that it was made of, if it was."""
    if isinstance(state, RecordState):
        return state.record
    return ArrayRecord({name: _array(array) for name, array in sorted(state.items())})


def _array(array: NDArray[Any]) -> Array:
    kind = array.dtype.name if array.dtype.kind == "i" else "float32"
    data = np.ascontiguousarray(array, np.dtype(kind).newbyteorder("<")).tobytes()
    return Array(kind, tuple(array.shape), ENCODINGS[kind], data)


def _of_phase(said: TrainTask | AdapterUpdate) -> dict[str, Any]:
    fields = {name: getattr(said, name) for name in _USUAL}
    return {name: value for name, value in fields.items() if value != _USUAL[name]}


def _unpack(content: RecordDict, dtype: str = "float32") -> RecordState:
    if set(content.array_records) != {"adapter"}:
        raise ValueError(
            f"expected one array record 'adapter', got {sorted(content.array_records)}"
        )
    return RecordState(content.array_records["adapter"], dtype=dtype)


def _check(name: str, array: Array, dtype: str) -> None:
    if (array.dtype, array.stype) != (dtype, ENCODINGS[dtype]):
        said, asked = f"{array.dtype} {array.stype}", f"{dtype} {ENCODINGS[dtype]}"
        raise ValueError(f"{name}: expected {asked}, got {said}")
    size, each = data_bytes(array), np.dtype(dtype).itemsize
    if min(array.shape, default=0) < 0 or size != each * math.prod(array.shape):
        raise ValueError(f"{name}: {size} bytes do not fill shape {array.shape}")
    np.broadcast_to(np.float32(0), array.shape)  # numpy itself must take the shape


def _fields(content: RecordDict, record: str, kinds: Mapping[str, type]) -> dict[str, Any]:
    if set(content.config_records) != {record} or content.metric_records:
        raise ValueError(f"expected one config record {record!r} and no metrics")
    fields = cast(Mapping[str, Any], content.config_records[record])
    optional = {name: type(usual) for name, usual in _USUAL.items() if name in fields}
    if set(fields) - set(optional) != set(kinds):
        raise ValueError(f"expected fields {sorted(kinds)}, got {sorted(fields)}")
    for name, kind in {**kinds, **optional}.items():
        if type(fields[name]) is not kind:
            raise ValueError(f"{name}: expected {kind.__name__}, got {type(fields[name]).__name__}")
    if any(fields[name] == usual for name, usual in _USUAL.items() if name in fields):
        raise ValueError("a field that is left out where it says nothing")
    return dict(fields)
