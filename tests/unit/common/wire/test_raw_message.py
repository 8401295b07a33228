"""The raw walk: what we send passes it, and what it passes protobuf reads in little memory."""

from __future__ import annotations

import pytest
from flwr.proto import recorddict_pb2 as flower
from hypothesis import given
from hypothesis import strategies as st

from presspool.common.wire.flower import PIECE
from presspool.common.wire.raw_message import LONGEST_TEXT, STRUCTURE_BYTES, check_structure


def record(key: str, **value: object) -> bytes:
    item = flower.ConfigRecord.Item(key=key, value=flower.ConfigRecordValue(**value))  # type: ignore[arg-type]
    said = flower.ConfigRecord(items=[item])
    return raw(flower.RecordDict.Item(key="task", config_record=said))


def array(name: str, shape: list[int], data: bytes) -> bytes:
    value = flower.Array(dtype="float32", shape=shape, stype="presspool.float32le", data=data)
    items = [flower.ArrayRecord.Item(key=name, value=value)]
    return raw(flower.RecordDict.Item(key="adapter", array_record=flower.ArrayRecord(items=items)))


def raw(item: flower.RecordDict.Item) -> bytes:
    data: bytes = flower.RecordDict(items=[item]).SerializeToString()
    return data


def test_large_payloads_with_little_structure_pass() -> None:
    check_structure(array("w" * 200, [1 << 20], bytes(4 << 20)), PIECE)
    check_structure(record("contract", string="x" * LONGEST_TEXT), PIECE)
    check_structure(record("said", bytes=bytes(1 << 22)), PIECE)
    check_structure(record("round", sint64=-(1 << 62)), PIECE)
    check_structure(record("rate", double=0.5), PIECE)


@pytest.mark.parametrize(
    "data",
    [
        record("contract", string="x" * (LONGEST_TEXT + 1)),
        record("n" * (STRUCTURE_BYTES + 1), bool=True),
        array("w", [1] * STRUCTURE_BYTES, b""),
        record("said", uint_list=flower.UintList(vals=[0] * STRUCTURE_BYTES)),
        record("said", string_list=flower.StringList(vals=[""] * STRUCTURE_BYTES)),
        record("said", bytes_list=flower.BytesList(vals=[b"x" * STRUCTURE_BYTES])),
    ],
)
def test_much_structure_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="bytes of structure"):
        check_structure(data, PIECE)


@pytest.mark.parametrize(
    "data",
    [b"\x0a", b"\x0a\x05ab", b"\x80" * 11, b"\x7a\x00", b"\x0b", b"\x0a\x02\x12"],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  whatever is wrong first
        check_structure(data, PIECE)


@given(st.binary(max_size=200))
def test_any_bytes_pass_or_are_a_value_error(data: bytes) -> None:
    try:
        check_structure(data, PIECE)
    except ValueError:
        return
