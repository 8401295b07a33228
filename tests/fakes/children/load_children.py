"""Processes of a load: a coordinator that does rounds when told, honest outlets, and hostile ones.

The coordinator is the real one with all of its services; only the rounds are driven from outside,
because nothing is trained. Honest outlets are the real agents, each in a thread of one process.
Hostile ones work in another process at the lowest priority, as if from other machines.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path

import grpc
import numpy as np
from flwr.app import Message
from flwr.proto import recorddict_pb2 as flower
from google.protobuf.proto import serialize_length_prefixed
from tests.fakes.made_attacks import (
    COLLECT,
    POLL,
    AttackedOutlet,
    AttackedPool,
    coordinator_of,
    silent,
    withheld,
)
from tests.fakes.made_pool import made_task, update_header
from tests.fakes.made_runs import CONTRACT

from presspool.client.agent.agent import Agent, Backoff, Trainer
from presspool.client.agent.spool import Spool
from presspool.client.identity.coordinator_client import CoordinatorClient
from presspool.client.round import Round
from presspool.common.base.errors import PressPoolError
from presspool.common.pki.certificates import make_key, make_request, read_certificate
from presspool.common.pki.keys import key_id
from presspool.common.proto import enrolment_pb2, pool_pb2, witness_pb2
from presspool.common.proto.enrolment_pb2_grpc import MembershipStub
from presspool.common.proto.pool_pb2_grpc import PoolStub
from presspool.common.proto.witness_pb2_grpc import WitnessingStub
from presspool.common.transparency import notes
from presspool.common.transparency.checkpoints import Checkpoint
from presspool.common.wire import enrolment
from presspool.common.wire.envelope import sign_update
from presspool.common.wire.flower import become_server, node_of, to_bytes
from presspool.common.wire.update import AdapterUpdate, TrainTask, pack_task, pack_update
from presspool.server.transport.grpc_grid import GrpcGrid

RUN, PHASE = "load", 120.0
SILENT = 300
_LOOK = 0.02


class _Keys:
    """As much of an identity as the agent asks for."""

    def __init__(self, pool: AttackedPool, name: str) -> None:
        self.name, self.update = name, pool.outlets[name].update
        self.contract_key = pool.folder.contract.public


def rounds(home: Path, told: Connection, names: list[str], size: int) -> None:
    """For each number that is told do that round; answer its seconds, who answered, peak memory."""
    with coordinator_of(home) as (coordinator, folder):
        grid = GrpcGrid(
            coordinator._mailbox,
            run=RUN,
            key=folder.contract,
            outlets=names,
            members=lambda: set(names),
            phase=PHASE,
        )
        become_server(run_id=1)
        state = {"w": np.zeros(size // 4, np.float32)}
        told.send("listening")
        while number := told.recv():
            task = pack_task(TrainTask(contract="{}", digest=CONTRACT, round=number, state=state))
            messages = [Message(task, node_of(name), "train") for name in names]
            peak, ended = [resident()], threading.Event()
            watch = threading.Thread(target=_watched, args=(peak, ended))
            watch.start()
            began = time.monotonic()
            good = sum(not reply.has_error() for reply in grid.send_and_receive(messages))
            seconds = time.monotonic() - began
            ended.set()
            watch.join()
            told.send((seconds, good, max(peak)))


def _watched(peak: list[int], ended: threading.Event) -> None:
    while not ended.wait(_LOOK):
        peak[0] = max(peak[0], resident())


def resident() -> int:
    """This process's resident bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def outlets(folder: Path, pool: AttackedPool, names: list[str], spoiling: str, spoil: str) -> None:
    """Answer tasks until killed; `spoiling` answers with tiny arrays while the file `spoil` is."""
    threads = []
    for name in names:
        trainer = _answers(name, folder / spoil if name == spoiling else None)
        work = threading.Thread(
            target=_agent, args=(folder / f"work of {name}", pool, name, trainer)
        )
        work.start()
        threads.append(work)
    for work in threads:
        work.join()


def _agent(work: Path, pool: AttackedPool, name: str, trainer: Trainer) -> None:
    credential = pool.outlets[name].credential
    with Spool.open(work) as spool:
        Agent(
            identity=_Keys(pool, name),
            spool=spool,
            link=CoordinatorClient(pool.folder.address, lambda: pool.dial(credential)),
            trainer=trainer,
            position=lambda _: (0, "0" * 64),
            backoff=Backoff(first=0.1, most=1.0),
        ).run()


def _answers(name: str, spoil: Path | None) -> Trainer:
    def train(asked: Round, _: Path) -> bytes:
        if spoil is not None and spoil.exists():
            return tiny_arrays(sum(array.nbytes for array in asked.state.values()))
        update = AdapterUpdate(
            outlet=name,
            round=asked.number,
            contract=asked.task.digest,
            base=asked.base,
            delta={key: np.zeros_like(array) for key, array in asked.state.items()},
        )
        return to_bytes(pack_update(update))

    return train


@lru_cache  # the round must not wait while they are made
def tiny_arrays(size: int) -> bytes:
    """So many bytes of pieces of one empty array each."""
    stream = io.BytesIO()
    while stream.tell() < size - 64:
        array = flower.ArrayRecord.Item(
            key=str(stream.tell()), value=flower.Array(dtype="float32", shape=[0], stype="s")
        )
        record = flower.ArrayRecord(items=[array])
        item = flower.RecordDict.Item(key="adapter", array_record=record)
        serialize_length_prefixed(flower.RecordDict(items=[item]), stream)
    return stream.getvalue()


def hostile(pool: AttackedPool, told: Connection, loud: list[str]) -> None:
    """All attacks at once, until killed: two members and two strangers."""
    strangers = [pool.stranger() for _ in range(2)]
    os.nice(19)
    attacks: list[Callable[[], None]] = [
        lambda: _silence(pool, [pool.outlets[loud[0]].credential, *strangers]),
        lambda: _sockets(pool),
        lambda: _refusals(pool, pool.outlets[loud[1]]),
        lambda: _witnessing(pool, pool.outlets[loud[1]]),
    ]
    threads = [threading.Thread(target=_again, args=(attack,)) for attack in attacks]
    for thread in threads:
        thread.start()
    told.send("attacking")
    for thread in threads:
        thread.join()


def _again(attack: Callable[[], None]) -> None:
    while True:
        with suppress(grpc.RpcError, OSError, PressPoolError):
            attack()


def _silence(pool: AttackedPool, credentials: list) -> None:  # type: ignore[type-arg]
    """Calls that say nothing, twice as many as the whole port has (B.2)."""
    with ExitStack() as stack:
        for credential in credentials:
            for method in (POLL, COLLECT) * 5:
                link = stack.enter_context(pool.dial(credential))
                stack.enter_context(withheld(link, method, 16))
        time.sleep(3.0)


def _sockets(pool: AttackedPool) -> None:
    """Sockets that say nothing (B.3)."""
    with silent(pool.folder.address, SILENT):
        time.sleep(3.0)


def _refusals(pool: AttackedPool, outlet: AttackedOutlet) -> None:
    """Updates of invented runs, and new certificates (B.10)."""
    serial = read_certificate(outlet.credential.certificate).serial
    with pool.dial(outlet.credential) as link:
        stub = PoolStub(link)  # type: ignore[no-untyped-call]
        members = MembershipStub(link)  # type: ignore[no-untyped-call]
        for number in range(200):
            task, _ = made_task(outlet.name, b"x", run=f"invented-{time.monotonic_ns()}")
            header = update_header(task, b"x", key=key_id(outlet.update.public))
            signed = sign_update(header, outlet.update)
            part = pool_pb2.Header(body=signed.body, signature=signed.signature)
            with suppress(grpc.RpcError):
                stub.SendUpdate(iter([pool_pb2.Part(header=part)]), timeout=10)
            if number % 20 == 0:
                request = make_request(make_key())
                body = enrolment.renewal_body(serial, request)
                signature = outlet.update.sign(enrolment.RENEWAL, body)
                renewal = enrolment_pb2.RenewRequest(request=request, signature=signature)
                with suppress(grpc.RpcError):
                    members.Renew(renewal, timeout=10)


def _witnessing(pool: AttackedPool, outlet: AttackedOutlet) -> None:
    """Heads with wrong roots and long lines, and answers about nothing (B.10)."""
    with pool.dial(outlet.credential) as link:
        stub = WitnessingStub(link)  # type: ignore[no-untyped-call]
        for number in range(100):
            point = Checkpoint(
                origin=outlet.log.key.name,
                size=4096,
                root=bytes(32),
                extensions=("x" * 100_000,) if number % 2 else (),
            )
            note = notes.Note(text=point.text).signed(outlet.log.sign(point.text)).encode()
            part = witness_pb2.PublishPart(start=0, checkpoint=note, leaves=bytes(32 * 4096))
            with suppress(grpc.RpcError):
                stub.Publish(iter([part]), timeout=10)
            said = witness_pb2.AnswerRequest(origin=point.origin, size=2**64 - 1, status=409)
            with suppress(grpc.RpcError):
                stub.Answer(said, timeout=10)
