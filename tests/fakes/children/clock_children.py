"""A coordinator and an outlet, each in a process whose clock may be wrong.

`python -m tests.fakes.children.clock_children coordinator HOME` prints a token, takes the outlet's
fingerprint from its input, admits it with a certificate whose renewal is due, asks it for one
round, and prints how many certificates it has and how many answers came. `… outlet HOME` works for
the pool.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from flwr.app import Message
from sqlalchemy import select
from tests.fakes.instruments.loopback import free_port
from tests.fakes.made_pool import POSITION, RUN, adds
from tests.fakes.made_runs import CONTRACT, STATE

from presspool.client.agent import assembly
from presspool.client.agent import home as homes
from presspool.client.agent.agent import Agent, Backoff
from presspool.client.agent.spool import Spool
from presspool.client.identity.coordinator_client import CoordinatorClient
from presspool.client.identity.identity import Identity
from presspool.common.pki.certificates import DAY
from presspool.common.wire.flower import become_server, node_of
from presspool.common.wire.update import TrainTask, pack_task
from presspool.server.coordinator.coordinator import Coordinator
from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
from presspool.server.membership.member_schema import CertificateRow
from presspool.server.transport.grpc_grid import GrpcGrid

NAME = "daily-bugle"
OLD = 25 * DAY  # of a certificate that lives 30 and is renewed after 20


def coordinator(home: Path) -> None:
    address = f"localhost:{free_port()}"
    CoordinatorFolder.create(
        home, name="press-pool", address=address, database=None, now=time.time() - 2 * OLD
    )
    folder = CoordinatorFolder.read(home)
    here = Coordinator(folder, listen=address)
    invited = here._members.invite(NAME, ttl=3600)
    print(folder.token(invited, now=time.time()).encode(), flush=True)
    fingerprint = sys.stdin.readline().strip()
    here._members._clock = lambda: time.time() - OLD
    here._members.admit(NAME, fingerprint, folder.root)
    here._members._clock = time.time
    grid = GrpcGrid(
        here._mailbox,
        run=RUN,
        key=folder.contract,
        outlets=[NAME],
        members=here._members.names,
        phase=120.0,
    )
    become_server(run_id=1)
    task = TrainTask(contract="{}", digest=CONTRACT, round=1, state=dict(STATE))
    message = Message(pack_task(task), node_of(NAME), "train", group_id="1")
    replies = [reply for reply in grid.send_and_receive([message]) if reply.has_content()]
    with here._database.reading() as session:
        certificates = session.scalars(select(CertificateRow.serial)).all()
    print(len(certificates), len(replies), flush=True)
    sys.stdin.readline()


def outlet(home: Path) -> None:
    identity = Identity.read(home)
    with Spool.open(home / homes.WORK) as spool:
        Agent(
            identity=identity,
            spool=spool,
            link=CoordinatorClient(identity.address, assembly._dialler(home)),
            trainer=adds(NAME),
            position=lambda _: POSITION,
            backoff=Backoff(first=0.1, most=1.0),
        ).run()


if __name__ == "__main__":
    {"coordinator": coordinator, "outlet": outlet}[sys.argv[1]](Path(sys.argv[2]))
