"""The Grid over the desk: whom it asks, how long it waits, and what it finds after a restart.

Outlets answer here by putting updates on the desk; the integration tests do it over gRPC.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message, RecordDict
from tests.fakes.made_pool import (
    CONTRACT_KEY,
    RUN,
    adds,
    change_of,
    made_outlet,
    meanwhile,
    open_desk,
    signed_update,
)
from tests.fakes.made_runs import CONTRACT, STATE

from presspool.client.round import Round
from presspool.common.base.errors import PressPoolError
from presspool.common.models.adapters import digest
from presspool.common.wire.envelope import open_task
from presspool.common.wire.flower import (
    SERVER_NODE,
    become_server,
    from_bytes,
    node_of,
    to_bytes,
)
from presspool.common.wire.update import TrainTask, pack_task, unpack_update
from presspool.server.transport.grpc_grid import GrpcGrid
from presspool.server.transport.mailbox import Mailbox

OUTLETS = ["east-sun", "north-post", "south-echo"]


@pytest.fixture
def desk(tmp_path: Path) -> Mailbox:
    return open_desk(tmp_path)


def grid_on(desk: Mailbox, *, members: set[str] | None = None, **more: Any) -> GrpcGrid:
    present = set(OUTLETS) if members is None else members
    fields: dict[str, Any] = {
        "phase": 20.0,
        "outlets": OUTLETS,
        "members": lambda: present,
        "run": RUN,
    } | more
    return GrpcGrid(desk, key=CONTRACT_KEY, **fields)


def messages(
    round: int = 1, outlets: list[str] | None = None, state: Any = STATE, phase: int = 1
) -> list[Message]:
    become_server(run_id=1)
    task = TrainTask(contract="{}", digest=CONTRACT, round=round, state=state, phase=phase)
    content = pack_task(task)
    names = OUTLETS if outlets is None else outlets
    return [Message(content, node_of(name), "train", group_id=str(round)) for name in names]


def answer(
    desk: Mailbox, outlet: str, *, body: bytes | None = None, failure: int | None = None
) -> bool:
    """Do an outlet's work for its next task, if there is one."""
    found = desk.next_task(outlet)
    if found is None:
        return False
    header, signed = found
    assert open_task(signed, CONTRACT_KEY.public) == header
    asked = Round.of(from_bytes(b"".join(desk.task_body(header))))
    said = adds(outlet)(asked, Path()) if body is None else body
    update = signed_update(header, said, failure=failure)
    upload = desk.receive(outlet, made_outlet(outlet).update_key, update)
    assert upload is not None
    if said:
        upload.add(said)
    upload.finish()
    return True


@contextmanager
def outlets_at_work(desk: Mailbox, outlets: list[str], *, pause: float = 0.0) -> Iterator[None]:
    """Outlets that answer whatever they are asked, in the order given."""

    def step() -> None:
        for outlet in outlets:
            if answer(desk, outlet):
                time.sleep(pause)

    with meanwhile(step):
        yield


def outlets_of(replies: list[Message]) -> list[str]:
    return [unpack_update(reply.content).outlet for reply in replies]


def test_replies_come_in_the_order_of_the_messages_whoever_was_first(desk: Mailbox) -> None:
    told: list[int] = []
    grid = grid_on(desk, on_reply=lambda: told.append(1))
    asked = messages()
    with outlets_at_work(desk, OUTLETS[::-1]):
        replies = list(grid.send_and_receive(asked))
    assert outlets_of(replies) == OUTLETS
    assert len(told) == 3
    for name, message, reply in zip(OUTLETS, asked, replies, strict=True):
        assert reply.metadata.reply_to_message_id == message.metadata.message_id
        assert (reply.metadata.src_node_id, reply.metadata.dst_node_id) == (
            node_of(name),
            SERVER_NODE,
        )
        assert digest(unpack_update(reply.content).delta) == digest(change_of(name, 1))


def test_nodes_are_the_contract_s_outlets_that_are_members_and_never_change_their_id(
    desk: Mailbox,
) -> None:
    grid = grid_on(desk, members={"north-post", "south-echo", "west-wind"})
    assert set(grid.get_node_ids()) == {node_of("north-post"), node_of("south-echo")}
    assert node_of("north-post") == 3785512727006156862  # stored runs rely on it
    assert len({node_of(f"outlet-{i}") for i in range(1000)}) == 1000
    assert all(SERVER_NODE < node_of(f"outlet-{i}") < 2**62 for i in range(1000))


def test_a_straggler_is_left_out_at_the_deadline_and_asked_again_next_round(desk: Mailbox) -> None:
    """The two others have answered before the clock runs: a slow machine leaves nobody out."""
    grid = grid_on(desk, phase=600.0)
    list(grid.push_messages(messages()))
    assert answer(desk, "east-sun")
    assert answer(desk, "south-echo")
    in_time = grid.send_and_receive(messages(), timeout=0.1)
    assert outlets_of(list(in_time)) == ["east-sun", "south-echo"]
    assert desk.next_task("north-post") is None
    with outlets_at_work(desk, OUTLETS):
        assert outlets_of(list(grid.send_and_receive(messages(2)))) == OUTLETS


def test_nobody_waits_for_an_outlet_that_was_revoked_in_mid_round(desk: Mailbox) -> None:
    members = set(OUTLETS)
    grid = grid_on(desk, members=members, phase=600.0)
    timer = threading.Timer(0.3, members.discard, ["north-post"])
    timer.start()
    with outlets_at_work(desk, ["east-sun", "south-echo"]):
        assert outlets_of(list(grid.send_and_receive(messages()))) == ["east-sun", "south-echo"]
    timer.join()


def test_a_failure_is_the_outlet_s_own_word(desk: Mailbox) -> None:
    grid = grid_on(desk)
    ids = list(grid.push_messages(messages()))
    answer(desk, "east-sun")
    answer(desk, "north-post", body=b"", failure=4)
    replies = list(grid.pull_messages(ids))
    assert [reply.has_error() for reply in replies] == [False, True]
    assert (replies[1].error.code, replies[1].error.reason) == (4, "outlet-misconfigured")


def test_a_body_that_is_no_message_is_an_error_on_record(desk: Mailbox) -> None:
    grid = grid_on(desk)
    ids = list(grid.push_messages(messages()))
    answer(desk, "east-sun", body=b"not a message's content")
    (reply,) = grid.pull_messages(ids)
    assert reply.has_error()
    (refusal,) = desk.refusals()
    assert (refusal.outlet, refusal.code, refusal.run, refusal.round) == (
        "east-sun",
        "malformed",
        RUN,
        1,
    )


def test_a_restarted_coordinator_sends_the_round_again_and_nobody_trains_twice(
    tmp_path: Path,
) -> None:
    before = open_desk(tmp_path)
    list(grid_on(before).push_messages(messages()))
    asked = {name: before.next_task(name) for name in OUTLETS}
    answer(before, "south-echo")
    desk = open_desk(tmp_path)  # the first one was killed
    grid = grid_on(desk)
    ids = list(grid.push_messages(messages()))
    assert desk.next_task("south-echo") is None
    assert desk.next_task("north-post") == asked["north-post"]
    assert outlets_of(list(grid.pull_messages(ids))) == ["south-echo"]
    with outlets_at_work(desk, OUTLETS):
        assert outlets_of(list(grid.send_and_receive(messages()))) == OUTLETS


def test_a_coordinator_that_was_killed_after_the_phase_gets_the_same_replies(
    tmp_path: Path,
) -> None:
    desk = open_desk(tmp_path)
    with outlets_at_work(desk, OUTLETS):
        first = list(grid_on(desk).send_and_receive(messages()))
    again = list(grid_on(open_desk(tmp_path)).send_and_receive(messages()))
    assert [to_bytes(reply.content) for reply in again] == [
        to_bytes(reply.content) for reply in first
    ]


def test_a_phase_that_another_followed_is_read_again_and_waits_for_nobody(tmp_path: Path) -> None:
    """A coordinator that was killed in a round's second phase begins again with its first."""
    desk = open_desk(tmp_path)
    grid = grid_on(desk)
    list(grid.push_messages(messages()))
    answer(desk, "south-echo")
    assert outlets_of(list(grid.send_and_receive(messages(), timeout=0.1))) == ["south-echo"]
    list(grid.push_messages(messages(phase=2)))
    again = grid_on(open_desk(tmp_path), phase=600.0)
    assert outlets_of(list(again.send_and_receive(messages()))) == ["south-echo"]
    with outlets_at_work(desk, OUTLETS):
        second = list(again.send_and_receive(messages(phase=2)))
    assert outlets_of(second) == OUTLETS
    assert {unpack_update(reply.content).phase for reply in second} == {2}


def test_a_round_that_is_sent_again_with_another_adapter_is_refused(desk: Mailbox) -> None:
    list(grid_on(desk).push_messages(messages()))
    other = {name: array + 1 for name, array in STATE.items()}
    with pytest.raises(PressPoolError, match="another adapter"):
        list(grid_on(desk).push_messages(messages(state=other)))


def test_an_explicit_timeout_is_kept(desk: Mailbox) -> None:
    grid = grid_on(desk, phase=600.0)
    assert list(grid.send_and_receive(messages(), timeout=0.1)) == []


def test_without_messages_there_is_nothing_to_wait_for(desk: Mailbox) -> None:
    assert list(grid_on(desk, phase=600.0).send_and_receive([])) == []


@pytest.mark.parametrize(
    "call", [lambda g: g.pull_messages(["0" * 32]), lambda g: g.push_messages([])]
)
def test_unknown_ids_and_no_messages_give_nothing(
    desk: Mailbox, call: Callable[[GrpcGrid], list[object]]
) -> None:
    assert list(call(grid_on(desk))) == []


def test_what_is_no_training_task_is_not_sent(desk: Mailbox) -> None:
    become_server(run_id=1)
    stray = Message(RecordDict(), node_of("north-post"), "train", group_id="1")
    with pytest.raises(ValueError, match="config record"):
        grid_on(desk).push_messages([stray])
