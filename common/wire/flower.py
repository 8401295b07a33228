"""The four places where we touch Flower's private parts, so that moving its pin is one file.

Flower builds a message from process-wide task identity (`TaskIdentity`) and leaves the message id
to its own SuperLink. A Grid of ours has no SuperLink, so it sets the identity and stamps the ids,
and says which `Run` it is of; what it sends and signs are the bytes of a message's content, from
which an outlet reads them. A contract test holds all four against the pinned version (`make test`)
and the oldest allowed one (`make flower-oldest`); another sees that no other file has such imports.

Those bytes are Flower's protobuf `RecordDict`s one after the other, each behind its length: one for
every array, one for every other record. So an adapter can be written and read array by array.

Invariants:
    * Equal records in equal order give equal bytes.
    * No name comes twice, and no piece holds more than one record or one array.
    * What is read was counted first, in its raw bytes: so many pieces, each of little structure
      (`presspool.common.wire.raw_message`).

Example: `become_server(run_id=1)`; `stamp(message, "1-7")`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from typing import Protocol

from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from google.protobuf.message import DecodeError
from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed

from presspool.common.wire.raw_message import check_structure, read_varint

__all__ = ["Run"]

SERVER_NODE = 1
PIECE = ProtoRecordDict.DESCRIPTOR  # what a piece's raw bytes are one of
MOST_PIECES = 4096  # of a message from somebody whose adapter's shapes are not known yet


def become_server(*, run_id: int) -> None:
    """Make this process a run's server, so that it may create messages."""
    TaskIdentity.run_id = run_id
    TaskIdentity.task_id = 1
    TaskIdentity.node_id = SERVER_NODE


def run_of(run_id: int) -> Run:
    """A run of which Flower knows nothing but its number."""
    return Run.create_empty(run_id)


def stamp(message: Message, message_id: str) -> Message:
    """Give a message the id that a SuperLink would give it."""
    message.metadata.__dict__["_message_id"] = message_id
    return message


class Stored(Protocol):
    """Bytes that lie somewhere and can be read from anywhere, such as a file."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; fewer only at the end."""

    def seek(self, at: int, /) -> int:
        """Go on from byte `at`."""

    def tell(self) -> int:
        """The next byte's place."""


class StoredArray(Array):
    """An array whose data are read anew each time they are asked for, and never kept.

    Args:
        array: what was read.
        stored: where it lies.
        at: the place of its piece there.
    """

    def __init__(self, array: Array, stored: Stored, at: int) -> None:
        self.dtype, self.shape, self.stype = array.dtype, array.shape, array.stype
        self.size, self._stored, self._at = len(array.data), stored, at

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """The array's bytes."""
        self._stored.seek(self._at)
        piece = parse_length_prefixed(ProtoRecordDict, self._stored)
        data: bytes = piece.items[0].array_record.items[0].value.data
        return data


def data_bytes(array: Array) -> int:
    """How many bytes of data an array has; they are not read for it."""
    return array.size if isinstance(array, StoredArray) else len(array.data)


def to_bytes(content: RecordDict) -> bytes:
    """A message's content as bytes: equal records in equal order give equal bytes."""
    stream = io.BytesIO()
    for piece in _pieces(content):
        serialize_length_prefixed(recorddict_to_proto(piece), stream)
    return stream.getvalue()


def from_bytes(data: bytes | bytearray) -> RecordDict:
    """The content that `to_bytes` made; what the records mean is for the receiver to judge.

    Raises:
        ValueError: the bytes are no message content.
    """
    return _read(io.BytesIO(data), lambda array, _: array, MOST_PIECES)


def from_stored(stored: Stored, *, most: int = MOST_PIECES) -> RecordDict:
    """As `from_bytes`, but the arrays' data stay where they are until they are asked for.

    Args:
        stored: where the bytes are.
        most: arrays and other records that there may be.

    Raises:
        ValueError: the bytes are no message content.
    """
    return _read(stored, lambda array, at: StoredArray(array, stored, at), most)


def pieces_of(content: RecordDict) -> int:
    """How many pieces a message's content has."""
    return sum(1 for _ in _pieces(content))


def _pieces(content: RecordDict) -> Iterator[RecordDict]:
    for key, record in content.items():
        if isinstance(record, ArrayRecord) and record:
            for name, array in record.items():
                yield RecordDict({key: ArrayRecord({name: array})})
        else:
            yield RecordDict({key: record})


def _read(stored: Stored, keep: Callable[[Array, int], Array], most: int) -> RecordDict:
    content = RecordDict()
    try:
        at = stored.tell()
        while (raw := _raw_piece(stored)) is not None:
            if (most := most - 1) < 0:
                raise ValueError("too many pieces")
            check_structure(raw, PIECE)
            piece = ProtoRecordDict.FromString(raw)
            _put(content, piece, lambda array, at=at: keep(array, at))  # type: ignore[misc]
            at = stored.tell()
    except (DecodeError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"not a message's content: {type(error).__name__}") from None
    return content


def _raw_piece(stored: Stored) -> bytes | None:
    """The next piece's bytes, or None at the end."""
    head = b""
    while byte := stored.read(1):
        head += byte
        if byte[0] < 0x80:
            size, _ = read_varint(memoryview(head), 0)
            raw = stored.read(size)
            if len(raw) != size:
                raise ValueError("a piece that is cut off")
            return raw
        if len(head) > 5:
            break
    if head:
        raise ValueError("no length of a piece")
    return None


def _put(content: RecordDict, piece: ProtoRecordDict, keep: Callable[[Array], Array]) -> None:
    """Add a piece to what was read before; raises `ValueError` where it does not fit."""
    (item,) = piece.items
    key, record = item.key, recorddict_from_proto(piece)[item.key]
    if not isinstance(record, ArrayRecord) or not record:
        if key in content:
            raise ValueError("a record comes twice")
        content[key] = record
        return
    (array,) = item.array_record.items
    there = content.setdefault(key, ArrayRecord())
    if not isinstance(there, ArrayRecord) or array.key in there:
        raise ValueError("an array comes twice")
    there[array.key] = keep(record[array.key])


def node_of(outlet: str) -> int:
    """The stable node id of an outlet: 62 bits of its name's SHA-256, and never the server's."""
    return int.from_bytes(hashlib.sha256(outlet.encode()).digest()[:8], "big") >> 2 | 2
