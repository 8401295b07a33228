"""Processes of a pool: a coordinator that runs rounds, and outlets without torch; to be killed.

Each outlet writes down, durably, every training that it begins and ends. The coordinator does what
`presspool.server.rounds.rounds` does in a round, on the real strategy, admission and checkpoint,
but builds no model.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
from flwr.app import ConfigRecord, Message
from tests.fakes.made_certificates import Certificates
from tests.fakes.made_pool import CONTRACT_KEY, POSITION, RUN, Members, adds, made_outlet, open_desk
from tests.fakes.made_results import measured
from tests.fakes.made_runs import CONTRACT, STATE

from presspool.client.agent.agent import Agent, Backoff, Trainer
from presspool.client.agent.spool import Spool
from presspool.client.identity.coordinator_client import CoordinatorClient
from presspool.client.round import Round
from presspool.common.base.errors import QuorumError
from presspool.common.base.stopping import until_signalled
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.runs.results import RoundResult
from presspool.common.wire.envelope import body_digest, task_id
from presspool.common.wire.flower import become_server, node_of, to_bytes
from presspool.common.wire.update import RecordState, TrainTask, array_record, pack_task
from presspool.server.rounds import round_checkpoint as checkpoints
from presspool.server.rounds.round_checkpoint import RoundCheckpoint
from presspool.server.rounds.strategy import AdapterStrategy
from presspool.server.transport.call_limits import Limits
from presspool.server.transport.door import Door
from presspool.server.transport.grpc_grid import GrpcGrid
from presspool.server.transport.listener import open_port
from presspool.server.transport.pool_service import PoolService
from presspool.simulations.grids.worker_pools import ctrl_c_held_back

PAUSE = 0.05  # seconds of a training
FIRST = 600.0  # seconds of a run's first round, for which a slow machine starts all its outlets
ASLEEP = "asleep"  # file of an outlet that trains
HELD = "held"  # file beside the outlets: none of them trains the last round while it is there
REPOSITORY = Path(__file__).parents[3]  # not from conftest, which imports torch
_SERVER = multiprocessing.get_context("forkserver")


def start(what: Callable[..., None], *args: object) -> BaseProcess:
    """A process that does this; forked from one that has imported everything."""
    os.environ["PYTHONPATH"] = os.pathsep.join((str(REPOSITORY / "src"), str(REPOSITORY)))
    _SERVER.set_forkserver_preload(
        ["tests.fakes.children.pool_children", "tests.fakes.children.paying_children"]
    )
    process = _SERVER.Process(target=_begun, args=(what, *args), daemon=True)
    with ctrl_c_held_back():  # the server that this may start is that of simulations' workers too
        process.start()
    return process


def _begun(what: Callable[..., None], *args: object) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    what(*args)


def contract_of(outlets: list[str], rounds: int, *, quorum: int = 1) -> Contract:
    """A contract of these outlets that is priced in no time; its model is never built."""
    digest = "sha256:" + "e" * 64
    return parse_contract(
        {
            "name": "kills",
            "model": {"id": "none", **dict.fromkeys(("weights", "tokenizer", "manifest"), digest)},
            "task": {"labels": ["a", "b"]},
            "federation": {"rounds": rounds, "local_steps": 1, "quorum": quorum},
            "outlets": {name: 100 * (1 + i) for i, name in enumerate(outlets)},
            "privacy": {"noise_multiplier": 20.0, "clip": 1.0, "sampling_rate": 1.0},
            "optimizer": {"learning_rate": 1.0},
        }
    )


def coordinator(
    folder: Path, port: int, outlets: list[str], rounds: int, phase: float, quorum: int = 1
) -> None:
    """Serve, and run the rounds that are left; what fails the run is written to `failed`."""
    _log(folder / "coordinator.log")
    contract, members = (
        contract_of(outlets, rounds, quorum=quorum),
        Members({n: made_outlet(n) for n in outlets}),
    )
    desk = open_desk(folder)
    service = PoolService(desk, member=members.member, limits=Limits(poll=5.0, check=0.2))
    credentials = Certificates.read(folder).server()
    door = Door(members.member, record=desk.refuse)
    server, _ = open_port(f"localhost:{port}", credentials, [service.register], door=door)
    file = folder / "checkpoint.safetensors"
    point = checkpoints.load(file, digest=contract.digest) or RoundCheckpoint(
        contract=contract.digest, rounds=(_round(0),), state=STATE
    )
    while len(point.rounds) <= rounds:
        grid = GrpcGrid(
            desk,
            run=RUN,
            key=CONTRACT_KEY,
            outlets=outlets,
            members=members.names,
            phase=phase if len(point.rounds) > 1 else FIRST,
        )
        try:
            point = one_round(grid, contract, point)
        except QuorumError as error:
            tasks = {task_id(RUN, len(point.rounds), 1, name) for name in outlets}
            if desk.answered(tasks) == tasks:  # else the round stays open, and is asked for again
                (folder / "failed").write_text(str(error))
                break
        checkpoints.save(file, point)
    door.close()
    service.close()
    server.stop(0).wait()


@contextmanager
def last_round_held(folder: Path) -> Iterator[None]:
    """Keep a run from its end for as long as the block lasts, however slowly that goes on."""
    (folder / HELD).touch()
    try:
        yield
    finally:
        (folder / HELD).unlink()


def wait_for_release(folder: Path, asked: Round) -> None:
    """What an outlet does before it trains a round."""
    last = asked.number == asked.contract.federation.rounds
    while last and (folder / HELD).exists():
        time.sleep(PAUSE)


def keeper(folder: Path, port: int, outlet: str, size: int) -> None:
    """Ask one outlet for one round on an adapter of so many bytes, and write down what came."""
    _log(folder / "coordinator.log")
    members, desk = Members({outlet: made_outlet(outlet)}), open_desk(folder)
    service = PoolService(desk, member=members.member, limits=Limits(poll=5.0, check=0.2))
    credentials = Certificates.read(folder).server()
    door = Door(members.member, record=desk.refuse)
    server, _ = open_port(f"localhost:{port}", credentials, [service.register], door=door)
    grid = GrpcGrid(
        desk, run=RUN, key=CONTRACT_KEY, outlets=[outlet], members=members.names, phase=600.0
    )
    become_server(run_id=1)
    state = {"w": np.zeros(size // 4, np.float32)}
    task = TrainTask(contract="{}", digest=CONTRACT, round=1, state=state)
    message = Message(pack_task(task), node_of(outlet), "train", group_id="1")
    (reply,) = grid.send_and_receive([message])
    (folder / "came").write_text(body_digest(to_bytes(reply.content)))
    door.close()
    service.close()
    server.stop(2.0).wait()


def one_round(grid: GrpcGrid, contract: Contract, point: RoundCheckpoint) -> RoundCheckpoint:
    """As `presspool.server.rounds.rounds` does it, without evaluation."""
    number = len(point.rounds)
    strategy = AdapterStrategy(contract, point.moments)
    messages = strategy.configure_train(number, array_record(point.state), ConfigRecord(), grid)
    arrays, _ = strategy.aggregate_train(number, grid.send_and_receive(messages))
    assert arrays is not None
    admitted = strategy.traffic.admitted
    done = _round(number, tuple(admitted.updates), dict(admitted.refused))
    return RoundCheckpoint(
        contract=contract.digest, rounds=(*point.rounds, done), state=RecordState(arrays)
    )


def outlet(folder: Path, name: str, address: str) -> None:
    """Work until killed or asked to end."""
    _log(folder / f"{name}.log")
    made = Certificates.read(folder)
    link = CoordinatorClient(address, lambda: made.dial(address, name))
    with Spool.open(folder / f"work of {name}") as spool:
        run_until_signalled(
            Agent(
                identity=made_outlet(name),
                spool=spool,
                link=link,
                trainer=_written_down(folder / f"{name}.trained", adds(name)),
                position=lambda _: POSITION,
                backoff=Backoff(first=0.05, most=0.5),
            )
        )


def run_until_signalled(node: Agent) -> None:
    """As `presspool.client.agent.assembly` does it."""
    with until_signalled() as signalled:
        signalled.then(node.stop)
        node.run()


def sleeper(folder: Path, port: int, name: str) -> None:
    """An outlet that is in the middle of a training for a minute, and says so."""
    made = Certificates.read(folder)

    def train(asked: Round, kept: Path) -> bytes:
        (folder / ASLEEP).touch()
        time.sleep(60)
        raise AssertionError("the signal did not end this")

    address = f"localhost:{port}"
    with Spool.open(folder / "work") as spool:
        run_until_signalled(
            Agent(
                identity=made_outlet(name),
                spool=spool,
                link=CoordinatorClient(address, lambda: made.dial(address, name)),
                trainer=train,
                position=lambda _: POSITION,
            )
        )


def _written_down(file: Path, train: Trainer) -> Trainer:
    def trainer(asked: Round, kept: Path) -> bytes:
        task = kept.stem
        wait_for_release(file.parent, asked)
        _append(file, f"begin {task}")
        time.sleep(PAUSE)
        answer = train(asked, kept)
        _append(file, f"end {task}")
        return answer

    return trainer


def _append(file: Path, line: str) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(handle, line.encode() + b"\n")
    os.fsync(handle)
    os.close(handle)


def _round(
    number: int, outlets: tuple[str, ...] = (), refused: dict[str, str] | None = None
) -> RoundResult:
    return RoundResult(
        round=number,
        metrics=measured(),
        bytes_up=0,
        bytes_down=0,
        seconds=0.0,
        epsilon=None,
        outlets=outlets,
        refused=refused or {},
    )


def _log(file: Path) -> None:
    logging.basicConfig(filename=file, format="%(asctime)s %(message)s", force=True)
    logging.getLogger("presspool").setLevel(logging.INFO)
