"""The grid that a clock is put around: who answers, who is spared the work, and who pays."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from tests.fakes.grids.grid_parts import OUTLETS, task_for, write_settings

from presspool.common.contract.contract import Contract
from presspool.common.runs.virtual_round import VirtualRound
from presspool.common.wire.update import unpack_update
from presspool.simulations.clock.clock_grid import ClockGrid
from presspool.simulations.clock.timed_round import TimedRound
from presspool.simulations.grids.local_grid import LocalGrid

Write = Any


class Watched(LocalGrid):
    """Outlets in this process, whose tasks are noted."""

    def _set_up(self) -> None:
        super()._set_up()
        self.worked: list[list[int]] = []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        messages = list(messages)
        self.worked.append([m.metadata.dst_node_id for m in messages])
        return super().send_and_receive(messages, timeout=timeout)


@pytest.fixture
def inner(tmp_path: Path, write_readers: Write) -> Watched:
    for name in OUTLETS:
        write_readers(name, 30)
    return Watched([write_settings(tmp_path, name) for name in OUTLETS], workers=0)


def late(*names: str) -> TimedRound:
    """A round in which these outlets are late."""
    virtual = VirtualRound(
        begun=0.0, ended=9.0, asked=2, answered=2 - len(names), late=len(names), failed=0, away=0
    )
    counted = dict.fromkeys((n for n in OUTLETS if n not in names), 1)
    return TimedRound(virtual=virtual, counted=counted, vain=dict.fromkeys(names, 1))


def answers(grid: ClockGrid, inner: Watched, contract: Contract) -> list[str]:
    """Whose answers come to a round's tasks."""
    tasks = [task_for(inner, contract, node) for node in grid.get_node_ids()]
    replies = grid.send_and_receive(tasks)
    return [unpack_update(reply.content).outlet for reply in replies]


def test_who_is_late_neither_answers_nor_works(inner: Watched, contract: Contract) -> None:
    skipped: list[int] = []
    grid = ClockGrid(inner, [late("north-post")], on_skip=lambda: skipped.append(1))
    assert answers(grid, inner, contract) == ["south-echo"]
    _, south = grid.get_node_ids()
    assert (inner.worked, len(skipped)) == ([[south]], 1)
    assert grid.virtual(1) == late("north-post").virtual


def test_who_pays_works_though_nobody_takes_the_answer(inner: Watched, contract: Contract) -> None:
    skipped: list[int] = []
    grid = ClockGrid(inner, [late("north-post")], pays=True, on_skip=lambda: skipped.append(1))
    assert answers(grid, inner, contract) == ["south-echo"]
    north, south = grid.get_node_ids()
    assert (inner.worked, skipped) == ([[south], [north]], [])


def test_in_time_everybody_answers_as_without_a_clock(inner: Watched, contract: Contract) -> None:
    grid = ClockGrid(inner, [late()])
    tasks = [task_for(inner, contract, node) for node in grid.get_node_ids()]
    timed = [unpack_update(reply.content) for reply in grid.send_and_receive(tasks)]
    plain = [unpack_update(reply.content) for reply in inner.send_and_receive(tasks)]
    assert [u.outlet for u in timed] == list(OUTLETS)
    for one, other in zip(timed, plain, strict=True):
        assert all((one.delta[name] == other.delta[name]).all() for name in other.delta)


def test_messages_can_be_pushed_and_pulled(inner: Watched, contract: Contract) -> None:
    grid = ClockGrid(inner, [late("south-echo")])
    ids = list(grid.push_messages(task_for(inner, contract, n) for n in grid.get_node_ids()))
    assert [unpack_update(m.content).outlet for m in grid.pull_messages(ids)] == ["north-post"]
