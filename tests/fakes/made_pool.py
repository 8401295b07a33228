"""A coordinator's port on loopback with the real desk and service, and outlets without torch.

Members are a dictionary here and certificates come from `tests.fakes.made_certificates`; everything
else is the real part. Outlets add a fixed array, so that a round's result is known beforehand.

Example: `with open_pool(tmp_path, ["north-post"]) as pool: pool.node("north-post").step()`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from flwr.app import Message
from tests.fakes.made_certificates import Certificates
from tests.fakes.made_runs import CONTRACT, STATE, Arrays

from presspool.client.agent.agent import Agent, Backoff, Trainer
from presspool.client.agent.spool import ROOM, Spool
from presspool.client.identity.coordinator_client import CoordinatorClient
from presspool.client.round import Round
from presspool.common.base.errors import AdmissionError
from presspool.common.models.adapters import digest
from presspool.common.pki.keys import SigningKey, key_id
from presspool.common.pki.tls import caller
from presspool.common.wire.envelope import (
    EXTRA_BYTES,
    Signed,
    TaskHeader,
    UpdateHeader,
    body_digest,
    new_nonce,
    sign_task,
    sign_update,
    task_id,
)
from presspool.common.wire.flower import become_server, node_of, to_bytes
from presspool.common.wire.update import (
    AdapterUpdate,
    TrainTask,
    pack_task,
    pack_update,
)
from presspool.server.database import Database
from presspool.server.transport.call_limits import Limits
from presspool.server.transport.door import Door
from presspool.server.transport.grpc_grid import GrpcGrid
from presspool.server.transport.listener import open_port
from presspool.server.transport.mailbox import Mailbox
from presspool.server.transport.pool_service import PoolService

RUN = "run-1"
POSITION = (3, "0" * 64)
QUICK = Limits(poll=1.0, check=0.1)


@dataclass(frozen=True)
class Outlet:
    """An outlet's keys, as `presspool.client.agent.agent.OutletKeys` and as a member."""

    name: str
    update: SigningKey
    contract_key: bytes

    @property
    def update_key(self) -> bytes:
        return self.update.public


def seeded_key(name: str) -> SigningKey:
    """The same key in every process that asks for this name."""
    return SigningKey(hashlib.sha256(name.encode()).digest())


CONTRACT_KEY = seeded_key("contract")


def made_outlet(name: str) -> Outlet:
    return Outlet(name, seeded_key(f"update of {name}"), CONTRACT_KEY.public)


@dataclass
class Members:
    """The coordinator's members, in memory."""

    outlets: dict[str, Outlet]
    revoked: set[str] = field(default_factory=set)

    def names(self) -> set[str]:
        return set(self.outlets) - self.revoked

    def member(self, context: grpc.ServicerContext) -> Outlet:
        name = caller(context).name
        if name in self.revoked:
            raise AdmissionError("revoked", "revoked", where=name)
        if name not in self.outlets:
            raise AdmissionError("not-a-member", "unknown", where=name)
        return self.outlets[name]


def task_body(round: int, state: Mapping[str, Any] = STATE, **more: Any) -> bytes:
    """The bytes of a training task."""
    task = TrainTask(contract="{}", digest=CONTRACT, round=round, state=dict(state), **more)
    return to_bytes(pack_task(task))


def made_task(
    outlet: str, body: bytes, *, round: int = 1, phase: int = 1, run: str = RUN, **changes: Any
) -> tuple[TaskHeader, Signed]:
    """A signed task on `STATE`, unless `changes` spoil it."""
    fields: dict[str, Any] = {
        "outlet": outlet,
        "key": key_id(CONTRACT_KEY.public),
        "run": run,
        "contract": CONTRACT,
        "round": round,
        "phase": phase,
        "task": task_id(run, round, phase, outlet),
        "base": digest(STATE),
        "body": body_digest(body),
        "bytes": len(body),
        "nonce": new_nonce(),
        "allowance": len(body) + EXTRA_BYTES,
    }
    header = TaskHeader(**fields | changes)
    return header, sign_task(header, CONTRACT_KEY)


def update_header(task: TaskHeader, body: bytes, **changes: Any) -> UpdateHeader:
    """The header of an answer to a task, unless `changes` spoil it."""
    outlet = changes.get("outlet", task.outlet)
    fields: dict[str, Any] = {
        "outlet": outlet,
        "key": key_id(made_outlet(outlet).update_key),
        "run": task.run,
        "contract": task.contract,
        "round": task.round,
        "phase": task.phase,
        "base": task.base,
        "body": body_digest(body),
        "bytes": len(body),
        "nonce": task.nonce,
        "reserve": POSITION[0],
        "root": POSITION[1],
        "failure": None,
    }
    fields |= changes
    fields.setdefault("task", task_id(fields["run"], fields["round"], fields["phase"], outlet))
    return UpdateHeader(**fields)


def signed_update(task: TaskHeader, body: bytes, **changes: Any) -> Signed:
    header = update_header(task, body, **changes)
    return sign_update(header, made_outlet(header.outlet).update)


def change_of(outlet: str, round: int) -> Arrays:
    """What an outlet adds in a round."""
    size = int.from_bytes(hashlib.sha256(f"{outlet} {round}".encode()).digest()[:2], "big")
    return {name: np.full_like(array, size / 2**16) for name, array in STATE.items()}


def adds(
    outlet: str, spoil: Callable[[AdapterUpdate], AdapterUpdate] = lambda update: update
) -> Trainer:
    """A trainer without torch."""

    def train(asked: Round, _: Path) -> bytes:
        update = AdapterUpdate(
            outlet=outlet,
            round=asked.number,
            phase=asked.phase,
            contract=asked.task.digest,
            base=asked.base,
            delta=change_of(outlet, asked.number),
        )
        return to_bytes(pack_update(spoil(update)))

    return train


@dataclass
class Pool:
    """A running coordinator and what a test needs to be an outlet of it."""

    folder: Path
    port: int
    desk: Mailbox
    members: Members
    certificates: Certificates
    service: PoolService

    def service_streams(self) -> list[object]:
        """The calls that the service has open."""
        return list(self.service.calls.streams())

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def link(self, outlet: str, address: str | None = None) -> CoordinatorClient:
        where = address or self.address
        return CoordinatorClient(where, lambda: self.certificates.dial(where, outlet))

    def grid(self, *, phase: float = 240.0, run: str = RUN, **more: Any) -> GrpcGrid:
        return GrpcGrid(
            self.desk,
            run=run,
            key=CONTRACT_KEY,
            outlets=sorted(self.members.outlets),
            members=self.members.names,
            phase=phase,
            **more,
        )

    @contextmanager
    def node(self, outlet: str, trainer: Trainer | None = None, **more: Any) -> Iterator[Agent]:
        room, is_over = more.pop("room", ROOM), more.pop("is_over", lambda _: False)
        with Spool.open(self.folder / f"work of {outlet}", room=room) as spool:
            link = self.link(outlet, more.pop("address", None))
            yield Agent(
                identity=more.pop("identity", made_outlet(outlet)),
                spool=spool,
                link=link,
                trainer=trainer or adds(outlet),
                position=lambda _: POSITION,
                backoff=Backoff(first=0.05, most=0.2),
                tidy=lambda: spool.forget(is_over),
                **more,
            )
            link.close()


def tasks_of(pool: Pool, round: int, state: Arrays = STATE) -> list[Message]:
    """A round's messages, as a strategy makes them."""
    become_server(run_id=1)
    content = pack_task(TrainTask(contract="{}", digest=CONTRACT, round=round, state=state))
    nodes = [node_of(name) for name in sorted(pool.members.outlets)]
    return [Message(content, node, "train", group_id=str(round)) for node in nodes]


@contextmanager
def meanwhile(step: Callable[[], None]) -> Iterator[None]:
    """Does a step again and again, in a thread, as long as the block runs."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.01):
            step()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def open_desk(folder: Path) -> Mailbox:
    """As a coordinator does when it starts."""
    desk = Mailbox(Database.open(f"sqlite:///{folder / 'coordinator.db'}"))
    desk.sweep()
    return desk


@contextmanager
def open_pool(
    folder: Path,
    outlets: Sequence[str],
    limits: Limits = QUICK,
    *,
    certificates: Certificates | None = None,
    port: int = 0,
) -> Iterator[Pool]:
    """A coordinator with these members."""
    made = certificates or Certificates.make()
    members = Members({name: made_outlet(name) for name in outlets})
    desk = open_desk(folder)
    service = PoolService(desk, member=members.member, limits=limits)
    door = Door(members.member, record=desk.refuse)
    server, port = open_port(f"localhost:{port}", made.server(), [service.register], door=door)
    try:
        yield Pool(folder, port, desk, members, made, service)
    finally:
        door.close()
        service.close()
        server.stop(2.0).wait()


def spoiled(**changes: Any) -> Callable[[AdapterUpdate], AdapterUpdate]:
    """A change of an update's fields."""
    return lambda update: replace(update, **changes)
