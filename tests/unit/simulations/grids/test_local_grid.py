"""The local grid: real worker processes, that answer in order and are never left behind."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from flwr.app import Message, RecordDict
from tests.fakes.grids.grid_parts import OUTLETS, alive, task_for, wait_until

from presspool.common.base.errors import PressPoolError
from presspool.common.contract.contract import Contract
from presspool.simulations.grids.local_grid import LocalGrid

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


def test_workers_never_see_ctrl_c(
    outlets: dict[str, Path], contract_here: Contract, started: Started
) -> None:
    with LocalGrid(list(outlets.values()), workers=2) as grid:
        assert started() == []  # none before there is work
        north, *_ = grid.get_node_ids()
        push_nothing(grid)
        workers = started()
        assert len(workers) == 2
        for worker in workers:
            os.kill(worker, signal.SIGINT)
        (reply,) = grid.send_and_receive([task_for(grid, contract_here, north)])
        assert reply.has_content()
        assert started() == workers


# --- Processes that end --------------------------------------------------------------------------


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


FIRST = """
import signal, sys
from presspool.simulations.grids.worker_pools import CONTEXT, ctrl_c_held_back

def held():
    sys.exit(0 if signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()) else 3)

if __name__ == "__main__":
    process = CONTEXT.Process(target=held)
    with ctrl_c_held_back():
        process.start()
    process.join()
    sys.exit(process.exitcode)
"""


def test_the_first_process_of_all_begins_without_ctrl_c_too(tmp_path: Path) -> None:
    """Python's tracker of shared resources, which starts before the first, lets it in again."""
    script = tmp_path / "first.py"
    script.write_text(FIRST)
    assert subprocess.run([sys.executable, str(script)], check=False).returncode == 0


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


def test_an_outlet_keeps_its_worker_and_new_ones_even_the_work_out(
    outlets: dict[str, Path], tmp_path: Path
) -> None:
    paths = []
    for name, size in (("a", 90), ("b", 50), ("c", 40), ("d", 5), ("e", 80)):
        paths.append(tmp_path / f"{name}.toml")
        records = tmp_path / f"{name}.csv"
        records.write_bytes(b"x" * size)
        text = next(iter(outlets.values())).read_text()
        paths[-1].write_text(re.sub("data = .*", f'data = "{records}"', text))
    with LocalGrid(paths, workers=2) as grid:
        a, b, c, d, e = grid.get_node_ids()
        homes = dict(grid._at_home([d, c, b, a]))  # 90 + 5 and 50 + 40
        assert homes[a] == homes[d] != homes[b] == homes[c]
        later = grid._at_home([c, e])  # e goes where there is less to do than c
        assert {node: later[node] for node in homes} == homes
        assert later[e] == homes[a]


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
