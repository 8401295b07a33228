"""What travels: packed and unpacked exactly, and nothing guessed from what a peer claims."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from presspool.common.models.adapters import State
from presspool.common.wire.update import (
    ENCODINGS,
    AdapterUpdate,
    RecordState,
    TrainTask,
    array_record,
    pack_task,
    pack_update,
    payload_bytes,
    unpack_task,
    unpack_update,
)

STATE: State = {
    "b": np.array([[1.5, -0.0], [np.nan, np.inf]], np.float32),
    "a": np.array(3.25, np.float32),
    "none": np.empty((0, 4), np.float32),
}
TASK = TrainTask(contract="{}", digest="sha256:0", round=2, state=STATE)


def update(**changes: Any) -> AdapterUpdate:
    fields: dict[str, Any] = {
        "outlet": "a",
        "round": 1,
        "contract": "sha256:0",
        "base": "sha256:1",
        "delta": STATE,
    }
    return AdapterUpdate(**fields | changes)


def same(left: State, right: State) -> bool:
    return {n: (a.shape, a.dtype, a.tobytes()) for n, a in left.items()} == {
        n: (a.shape, a.dtype, a.tobytes()) for n, a in right.items()
    }


def test_a_task_comes_back_bit_by_bit() -> None:
    got = unpack_task(pack_task(TASK))
    assert (got.contract, got.digest, got.round) == ("{}", "sha256:0", 2)
    assert same(got.state, STATE)


def test_an_update_comes_back_bit_by_bit() -> None:
    got = unpack_update(pack_update(update()))
    assert (got.outlet, got.round, got.contract, got.base) == ("a", 1, "sha256:0", "sha256:1")
    assert same(got.delta, STATE)
    with pytest.raises(ValueError, match="read-only"):
        got.delta["b"][0] = 1.0


def test_the_first_phase_travels_as_a_round_of_one_phase() -> None:
    """So the bytes that ledgers have bound stay what they are."""
    assert set(pack_task(TASK).config_records["task"]) == {"contract", "digest", "round"}
    fields = {"outlet", "round", "contract", "base"}
    assert set(pack_update(update()).config_records["update"]) == fields
    assert (unpack_task(pack_task(TASK)).phase, unpack_update(pack_update(update())).said) == (
        1,
        b"",
    )


def test_phase_and_words_come_back() -> None:
    task = replace(TASK, phase=2, said=b"names")
    assert (unpack_task(pack_task(task)).phase, unpack_task(pack_task(task)).said) == (2, b"names")
    got = unpack_update(pack_update(update(phase=3, said=b"\x00", delta={})))
    assert (got.phase, got.said, dict(got.delta)) == (3, b"\x00", {})


def test_it_survives_flowers_wire_format() -> None:
    content = pack_update(update())
    record = content.array_records["adapter"]
    again = ArrayRecord.inflate(record.deflate(), {a.object_id: a for a in record.values()})
    assert same(RecordState(again), STATE)


def test_odd_memory_layouts_are_packed_by_value() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    delta: Any = {"t": array.T, "f": np.asfortranarray(array), "big": array.astype(">f4")}
    got = unpack_update(pack_update(update(delta=delta))).delta
    assert all(np.array_equal(got[name], delta[name]) for name in delta)
    assert all(a.dtype == np.float32 for a in got.values())


def test_payload_bytes_count_arrays_and_words() -> None:
    assert payload_bytes(pack_update(update())) == 4 * 4 + 4
    assert payload_bytes(pack_update(replace(update(), phase=2, said=b"word"))) == 4 * 4 + 4 + 4
    assert payload_bytes(RecordDict()) == 0


# --- What a peer may get wrong -------------------------------------------------------------------


def packed(*, array: Array | None = None, **fields: Any) -> RecordDict:
    """An update's content with one array or some fields replaced; None takes a field away."""
    content = pack_update(update(delta={"w": np.zeros(3, np.float32)}))
    if array is not None:
        content["adapter"] = ArrayRecord({"w": array})
    values = dict(content.config_records["update"]) | fields
    content["update"] = ConfigRecord({k: v for k, v in values.items() if v is not None})
    return content


@pytest.mark.parametrize(
    "array",
    [
        Array("float64", (3,), ENCODINGS["float32"], bytes(24)),
        Array("float16", (3,), ENCODINGS["float32"], bytes(6)),
        Array("int32", (3,), ENCODINGS["float32"], bytes(12)),
        Array("object", (3,), ENCODINGS["float32"], bytes(12)),
        Array("float32", (3,), "numpy.ndarray", bytes(12)),
        Array("float32", (3,), "pickle", bytes(12)),
        Array("float32", (4,), ENCODINGS["float32"], bytes(12)),
        Array("float32", (2,), ENCODINGS["float32"], bytes(12)),
        Array("float32", (3,), ENCODINGS["float32"], bytes(13)),
        Array("float32", (3,), ENCODINGS["float32"], b""),
        Array("float32", (-1, -3), ENCODINGS["float32"], bytes(12)),
        Array("float32", (-3,), ENCODINGS["float32"], bytes(12)),
        Array("float32", (2**62, 2**62, 4), ENCODINGS["float32"], bytes(12)),
        Array("float32", (2**62, 0, 2**62), ENCODINGS["float32"], b""),
    ],
    ids=str,
)
def test_arrays_that_are_not_what_they_say(array: Array) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack_update(packed(array=array))


def test_a_pickled_array_is_never_loaded() -> None:
    """Flower's own arrays carry numpy's format, which can hold pickles: they are refused unread."""
    content = packed(array=Array(np.zeros(3, np.float32)))
    with pytest.raises(ValueError, match="expected float32"):
        unpack_update(content)


@pytest.mark.parametrize(
    "fields",
    [
        {"outlet": None},
        {"outlet": 3},
        {"outlet": b"a"},
        {"round": "1"},
        {"round": 1.0},
        {"round": True},
        {"contract": ["sha256:0"]},
        {"readers": 12},
    ],
    ids=str,
)
def test_fields_that_are_missing_wrong_or_too_many(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        unpack_update(packed(**fields))


def test_records_that_are_missing_or_too_many() -> None:
    good = packed()
    for name in ("adapter", "update"):
        with pytest.raises(ValueError, match="expected one"):
            unpack_update(RecordDict({k: v for k, v in good.items() if k != name}))
    extra: dict[str, Any] = {
        "metrics": MetricRecord({"loss": 0.5}),
        "more": ConfigRecord({"loss": 0.5}),
        "arrays": array_record({}),
    }
    for name, record in extra.items():
        with pytest.raises(ValueError, match="expected one"):
            unpack_update(RecordDict({**dict(good), name: record}))


def test_a_task_is_not_an_update() -> None:
    with pytest.raises(ValueError, match="expected one config record"):
        unpack_update(pack_task(TASK))
    with pytest.raises(ValueError, match="expected one config record"):
        unpack_task(pack_update(update()))
