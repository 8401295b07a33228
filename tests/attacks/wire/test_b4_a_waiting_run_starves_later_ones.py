"""B.4: a run that waits for a person's approval must not keep the outlet from any other.

The agent asked again and again for what it could not do, was given that each time, and never came
to the second run. What is put off now comes last, at the outlet and at the coordinator.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.fakes.instruments.live_coordinator import live, trains, until
from tests.fakes.made_pool import RUN, adds, made_task, open_pool, task_body
from tests.fakes.made_runs import STATE, write_run

from presspool.client.agent.agent import Trainer
from presspool.client.round import Round
from presspool.common.base.errors import NotNowError
from presspool.common.proto.pool_pb2 import NextTaskRequest
from presspool.common.proto.pool_pb2_grpc import PoolStub
from presspool.common.wire.envelope import MOST_PUT_OFF
from presspool.common.wire.flower import to_bytes
from presspool.common.wire.update import TrainTask, pack_task

NORTH, SOUTH = "north-post", "south-echo"


class Careful:
    """A trainer that trains no run that a person has not approved."""

    def __init__(self, train: Trainer, approved: set[str]) -> None:
        self.train, self.approved = train, approved
        self.asked: list[str] = []

    def __call__(self, asked: Round, kept: Path) -> bytes:
        run = asked.task.digest
        self.asked.append(run)
        if run not in self.approved:
            raise NotNowError("not-now-approval", "a person has to approve this")
        return self.train(asked, kept)


def digest(number: int) -> str:
    return f"sha256:{number:064}"


def body_of(contract: str) -> bytes:
    task = TrainTask(contract="{}", digest=contract, round=1, state=STATE)
    return to_bytes(pack_task(task))


@pytest.mark.parametrize("waiting", [1, pytest.param(40, marks=pytest.mark.soak)])
def test_a_later_run_is_trained_while_earlier_ones_wait(tmp_path: Path, waiting: int) -> None:
    approved = {digest(waiting)}
    careful = Careful(adds(NORTH), approved)
    tasks = []
    with open_pool(tmp_path, [NORTH]) as pool:
        for number in range(waiting + 1):
            body = body_of(digest(number))
            task = made_task(NORTH, body, run=f"run-{number}", contract=digest(number))
            pool.desk.hand_out([task], body)
            tasks.append(task[0].task)
        with pool.node(NORTH, careful) as node:
            working = threading.Thread(target=node.run)
            working.start()
            until(lambda: pool.desk.answered(tasks) == {tasks[-1]}, lambda: careful.asked)
            approved |= {digest(number) for number in range(waiting)}
            until(lambda: pool.desk.answered(tasks) == set(tasks), lambda: careful.asked)
            node.stop()
            working.join(240)
    assert careful.asked.count(digest(waiting)) == 1


def test_the_list_of_what_is_put_off_is_bounded(tmp_path: Path) -> None:
    with open_pool(tmp_path, [NORTH]) as pool:
        body = task_body(1)
        task = made_task(NORTH, body, run=RUN)
        pool.desk.hand_out([task], body)
        link = pool.link(NORTH)
        with link.next_task(["0" * 32] * (MOST_PUT_OFF + 1)) as found:  # the link cuts it
            assert found is not None
        asked = NextTaskRequest(put_off=["0" * 32] * (MOST_PUT_OFF + 1))
        with pool.certificates.dial(pool.address, NORTH) as channel:
            stub = PoolStub(channel)  # type: ignore[no-untyped-call]
            with pytest.raises(grpc.RpcError, match="malformed"):
                next(stub.NextTask(asked))
        link.close()


def test_the_coordinator_gives_other_runs_a_turn_while_one_lacks_outlets(
    tmp_path: Path, contract_body: dict[str, Any]
) -> None:
    one = write_run(tmp_path / "one", contract_body)
    two = write_run(tmp_path / "two", contract_body | {"seed": 4})
    with live(tmp_path, one, phase=1.0) as pool:
        pool.join(NORTH, SOUTH)
        first = pool.submit()
        second = pool.submit(two)
        approved = {pool.runs.get(second).contract}
        for name in (NORTH, SOUTH):
            pool.outlet(name, Careful(trains(name), approved))
        pool.wait(second, "complete")
        assert pool.runs.get(first).state == "running"
        assert "waiting for outlets" in pool.runs.get(first).note
        approved.add(pool.runs.get(first).contract)
        pool.wait(first, "complete")
