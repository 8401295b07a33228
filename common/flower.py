"""The four places where we touch Flower's private parts, so that moving its pin is one file.

Flower builds a message from process-wide task identity (`TaskIdentity`) and leaves the message id
to its own SuperLink. A Grid of ours has no SuperLink, so it sets the identity and stamps the ids;
what it sends and signs are the bytes of a message's content; and an outlet makes the message anew
from them. A contract test holds all four against the pinned version.

Example: `become_server(run_id=1)`; `stamp(message, "1-7")`.
"""

from __future__ import annotations

import hashlib
import time

from flwr.app import DEFAULT_TTL, Message, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.supercore.task_identity import TaskIdentity
from google.protobuf.message import DecodeError

SERVER_NODE = 1


def become_server(*, run_id: int) -> None:
    """Make this process a run's server, so that it may create messages."""
    TaskIdentity.run_id = run_id
    TaskIdentity.task_id = 1
    TaskIdentity.node_id = SERVER_NODE


def stamp(message: Message, message_id: str) -> Message:
    """Give a message the id that a SuperLink would give it."""
    message.metadata.__dict__["_message_id"] = message_id
    return message


def to_bytes(content: RecordDict) -> bytes:
    """A message's content as bytes: equal records in equal order give equal bytes."""
    data: bytes = recorddict_to_proto(content).SerializeToString(deterministic=True)
    return data


def from_bytes(data: bytes | bytearray) -> RecordDict:
    """The content that `to_bytes` made; what the records mean is for the receiver to judge.

    Raises:
        ValueError: the bytes are no message content.
    """
    try:
        parsed = ProtoRecordDict.FromString(data)
        del data  # it may be large, and the caller may have let go of it
        return recorddict_from_proto(parsed)
    except (DecodeError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a message's content: {type(error).__name__}") from None


def arrived(content: RecordDict, *, message_id: str, node: int, round: int) -> Message:
    """A training task from the coordinator, as Flower would hand it to this node's app."""
    metadata = Metadata(
        run_id=1, message_id=message_id, src_node_id=SERVER_NODE, dst_node_id=node,
        reply_to_message_id="", group_id=str(round), created_at=time.time(), ttl=DEFAULT_TTL,
        message_type="train",
    )  # fmt: skip
    return make_message(metadata, content)


def node_of(outlet: str) -> int:
    """The stable node id of an outlet: 62 bits of its name's SHA-256, and never the server's."""
    return int.from_bytes(hashlib.sha256(outlet.encode()).digest()[:8], "big") >> 2 | 2
