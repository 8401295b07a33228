"""The contract with Flower's private parts: what our pin of flwr must keep, or this file fails."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest
from flwr.app import Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from presspool.common.flower import (
    SERVER_NODE,
    arrived,
    become_server,
    from_bytes,
    stamp,
    to_bytes,
)
from presspool.common.update import TrainTask, pack_task, unpack_task


def test_flower_is_the_version_that_these_tests_were_written_for() -> None:
    assert metadata.version("flwr").rsplit(".", 1)[0] == "1.41"


ALONE = """
from flwr.app import Message, RecordDict
try:
    Message(RecordDict(), 2, "train")
except RuntimeError as error:
    print("refused:", error)
from presspool.common.flower import become_server
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


@pytest.mark.parametrize("data", [b"\xff", b"not a message", b"\x0a\x05hello"])
def test_bytes_that_are_no_content_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="content"):
        from_bytes(data)


ARRIVED = """
from flwr.app import Message, RecordDict
from presspool.common.flower import arrived
task = arrived(RecordDict(), message_id="t-1", node=2, round=3)
print(task.metadata.message_type, task.metadata.group_id, task.metadata.dst_node_id)
print(Message(RecordDict(), reply_to=task).metadata.reply_to_message_id)
"""


def test_a_task_that_arrived_needs_no_identity_and_can_be_answered() -> None:
    """At an outlet no process is the run's server."""
    said = subprocess.run(
        [sys.executable, "-c", ARRIVED], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert said == ["train 3 2", "t-1"]
    assert (
        arrived(RecordDict(), message_id="t", node=5, round=1).metadata.src_node_id == SERVER_NODE
    )
