"""B.12: of every run the newest task's body and reply stayed: ten runs of 20 MB kept 401 MB.

Now a body goes when its answer is sealed, a reply when its round is over and it was delivered, and
the folder has a quota that is asked before a body is fetched; what is paid for never goes early.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.fakes.made_pool import (
    CONTRACT_KEY,
    Pool,
    adds,
    made_task,
    open_pool,
    signed_update,
    task_body,
)
from tests.fakes.made_runs import STATE

from presspool.client.agent import spool as spool_module
from presspool.client.agent.agent import Agent
from presspool.client.agent.spool import Spool
from presspool.client.agent.spool_files import SpooledTask
from presspool.common.base.errors import EvidenceError, GuardError, StorageError
from presspool.common.models.adapters import digest
from presspool.common.wire.envelope import TaskHeader, sign_task

NORTH = "north-post"


def _size(pool: Pool) -> int:
    work = pool.folder / f"work of {NORTH}"
    return sum(path.stat().st_size for path in work.iterdir())


def _hand_out(pool: Pool, run: str, *, floats: int, contract: str) -> tuple[TaskHeader, int]:
    state = {**STATE, "padding": np.zeros(floats, np.float32)}
    body = task_body(1, state)
    task = made_task(NORTH, body, run=run, base=digest(state))
    header = replace(task[0], contract=contract)
    pool.desk.hand_out([(header, sign_task(header, CONTRACT_KEY))], body)
    return header, len(body)


def _ten_runs(pool: Pool, node: Agent, floats: int) -> int:
    """Ten runs through one outlet, each with a contract of its own; their bodies' bytes."""
    contracts = ["sha256:" + f"{number:064x}" for number in range(10)]
    sent = 0
    for number, contract in enumerate(contracts):
        sent += _hand_out(pool, f"run-{number}", floats=floats, contract=contract)[1]
        for _ in range(3):
            node.step()
    return sent


def _all_over(tmp_path: Path, floats: int) -> None:
    with open_pool(tmp_path, [NORTH]) as pool:
        over = False
        with pool.node(NORTH, is_over=lambda _: over) as node:
            sent = _ten_runs(pool, node, floats)
            assert _size(pool) < sent / 10
            over = True
            node.step()
            assert _size(pool) < 20_000
        with pool.node(NORTH) as node:  # and a new process
            node.step()
            assert _size(pool) < 20_000


def test_b12_ten_runs_leave_their_headers(tmp_path: Path) -> None:
    _all_over(tmp_path, 20_000)


@pytest.mark.soak
def test_b12_ten_runs_of_20_mb_leave_their_headers(tmp_path: Path) -> None:
    _all_over(tmp_path, 5_000_000)


def test_b12_a_task_without_room_is_not_fetched_and_comes_when_there_is(tmp_path: Path) -> None:
    with open_pool(tmp_path, [NORTH]) as pool:
        header, size = _hand_out(pool, "run-1", floats=20_000, contract="sha256:" + "a" * 64)
        asked: list[TaskHeader] = []
        with pool.node(NORTH, room=2 * size, before=asked.append) as node:
            with pytest.raises(StorageError, match="no room for another task"):
                node.step()
            assert asked == [header]
            assert _size(pool) == 0
        with pool.node(NORTH, room=4 * size) as node:
            for _ in range(3):
                node.step()
        assert pool.desk.answered([header.task]) == {header.task}


def test_b12_a_header_that_is_refused_costs_no_body(tmp_path: Path) -> None:
    def refuse(header: TaskHeader) -> None:
        raise GuardError("run-over", "this run is over here", where=header.contract)

    with open_pool(tmp_path, [NORTH]) as pool:
        header, size = _hand_out(pool, "run-1", floats=20_000, contract="sha256:" + "a" * 64)
        with pool.node(NORTH, before=refuse) as node:
            node.step()
            assert _size(pool) < size / 10
            node.step()
        assert pool.desk.update(header.task)[0].failure == 10


def test_b12_bytes_that_are_paid_for_stay_until_delivered_and_over(tmp_path: Path) -> None:
    with open_pool(tmp_path, [NORTH]) as pool:
        header, _ = _hand_out(pool, "run-1", floats=100, contract="sha256:" + "a" * 64)
        work = pool.folder / f"work of {NORTH}"
        with pool.node(NORTH, is_over=lambda _: True) as node:
            node.step()
            node.step()
            (reply,) = work.glob("*.reply")
            sealed = reply.read_bytes()
        with Spool.open(work) as spool:
            spool.forget(lambda _: True)  # over, as somebody says, and not delivered
            spool.end(header.contract)
            spool.forget(lambda _: False)
            assert reply.read_bytes() == sealed
            (task,) = spool.tasks()
            assert spool.undelivered() == task
            spool.finish(task)
            spool.forget(lambda _: False)  # delivered, and ended by the operator
            assert not reply.exists()
            assert not spool.want_again(task)
            assert (spool.unfinished(), spool.undelivered()) == (None, None)


def test_b12_who_asks_again_for_what_is_over_waits(tmp_path: Path) -> None:
    with open_pool(tmp_path, [NORTH]) as pool:
        header, _ = _hand_out(pool, "run-1", floats=100, contract="sha256:" + "a" * 64)
        with pool.node(NORTH, is_over=lambda _: True) as node:
            for _ in range(3):
                node.step()
            with pool.desk._writing() as session:  # a coordinator that lost the answer
                session.connection().exec_driver_sql("DELETE FROM updates")
            with pytest.raises(EvidenceError, match="is over"):
                node.step()
        assert pool.desk.answered([header.task]) == set()


def test_b12_invented_runs_are_forgotten_and_those_paid_for_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "MOST_RUNS", 12)

    def kept(spool: Spool, number: int, answer: bytes) -> SpooledTask:
        body = b"body"
        task = SpooledTask(*made_task(NORTH, body, run=f"run-{number}"))
        spool.accept(task, [body])
        failure = None if answer else 5
        spool.seal(task, signed_update(task.header, answer, failure=failure), answer)
        spool.finish(task)
        return task

    with Spool.open(tmp_path / "work") as spool:
        paid = [kept(spool, number, b"paid for") for number in range(3)]
        for number in range(3, 30):
            kept(spool, number, b"")
        assert len(spool.tasks()) == 12
        assert all(spool.newest(task.header.run) == task for task in paid)


def test_b12_work_of_before_is_tidied_when_it_is_opened(tmp_path: Path) -> None:
    body = task_body(1)
    with open_pool(tmp_path, [NORTH]) as pool:
        task = made_task(NORTH, body)
        pool.desk.hand_out([task], body)
        with pool.node(NORTH, adds(NORTH)) as node:
            for _ in range(3):
                node.step()
    work = tmp_path / f"work of {NORTH}"
    (file,) = work.glob("*.task")
    (contract,) = work.glob("*.contract")
    contract.unlink()
    small = file.stat().st_size
    with file.open("ab") as stream:  # as an older version left it
        stream.write(body)
    with Spool.open(work) as spool:
        (found,) = spool.tasks()
        assert spool.contract(found) == b"{}"
        assert file.stat().st_size == small
