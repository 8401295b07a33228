r"""What a message is made of, counted in its raw bytes before protobuf and Flower build objects.

A byte of hostile structure (an empty array, a packed shape, a list of small numbers) becomes some
hundred bytes of objects. So the wire format is walked first, along its own description: payload
(an array's data, a field of bytes, a contract's text) costs what it weighs; everything else is
structure, and of that there is little in any message of ours.

Invariants:
    * Nothing is built, and the walk ends where the allowance is used up, so that what is refused
      costs next to nothing.
    * What the walk passes, protobuf reads with objects for `STRUCTURE_BYTES` at most.

Source: protobuf's encoding (protobuf.dev/programming-guides/encoding).

Example:
    >>> from presspool.common.wire.flower import PIECE
    >>> check_structure(b"", PIECE)
    >>> check_structure(b"\x0a\x00" * 2000, PIECE)
    Traceback (most recent call last):
    ...
    ValueError: more than 2048 bytes of structure
"""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor, FieldDescriptor

STRUCTURE_BYTES = 2048  # of one piece: names, shapes, tags and lengths; ours have about 200
LONGEST_TEXT = 1 << 20  # of a string field: a contract's text
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_PAYLOAD = {
    "flwr.proto.Array.data": 1 << 31,
    "flwr.proto.ConfigRecordValue.bytes": 1 << 31,
    "flwr.proto.ConfigRecordValue.string": LONGEST_TEXT,
}


def check_structure(data: bytes, kind: Descriptor) -> None:
    """Return if a serialised message is mostly payload.

    Args:
        data: the message.
        kind: what it is one of.

    Raises:
        ValueError: it is not, or is not in protobuf's encoding.
    """
    _walk(memoryview(data), kind, STRUCTURE_BYTES)


def _walk(data: memoryview, kind: Descriptor, left: int) -> int:
    """Take a message's structure from what is left of the allowance."""
    at = 0
    while at < len(data):
        began = at
        tag, at = read_varint(data, at)
        field = kind.fields_by_number.get(tag >> 3)
        if field is None:
            raise ValueError("an unknown field")
        if tag & 7 != _BYTES:
            at = _after_number(data, at, tag & 7)
            left -= at - began
        else:
            size, at = read_varint(data, at)
            if size > len(data) - at:
                raise ValueError("a field that is cut off")
            left -= at - began
            left = _content(data[at : at + size], field, left)
            at += size
        if left < 0:
            raise ValueError(f"more than {STRUCTURE_BYTES} bytes of structure")
    return left


def _content(data: memoryview, field: FieldDescriptor, left: int) -> int:
    if field.message_type is not None:
        return _walk(data, field.message_type, left)
    return left if len(data) <= _PAYLOAD.get(field.full_name, 0) else left - len(data)


def _after_number(data: memoryview, at: int, wire: int) -> int:
    if wire == _VARINT:
        return read_varint(data, at)[1]
    if wire not in (_FIXED64, _FIXED32):
        raise ValueError("no kind of field")
    return at + (8 if wire == _FIXED64 else 4)


def read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number and the place behind it; raises `ValueError` where there is none."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        value |= (data[at] & 0x7F) << shift
        at += 1
        if not data[at - 1] & 0x80:
            return value, at
    raise ValueError("no number")
