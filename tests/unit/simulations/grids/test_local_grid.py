"""The local grid: real worker processes, that answer in order and are never left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message, RecordDict
from tests.fakes.made_runs import write_run

from presspool.common.base.errors import PressPoolError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.models import adapters
from presspool.common.models.models import build
from presspool.common.wire.update import FAILURES, TrainTask, pack_task, unpack_update
from presspool.simulations.grids.local_grid import LocalGrid

OUTLETS = ("north-post", "south-echo")


def write_settings(folder: Path, name: str) -> Path:
    data = folder / "data" / f"{name}.parquet"
    path = folder / f"{name}.toml"
    path.write_text(f'name = "{name}"\ndata = "{data}"\ndeterministic = 7\n')
    return path


@pytest.fixture(scope="module")
def contract_here(contract_body: dict[str, Any]) -> Contract:
    return parse_contract(contract_body)


@pytest.fixture(scope="module")
def outlets(
    tmp_path_factory: pytest.TempPathFactory, contract_body: dict[str, Any]
) -> dict[str, Path]:
    """Settings of the contract's outlets, and of one that the contract does not know."""
    folder = tmp_path_factory.mktemp("outlets")
    write_run(folder, contract_body)
    return {name: write_settings(folder, name) for name in (*OUTLETS, "stranger")}


@pytest.fixture(scope="module")
def grid(outlets: dict[str, Path]) -> Iterator[LocalGrid]:
    """Three outlets on two workers: every test sends its own messages."""
    with LocalGrid(list(outlets.values()), workers=2) as grid:
        assert len(multiprocessing.active_children()) == 0  # none before there is work
        yield grid


def task_for(grid: LocalGrid, contract: Contract, node: int) -> Message:
    task = TrainTask(
        contract=contract.canonical().decode(),
        digest=contract.digest,
        round=1,
        state=adapters.read(build(contract)),
    )
    return grid.create_message(pack_task(task), "train", node, "1")


def wait_until(is_so: Callable[[], bool], *, seconds: float = 60) -> bool:
    """Whether something comes true before a generous deadline."""
    deadline = time.monotonic() + seconds
    while not (now := is_so()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return now


def test_every_outlet_is_a_node_of_its_own(grid: LocalGrid, outlets: dict[str, Path]) -> None:
    nodes = list(grid.get_node_ids())
    assert len(set(nodes)) == len(outlets) == 3
    assert list(grid.get_node_ids()) == nodes


def test_replies_come_in_the_order_of_the_messages(
    grid: LocalGrid, contract_here: Contract
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
    grid: LocalGrid, contract_here: Contract
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
    grid: LocalGrid, contract_here: Contract
) -> None:
    *_, stranger = grid.get_node_ids()
    (reply,) = grid.send_and_receive([task_for(grid, contract_here, stranger)])
    assert reply.has_error()
    assert FAILURES[reply.error.code] == reply.error.reason == "round-not-agreed"


def test_what_is_no_task_is_an_answer_too(grid: LocalGrid) -> None:
    north, *_ = grid.get_node_ids()
    message = grid.create_message(RecordDict(), "train", north, "1")
    (reply,) = grid.send_and_receive([message])
    assert reply.has_error()
    assert reply.error.reason in FAILURES.values()


def test_messages_can_be_pushed_now_and_pulled_later(
    grid: LocalGrid, contract_here: Contract
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
    grid: LocalGrid, contract_here: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[None] = []
    monkeypatch.setattr(grid, "_on_reply", lambda: told.append(None))
    messages = [task_for(grid, contract_here, node) for node in grid.get_node_ids()]
    assert len(list(grid.send_and_receive(messages))) == len(told) == 3


def test_workers_never_see_ctrl_c(grid: LocalGrid, contract_here: Contract) -> None:
    north, *_ = grid.get_node_ids()
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for worker in workers:
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGINT)
    (reply,) = grid.send_and_receive([task_for(grid, contract_here, north)])
    assert reply.has_content()
    assert multiprocessing.active_children() == workers


# --- Processes that end --------------------------------------------------------------------------


Started = Callable[[], list[int]]


@pytest.fixture
def started() -> Started:
    """A function that gives the ids of the workers that this test has started."""
    others = {process.pid for process in multiprocessing.active_children()}
    return lambda: [
        process.pid
        for process in multiprocessing.active_children()
        if process.pid is not None and process.pid not in others
    ]


def alive(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def push_nothing(grid: LocalGrid) -> list[Message]:
    """One message for every node that is quickly answered, if a worker is ever ready for it."""
    messages = [grid.create_message(RecordDict(), "train", n, "1") for n in grid.get_node_ids()]
    grid.push_messages(messages)
    return messages


def test_a_worker_never_sees_ctrl_c_even_while_it_starts(
    outlets: dict[str, Path], started: Started
) -> None:
    """Importing torch takes seconds, in which an interrupted worker would print its traceback."""
    with LocalGrid([outlets["north-post"]], workers=1) as grid:
        push_nothing(grid)
        (worker,) = started()
        status = Path(f"/proc/{worker}/status").read_text().splitlines()
    (blocked,) = (int(line.split()[1], 16) for line in status if line.startswith("SigBlk"))
    assert blocked & (1 << (signal.SIGINT - 1))
    # Here it still arrives.
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_worker_that_dies_is_an_error_and_not_a_missing_outlet(
    outlets: dict[str, Path], started: Started
) -> None:
    with LocalGrid(list(outlets.values()), workers=1) as grid:
        messages = push_nothing(grid)
        (worker,) = started()
        os.kill(worker, signal.SIGKILL)
        for _ in range(2):  # in mid-round, and in a round that begins with the worker gone
            with pytest.raises(PressPoolError, match="a worker process died") as caught:
                grid.send_and_receive(messages)
            assert "--resume" in caught.value.advice
            assert caught.value.exit_code == 1


def test_there_are_no_more_workers_than_outlets(outlets: dict[str, Path], started: Started) -> None:
    with LocalGrid([outlets["north-post"]], workers=8) as grid:
        for _ in range(4):
            push_nothing(grid)
        assert len(started()) == 1


@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), RuntimeError("in a round")])
def test_no_process_is_left_however_the_grid_is_left(
    outlets: dict[str, Path], started: Started, error: BaseException | None
) -> None:
    workers: list[int] = []

    def use() -> None:
        with LocalGrid(list(outlets.values()), workers=2) as grid:
            push_nothing(grid)
            workers.extend(started())
            if error:
                raise error

    with pytest.raises(type(error)) if error else nullcontext():
        use()
    assert len(workers) == 2
    assert not any(alive(worker) for worker in workers)


def test_a_timeout_is_an_error(outlets: dict[str, Path]) -> None:
    with LocalGrid([outlets["north-post"]], workers=1) as grid, pytest.raises(TimeoutError):
        grid.send_and_receive([grid.create_message(RecordDict(), "train", 2, "1")], timeout=0.001)


KILLED = """
import multiprocessing, os, signal, sys
from pathlib import Path
from flwr.app import RecordDict
from presspool.simulations.grids.local_grid import LocalGrid

if __name__ == "__main__":
    grid = LocalGrid([Path(p) for p in sys.argv[1:]], workers=2)
    grid.push_messages([grid.create_message(RecordDict(), "train", n, "1") for n in (2, 3)])
    print(*(p.pid for p in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_themselves_when_their_parent_was_killed(
    tmp_path: Path, outlets: dict[str, Path]
) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    paths = [str(outlets[name]) for name in OUTLETS]
    with (tmp_path / "pids").open("w") as pids:  # a pipe would stay open in the workers
        parent = subprocess.run(
            [sys.executable, str(script), *paths],
            check=False,
            stdout=pids,
            stderr=subprocess.DEVNULL,
        )
    assert parent.returncode == -signal.SIGKILL
    workers = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(workers) == 2
    assert wait_until(lambda: not any(alive(worker) for worker in workers))
