"""Tasks down and updates up over real gRPC with mutual TLS: kills, cuts, attacks, duplicates.

Coordinator and outlets are processes where they are killed, and threads where they are not.
"""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flwr.app import Message
from tests.conftest import made_rows
from tests.fakes.children import pool_children
from tests.fakes.children.pool_children import contract_of, one_round
from tests.fakes.instruments.breaking_proxy import BreakingProxy
from tests.fakes.instruments.loopback import free_port
from tests.fakes.made_certificates import Certificates
from tests.fakes.made_pool import (
    RUN,
    Pool,
    adds,
    change_of,
    made_outlet,
    open_desk,
    open_pool,
    signed_update,
    spoiled,
    tasks_of,
)
from tests.fakes.made_runs import STATE, Arrays

from presspool.client.agent.agent import Agent, Backoff, Trainer
from presspool.client.agent.spool import Spool
from presspool.client.identity.coordinator_client import CoordinatorClient
from presspool.client.identity.settings import read_settings
from presspool.client.round import Round
from presspool.common.base.errors import AdmissionError
from presspool.common.contract.contract import Contract
from presspool.common.runs.run_folder import RunFolder, Setup
from presspool.common.wire.envelope import CHUNK_BYTES, Signed, TaskHeader, open_update, task_id
from presspool.common.wire.flower import to_bytes
from presspool.common.wire.update import AdapterUpdate, unpack_update
from presspool.server.rounds import round_checkpoint as checkpoints
from presspool.server.rounds.aggregators.aggregator import WeightedMean
from presspool.server.rounds.round_checkpoint import RoundCheckpoint
from presspool.server.rounds.rounds import run
from presspool.simulations.grids.local_grid import LocalGrid

OUTLETS = ["east-sun", "north-post", "south-echo", "west-wind"]
WAIT = 240.0  # seconds after which a test gives up


def eventually(what: Callable[[], bool], seconds: float = WAIT) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)


@contextmanager
def at_work(*nodes: Agent) -> Iterator[None]:
    """Agents as threads."""
    threads = [threading.Thread(target=node.run) for node in nodes]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for node in nodes:
            node.stop()
        for thread in threads:
            thread.join(WAIT)


# --- Kills --------------------------------------------------------------------------------------


class Processes:
    """A coordinator and outlets as processes, which can be killed and started again."""

    def __init__(self, folder: Path, rounds: int, phase: float = WAIT) -> None:
        Certificates.make().write(folder)
        self.folder, self.rounds, self.phase = folder, rounds, phase
        self.port = free_port()
        self.kills = dict.fromkeys(["coordinator", *OUTLETS], 0)
        self.running = {name: self._start(name) for name in self.kills}

    def _start(self, name: str) -> BaseProcess:
        if name == "coordinator":
            args = (self.folder, self.port, OUTLETS, self.rounds, self.phase)
            return pool_children.start(pool_children.coordinator, *args)
        return pool_children.start(
            pool_children.outlet, self.folder, name, f"localhost:{self.port}"
        )

    def kill(self, name: str) -> None:
        """SIGKILL, and start it again."""
        self.running[name].kill()
        self.running[name].join(WAIT)
        self.kills[name] += 1
        self.running[name] = self._start(name)

    @property
    def coordinator(self) -> BaseProcess:
        return self.running["coordinator"]

    def end(self) -> None:
        """End the outlets as an operator does."""
        for name in OUTLETS:
            self.running[name].terminate()
        for process in self.running.values():
            process.join(WAIT)

    def log(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))


@contextmanager
def processes(folder: Path, rounds: int) -> Iterator[Processes]:
    pool = Processes(folder, rounds)
    try:
        yield pool
    finally:
        for process in pool.running.values():
            process.kill()


def expected_state(rounds: int, outlets: Sequence[str] = OUTLETS) -> Arrays:
    """What all outlets' changes, each counted once in each round, make of the first adapter."""
    contract, state = contract_of(OUTLETS, rounds), {n: a.copy() for n, a in STATE.items()}
    for number in range(1, rounds + 1):
        updates = {
            name: AdapterUpdate(
                outlet=name, round=number, contract="", base="", delta=change_of(name, number)
            )
            for name in outlets
        }
        mean = WeightedMean(updates, contract.weights())
        state = {name: (a + mean[name]).astype(np.float32) for name, a in state.items()}
    return state


def trainings(folder: Path, outlet: str) -> dict[str, tuple[int, int]]:
    """Task to how often its training was begun and ended."""
    lines = (folder / f"{outlet}.trained").read_text().split("\n")[:-1]
    begun = [line.removeprefix("begin ") for line in lines if line.startswith("begin ")]
    ended = [line.removeprefix("end ") for line in lines if line.startswith("end ")]
    return {task: (begun.count(task), ended.count(task)) for task in begun}


def finished(pool: Processes, seconds: float = WAIT) -> RoundCheckpoint:
    """The run's last checkpoint, after its coordinator and its outlets have ended by themselves."""
    pool.coordinator.join(seconds)
    assert pool.coordinator.exitcode == 0, pool.log()
    pool.end()
    assert [pool.running[name].exitcode for name in OUTLETS] == [0] * len(OUTLETS), pool.log()
    contract = contract_of(OUTLETS, pool.rounds)
    point = checkpoints.load(pool.folder / "checkpoint.safetensors", digest=contract.digest)
    assert point is not None
    return point


def check_every_update_counted_once(pool: Processes, point: RoundCheckpoint) -> None:
    assert [done.outlets for done in point.rounds[1:]] == [tuple(OUTLETS)] * pool.rounds
    expected = expected_state(pool.rounds)
    for name, array in point.state.items():
        np.testing.assert_array_equal(array, expected[name])
    for outlet in OUTLETS:
        found = trainings(pool.folder, outlet)
        ids = {task_id(RUN, number, 1, outlet) for number in range(1, pool.rounds + 1)}
        assert set(found) == ids
        assert min(ended for _, ended in found.values()) >= 1
        # A kill costs at most the training that was going on; nothing else is trained twice.
        assert sum(begun for begun, _ in found.values()) - pool.rounds <= pool.kills[outlet]
    # Nobody can tell a reply whose receipt was lost, and which comes a round later, from a replay.
    codes = {refusal.code for refusal in open_desk(pool.folder).refusals()}
    assert codes <= ({"replayed"} if any(pool.kills.values()) else set())


def test_outlets_as_processes_finish_all_rounds_and_train_each_once(tmp_path: Path) -> None:
    with processes(tmp_path, rounds=5) as pool:
        check_every_update_counted_once(pool, finished(pool))


def kill_at_random(pool: Processes, kills: int, seed: int) -> None:
    """Kill somebody now and then, and more often the coordinator than any outlet."""
    choice = random.Random(seed)
    eventually(lambda: (pool.folder / "checkpoint.safetensors").exists())
    with pool_children.last_round_held(pool.folder):
        for _ in range(kills):
            time.sleep(choice.uniform(0.0, 0.5))
            assert pool.coordinator.is_alive(), "the run ended before all kills were done"
            pool.kill(choice.choice(["coordinator", "coordinator", *OUTLETS]))


def test_a_run_goes_on_through_kills_of_anybody(tmp_path: Path) -> None:
    with processes(tmp_path, rounds=40) as pool:
        kill_at_random(pool, 10, seed=5)
        assert sum(pool.kills.values()) == 10
        check_every_update_counted_once(pool, finished(pool))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_run_goes_on_through_200_kills(tmp_path: Path) -> None:
    with processes(tmp_path, rounds=700) as pool:
        kill_at_random(pool, 200, seed=6)
        check_every_update_counted_once(pool, finished(pool, 1800.0))


# --- Cuts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [3.0, pytest.param(60.0, marks=pytest.mark.soak)])
def test_a_link_that_is_cut_in_mid_upload_delivers_when_it_is_back(
    tmp_path: Path, seconds: float
) -> None:
    state = {"w": np.zeros(2 * CHUNK_BYTES, np.float32)}  # 8 MiB
    trained: list[bytes] = []

    def train(asked: Round, kept: Path) -> bytes:
        trained.append(adds("north-post", spoiled(delta={"w": state["w"] + 1}))(asked, kept))
        return trained[-1]

    with open_pool(tmp_path, ["north-post"]) as pool, BreakingProxy(pool.port) as proxy:
        grid, address = pool.grid(phase=WAIT), f"localhost:{proxy.port}"
        with pool.node("north-post", train, address=address) as node, at_work(node):
            proxy.cut_after(3_000_000)  # somewhere in the update
            messages = tasks_of(pool, 1, state)
            done: list[Message] = []
            waiting = threading.Thread(target=lambda: done.extend(grid.send_and_receive(messages)))
            waiting.start()
            eventually(lambda: proxy.cuts > 0)
            time.sleep(seconds)
            assert not done
            proxy.mend()
            waiting.join(WAIT)
        (reply,) = done
        assert [to_bytes(reply.content)] == trained
        assert pool.desk.refusals() == []


def test_idle_connections_do_not_keep_a_round_from_its_end(tmp_path: Path) -> None:
    with open_pool(tmp_path, ["north-post"]) as pool, ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection(("localhost", pool.port)))
        with pool.node("north-post") as node, at_work(node):
            for number in (1, 2, 3):
                assert len(list(pool.grid().send_and_receive(tasks_of(pool, number)))) == 1


# --- Attacks ------------------------------------------------------------------------------------


def honest_answer(pool: Pool, outlet: str) -> tuple[TaskHeader, bytes]:
    """An outlet's task, and the body that it would answer with."""
    found = pool.desk.next_task(outlet)
    assert found is not None
    header, _ = found
    asked = Round.of(tasks_of(pool, header.round)[0].content)
    return header, adds(outlet)(asked, Path())


Attack = Callable[[Pool, CoordinatorClient, TaskHeader, bytes], None]


def say(link: CoordinatorClient, signed: Signed, body: bytes) -> None:
    with pytest.raises(AdmissionError):
        link.deliver(signed, [body[i : i + CHUNK_BYTES] for i in range(0, len(body), CHUNK_BYTES)])


def truncated(pool: Pool, link: CoordinatorClient, task: TaskHeader, body: bytes) -> None:
    say(link, signed_update(task, body), body[:-1])


def bit_flipped(pool: Pool, link: CoordinatorClient, task: TaskHeader, body: bytes) -> None:
    say(link, signed_update(task, body), bytes([body[0] ^ 1]) + body[1:])


def flipped_header(pool: Pool, link: CoordinatorClient, task: TaskHeader, body: bytes) -> None:
    signed = signed_update(task, body)
    say(link, Signed(signed.body.replace(b'"reserve":3', b'"reserve":2'), signed.signature), body)


def oversized(pool: Pool, link: CoordinatorClient, task: TaskHeader, body: bytes) -> None:
    say(link, signed_update(task, bytes(10_000_000)), bytes(10_000_000))


def longer_than_declared(
    pool: Pool, link: CoordinatorClient, task: TaskHeader, body: bytes
) -> None:
    say(link, signed_update(task, body), body + b"!")


def of_another_round(pool: Pool, link: CoordinatorClient, task: TaskHeader, body: bytes) -> None:
    say(link, signed_update(task, body, round=task.round + 1), body)


def of_another_run(pool: Pool, link: CoordinatorClient, task: TaskHeader, body: bytes) -> None:
    say(link, signed_update(task, body, run="run-2"), body)


def of_another_outlet(pool: Pool, link: CoordinatorClient, task: TaskHeader, body: bytes) -> None:
    other, said = honest_answer(pool, "south-echo")
    say(link, signed_update(other, said), said)


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        (truncated, "truncated"),
        (bit_flipped, "wrong-digest"),
        (flipped_header, "bad-signature"),
        (oversized, "too-large"),
        (longer_than_declared, "too-large"),
        (of_another_round, "wrong-round"),
        (of_another_run, "wrong-run"),
        (of_another_outlet, "bad-signature"),
    ],
)
def test_a_spoiled_delivery_is_refused_and_recorded_while_the_round_completes(
    tmp_path: Path, attack: Attack, code: str
) -> None:
    with open_pool(tmp_path, OUTLETS[:3]) as pool, ExitStack() as stack:
        contract, start = starting(pool)
        bad = "north-post"
        grid = pool.grid(run=RUN)
        honest = [name for name in pool.members.outlets if name != bad]
        nodes = [stack.enter_context(pool.node(name)) for name in honest]
        done: list[RoundCheckpoint] = []
        round_ = threading.Thread(target=lambda: done.append(one_round(grid, contract, start)))
        round_.start()
        eventually(lambda: pool.desk.next_task(bad) is not None)
        link = pool.link(bad)
        attack(pool, link, *honest_answer(pool, bad))
        link.close()
        pool.members.revoked.add(bad)  # else the round waits for it until its end
        with at_work(*nodes):
            round_.join(WAIT)
        assert done[0].rounds[-1].outlets == ("east-sun", "south-echo")
        assert [(r.outlet, r.code) for r in pool.desk.refusals()] == [(bad, code)]


def starting(pool: Pool) -> tuple[Contract, RoundCheckpoint]:
    contract = contract_of(sorted(pool.members.outlets), 3)
    first = pool_children._round(0)
    return contract, RoundCheckpoint(contract=contract.digest, rounds=(first,), state=STATE)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"delta": {n: np.full_like(a, np.nan) for n, a in STATE.items()}}, "not-finite"),
        ({"delta": {n: a.reshape(-1, 1) for n, a in STATE.items()}}, "wrong-shape"),
        ({"delta": {"a": STATE["a"]}}, "wrong-names"),
        ({"delta": {n: a + 1e9 for n, a in STATE.items()}}, "norm-above-cap"),
        ({"round": 2}, "wrong-round"),
        ({"contract": "sha256:" + "0" * 64}, "wrong-contract"),
        ({"base": "sha256:" + "0" * 64}, "wrong-base"),
        ({"outlet": "east-sun"}, "wrong-outlet"),
    ],
)
def test_a_spoiled_update_in_a_rightly_signed_envelope_is_refused_by_admission(
    tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    bad = "north-post"
    with open_pool(tmp_path, OUTLETS[:3]) as pool, ExitStack() as stack:
        contract, start = starting(pool)
        trainers = {bad: adds(bad, spoiled(**changes))}
        nodes = [
            stack.enter_context(pool.node(name, trainers.get(name)))
            for name in pool.members.outlets
        ]
        with at_work(*nodes):
            done = one_round(pool.grid(), contract, start)
    assert done.rounds[-1].outlets == ("east-sun", "south-echo")
    assert done.rounds[-1].refused == {bad: code}


def test_a_replayed_update_changes_nothing_and_one_of_an_earlier_round_is_recorded(
    tmp_path: Path,
) -> None:
    with open_pool(tmp_path, OUTLETS[:2]) as pool, ExitStack() as stack:
        contract, point = starting(pool)
        nodes = [stack.enter_context(pool.node(name)) for name in pool.members.outlets]
        taped: list[tuple[Signed, bytes]] = []
        with at_work(*nodes):
            for number in (1, 2):
                point = one_round(pool.grid(), contract, point)
                task = task_id(RUN, number, 1, "north-post")
                header, body = pool.desk.update(task)
                taped.append((signed_again(pool, task), body.read(header.bytes)))
                assert header.round == number
        link = pool.link("north-post")
        link.deliver(taped[1][0], [taped[1][1]])  # this round's: as after a lost receipt
        say(link, *taped[0])
        link.close()
        assert [(r.code, r.round) for r in pool.desk.refusals()] == [("replayed", 1)]


def signed_again(pool: Pool, task: str) -> Signed:
    """The very bytes of a stored update's header."""
    from presspool.server.transport.mailbox_schema import UpdateRow

    with pool.desk._database.reading() as session:
        row = session.get_one(UpdateRow, task)
    signed = Signed(row.header, row.signature)
    open_update(signed, made_outlet("north-post").update_key)
    return signed


def test_two_agents_with_one_identity_count_as_one(tmp_path: Path) -> None:
    """On two machines, that is with two spools; each would send another update."""
    sums: list[int] = []

    def different(number: int) -> Trainer:
        delta = {name: array + number for name, array in STATE.items()}

        def train(asked: Round, kept: Path) -> bytes:
            sums.append(number)
            return adds("north-post", spoiled(delta=delta))(asked, kept)

        return train

    with open_pool(tmp_path, ["north-post"]) as pool, ExitStack() as stack:
        nodes = []
        for number in (1, 2):
            spool = stack.enter_context(Spool.open(tmp_path / f"machine {number}"))
            nodes.append(
                Agent(
                    identity=made_outlet("north-post"),
                    spool=spool,
                    link=pool.link("north-post"),
                    trainer=different(number),
                    position=lambda _: (0, "0" * 64),
                    backoff=Backoff(first=0.05, most=0.2),
                )
            )
        with at_work(*nodes):
            for number in (1, 2, 3, 4):
                (reply,) = pool.grid().send_and_receive(tasks_of(pool, number))
                (value,) = np.unique(unpack_update(reply.content).delta["a"])
                assert value in (1, 2)
        codes = {refusal.code for refusal in pool.desk.refusals()}
    assert codes <= {"duplicate", "late"}
    assert 4 <= len(sums) <= 8


# --- The whole run ------------------------------------------------------------------------------


def test_a_real_run_over_the_wire_gives_the_bytes_of_the_same_run_on_one_machine(
    tmp_path: Path, contract: Contract, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    from presspool.client.client_app import work

    caplog.set_level(logging.WARNING, "presspool")
    torch.set_num_threads(1)
    settings = {
        name: settings_file(tmp_path, name, readers) for name, readers in contract.outlets.items()
    }
    with LocalGrid(list(settings.values()), workers=0) as local:
        run(local, here := new_run(tmp_path / "here", contract))
    one_at_a_time = threading.Lock()  # the app's model is the process's

    def trainer(name: str) -> Trainer:
        def train(asked: Round, kept: Path) -> bytes:
            with one_at_a_time:
                return work(asked, read_settings(settings[name]), kept=kept)

        return train

    with open_pool(tmp_path, list(contract.outlets)) as pool, ExitStack() as stack:
        nodes = [stack.enter_context(pool.node(n, trainer(n))) for n in contract.outlets]
        with at_work(*nodes):
            result = run(pool.grid(phase=WAIT), there := new_run(tmp_path / "there", contract))
    assert result.status == "complete"
    file = "adapter_model.safetensors"
    assert (there.adapter / file).read_bytes() == (here.adapter / file).read_bytes()


def settings_file(folder: Path, name: str, readers: int) -> Path:
    data = folder / f"{name}.parquet"
    pq.write_table(pa.Table.from_pylist(made_rows(name, readers)), data)
    path = folder / f"{name}.toml"
    path.write_text(f'name = "{name}"\ndata = "{data}"\ndeterministic = 7\n')
    return path


def new_run(path: Path, contract: Contract) -> RunFolder:
    folder = RunFolder(path)
    with folder.claim(contract, Setup(deterministic=7), resume=False):
        pass
    return folder
