"""What holds of every grid of a simulation: replies, their order, failures, progress."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.app import Message, RecordDict
from tests.fakes.grids.grid_parts import OUTLETS, task_for, wait_until

from presspool.common.contract.contract import Contract
from presspool.common.models import adapters
from presspool.common.wire.update import FAILURES, unpack_update
from presspool.simulations.grids import GRIDS
from presspool.simulations.grids.simulation_grid import SimulationGrid


@pytest.fixture(scope="module", params=GRIDS.names)
def grid(request: pytest.FixtureRequest, outlets: dict[str, Path]) -> Iterator[SimulationGrid]:
    """Three outlets on two workers: every test sends its own messages."""
    if request.param == "ray":
        pytest.importorskip("ray", reason="pip install 'presspool[ray]'")
    with GRIDS[request.param](list(outlets.values()), workers=2) as grid:
        yield grid


def test_every_outlet_is_a_node_of_its_own(grid: SimulationGrid, outlets: dict[str, Path]) -> None:
    nodes = list(grid.get_node_ids())
    assert len(set(nodes)) == len(outlets) == 3
    assert list(grid.get_node_ids()) == nodes


def test_replies_come_in_the_order_of_the_messages(
    grid: SimulationGrid, contract_here: Contract
) -> None:
    north, south, _ = grid.get_node_ids()
    order = [south, north, north, south]
    replies = list(grid.send_and_receive([task_for(grid, contract_here, n) for n in order]))
    assert [reply.metadata.src_node_id for reply in replies] == order
    assert [unpack_update(reply.content).outlet for reply in replies] == [
        "south-echo",
        "north-post",
        "north-post",
        "south-echo",
    ]
    sent = [reply.metadata.reply_to_message_id for reply in replies]
    assert len({*sent, *(reply.metadata.message_id for reply in replies)}) == 8


def test_the_same_task_has_the_same_answer_whatever_a_worker_did_before(
    grid: SimulationGrid, contract_here: Contract
) -> None:
    """Each of the two workers has served both outlets by then: nothing may stay in them."""
    north, south, _ = grid.get_node_ids()
    order = [north, south] * 4
    messages = [task_for(grid, contract_here, node) for node in order]
    updates = [unpack_update(r.content) for r in grid.send_and_receive(messages)]
    for outlet in OUTLETS:
        answers = {adapters.digest(u.delta) for u in updates if u.outlet == outlet}
        assert len(answers) == 1
    assert updates[0].outlet != updates[1].outlet
    assert adapters.digest(updates[0].delta) != adapters.digest(updates[1].delta)


def test_an_outlet_that_cannot_train_answers_with_a_code_and_no_text(
    grid: SimulationGrid, contract_here: Contract
) -> None:
    *_, stranger = grid.get_node_ids()
    (reply,) = grid.send_and_receive([task_for(grid, contract_here, stranger)])
    assert reply.has_error()
    assert FAILURES[reply.error.code] == reply.error.reason == "round-not-agreed"


def test_what_is_no_task_is_an_answer_too(grid: SimulationGrid) -> None:
    north, *_ = grid.get_node_ids()
    message = grid.create_message(RecordDict(), "train", north, "1")
    (reply,) = grid.send_and_receive([message])
    assert reply.has_error()
    assert reply.error.reason in FAILURES.values()


def test_messages_can_be_pushed_now_and_pulled_later(
    grid: SimulationGrid, contract_here: Contract
) -> None:
    north, south, _ = grid.get_node_ids()
    ids = list(grid.push_messages([task_for(grid, contract_here, n) for n in (north, south)]))
    pulled: list[Message] = []

    def all_there() -> bool:
        pulled.extend(grid.pull_messages(ids))
        return len(pulled) == 2

    assert wait_until(all_there)
    assert {reply.metadata.reply_to_message_id for reply in pulled} == set(ids)
    assert list(grid.pull_messages(ids)) == []  # each reply is handed out once


def test_progress_is_told_once_for_each_reply(
    grid: SimulationGrid, contract_here: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[None] = []
    monkeypatch.setattr(grid, "_on_reply", lambda: told.append(None))
    messages = [task_for(grid, contract_here, node) for node in grid.get_node_ids()]
    assert len(list(grid.send_and_receive(messages))) == len(told) == 3
