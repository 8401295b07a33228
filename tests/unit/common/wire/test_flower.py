"""The contract with Flower's private parts: what our pin of flwr must keep, or this file fails."""

from __future__ import annotations

import io
import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.common.serde import recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.supercore.task_identity import TaskIdentity
from google.protobuf.proto import serialize_length_prefixed
from hypothesis import given
from hypothesis import strategies as st

from presspool.common.wire.flower import (
    SERVER_NODE,
    become_server,
    data_bytes,
    from_bytes,
    from_stored,
    stamp,
    to_bytes,
)
from presspool.common.wire.update import TrainTask, pack_task, unpack_task
from presspool.server.transport.mailbox_body import StoredBody


def test_flower_is_a_version_that_these_tests_have_passed_on() -> None:
    assert metadata.version("flwr").rsplit(".", 1)[0] in {"1.41", "1.42"}


ALONE = """
from flwr.app import Message, RecordDict
try:
    Message(RecordDict(), 2, "train")
except RuntimeError as error:
    print("refused:", error)
from presspool.common.wire.flower import become_server
become_server(run_id=7)
metadata = Message(RecordDict(), 2, "train").metadata
print(metadata.run_id, metadata.src_node_id, repr(metadata.message_id))
"""


def test_without_an_identity_no_message_can_be_made_and_with_ours_it_can() -> None:
    """The first touch is needed at all, and it is enough; in a process that has no identity yet."""
    said = subprocess.run(
        [sys.executable, "-c", ALONE], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert said[0].startswith("refused: TaskIdentity")
    assert said[1] == f"7 {SERVER_NODE} ''"


def test_become_server_sets_the_whole_identity() -> None:
    become_server(run_id=12)
    identity = (TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id)
    assert identity == (12, 1, SERVER_NODE)
    become_server(run_id=1)
    assert TaskIdentity.run_id == 1


def test_a_stamp_is_the_id_that_flower_reads() -> None:
    become_server(run_id=1)
    message = Message(RecordDict(), 2, "train", group_id="3")
    assert message.metadata.message_id == ""  # otherwise a SuperLink's job, and no longer ours
    assert stamp(message, "1-7") is message
    assert message.metadata.message_id == "1-7"


def test_a_reply_refers_to_the_stamp_and_goes_back_to_the_server() -> None:
    become_server(run_id=1)
    task = stamp(Message(RecordDict(), 5, "train", group_id="3"), "1-7")
    for said in (RecordDict(), Error(code=5)):
        answer = Message(said, reply_to=task)
        assert answer.metadata.reply_to_message_id == "1-7"
        assert (answer.metadata.src_node_id, answer.metadata.dst_node_id) == (5, SERVER_NODE)
        assert (answer.metadata.run_id, answer.metadata.group_id) == (1, "3")
        assert answer.metadata.message_type == "train"
        assert answer.has_error() == isinstance(said, Error)


def test_content_travels_as_bytes_that_are_equal_for_equal_records() -> None:
    state = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}
    task = TrainTask(contract="{}", digest="sha256:0", round=1, state=state)
    data = to_bytes(pack_task(task))
    assert data == to_bytes(pack_task(task))
    again = unpack_task(from_bytes(data))
    assert (again.contract, again.digest, again.round) == ("{}", "sha256:0", 1)
    np.testing.assert_array_equal(again.state["w"], state["w"])


def test_any_content_comes_back_record_by_record_and_array_by_array() -> None:
    arrays = ArrayRecord({name: Array(np.full(3, float(name))) for name in "2103"})
    content = RecordDict(
        {
            "fields": ConfigRecord({"x": 1, "y": ["a", "b"], "z": b"\0"}),
            "arrays": arrays,
            "none": ArrayRecord(),
            "numbers": MetricRecord({"loss": 0.5}),
            "empty": ConfigRecord(),
        }
    )
    for read in (from_bytes, lambda data: from_stored(io.BytesIO(data))):
        again = read(to_bytes(content))
        assert to_bytes(again) == to_bytes(content)
        assert list(again) == list(content)
        assert list(again.array_records["arrays"]) == list("2103")


class Counted(io.BytesIO):
    """Counts the bytes that are read."""

    total = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.total += len(data)
        return data


def test_a_stored_arrays_data_stay_where_they_are_until_they_are_asked_for() -> None:
    data = {name: np.full(1000, number) for number, name in enumerate("abc")}
    whole = RecordDict({"w": ArrayRecord({name: Array(array) for name, array in data.items()})})
    stored = Counted(to_bytes(whole))
    arrays = from_stored(stored).array_records["w"]
    sizes = {name: data_bytes(array) for name, array in arrays.items()}
    assert sizes == {name: len(array.data) for name, array in whole.array_records["w"].items()}
    assert stored.total == len(to_bytes(whole))  # once, to learn what there is
    for name in "cabac":
        before = stored.total
        np.testing.assert_array_equal(arrays[name].numpy(), data[name])
        assert sizes[name] < stored.total - before < 2 * sizes[name]


def framed(*pieces: ProtoRecordDict) -> bytes:
    stream = io.BytesIO()
    for piece in pieces:
        serialize_length_prefixed(piece, stream)
    return stream.getvalue()


def piece(*items: tuple[str, RecordDict]) -> ProtoRecordDict:
    return ProtoRecordDict(
        items=[item for _, content in items for item in recorddict_to_proto(content).items]
    )


ONE, OTHER = (RecordDict({"w": ArrayRecord({name: Array(np.ones(2))})}) for name in "ab")
BOTH = RecordDict({"w": ArrayRecord({name: Array(np.ones(2)) for name in "ab"})})
FIELDS = RecordDict({"w": ConfigRecord({"x": 1})})


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff", id="no length"),
        pytest.param(b"not a message", id="text"),
        pytest.param(b"\x0a\x05hello", id="a field and no frame"),
        pytest.param(b"\0", id="an empty piece"),
        pytest.param(b"\xff" * 9 + b"\x01", id="a length beyond all memory"),
        pytest.param(b"\xff" * 11, id="a length without end"),
        pytest.param(b"\x80\x80\x80\x80\x20" + b"\x0a\x00", id="more than there is"),
        pytest.param(framed(piece(("w", ONE)))[:-1], id="cut off"),
        pytest.param(framed(piece(("w", ONE)), piece(("w", ONE))), id="an array twice"),
        pytest.param(framed(piece(("w", FIELDS)), piece(("w", FIELDS))), id="a record twice"),
        pytest.param(framed(piece(("w", FIELDS)), piece(("w", ONE))), id="arrays after fields"),
        pytest.param(framed(piece(("w", ONE)), piece(("w", FIELDS))), id="fields after arrays"),
        pytest.param(framed(piece(("w", BOTH))), id="two arrays in a piece"),
        pytest.param(framed(piece(("w", ONE), ("w", OTHER))), id="two records in a piece"),
        pytest.param(framed(ProtoRecordDict(items=[ProtoRecordDict.Item(key="w")])), id="a name"),
    ],
)
def test_bytes_that_are_no_content_are_refused(data: bytes) -> None:
    for read in (from_bytes, lambda data: from_stored(io.BytesIO(data))):
        with pytest.raises(ValueError, match="content"):
            read(data)
    chunks = [data[at : at + 3] for at in range(0, len(data), 3)]
    with pytest.raises(ValueError, match="content"):  # as it lies on the coordinator's desk
        from_stored(StoredBody([len(chunk) for chunk in chunks], chunks.__getitem__))


@given(data=st.binary(max_size=64), at=st.integers(0, 200), bit=st.integers(0, 7))
def test_spoiled_bytes_are_refused_or_read_the_same_from_memory_and_from_the_desk(
    data: bytes, at: int, bit: int
) -> None:
    flipped = bytearray(to_bytes(RecordDict({**BOTH, "f": FIELDS["w"]})))
    flipped[at % len(flipped)] ^= 1 << bit
    for spoiled in (data, bytes(flipped), bytes(flipped[:at])):
        chunks = [spoiled[i : i + 7] for i in range(0, len(spoiled), 7)]
        stored = StoredBody([len(chunk) for chunk in chunks], chunks.__getitem__)
        try:
            here = from_bytes(spoiled)
        except ValueError:
            with pytest.raises(ValueError, match="content"):
                from_stored(stored)
        else:
            there = from_stored(stored)
            assert to_bytes(there) == to_bytes(here)
