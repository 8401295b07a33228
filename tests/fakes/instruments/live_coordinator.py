"""A coordinator of this process with its real folder, database and port, and outlets without torch.

Outlets join by their real certificates and run the real agent; their trainers make an update of
zeros for whatever adapter they are asked to train, unless a test gives them another trainer.

Example: `with live(tmp_path, run) as pool: pool.join("north-post"); pool.submit(); pool.wait(...)`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tests.fakes.instruments.loopback import free_port
from tests.fakes.made_pool import POSITION

from presspool.client.agent.agent import Agent, Backoff, Trainer
from presspool.client.agent.spool import Spool
from presspool.client.identity.coordinator_client import CoordinatorClient
from presspool.client.identity.identity import Identity
from presspool.client.identity.joining import Joining
from presspool.client.round import Round
from presspool.common.base.errors import AdmissionError
from presspool.common.models.adapters import State
from presspool.common.pki.tls import channel
from presspool.common.runs.result_file import read_result
from presspool.common.runs.results import RunResult
from presspool.common.wire.flower import to_bytes
from presspool.common.wire.update import AdapterUpdate, pack_update
from presspool.server.coordinator.coordinator import Coordinator
from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
from presspool.server.coordinator.run_queue import Runs, Submitted
from presspool.server.coordinator.submission import submit
from presspool.server.database import Database
from presspool.server.membership.members import Members
from presspool.server.transport.mailbox import Mailbox

LONGEST_WAIT = 240.0  # seconds; nothing here measures the machine


def delta_of(state: State, value: float = 0.0) -> dict[str, np.ndarray]:
    """A change by the same value everywhere."""
    return {name: np.full_like(state[name], value) for name in state}


def trains(outlet: str, *, value: float = 0.0, in_name_of: str | None = None) -> Trainer:
    """A trainer that adds a value to every number of the adapter."""

    def train(asked: Round, _: Path) -> bytes:
        update = AdapterUpdate(
            outlet=in_name_of or outlet,
            round=asked.number,
            phase=asked.phase,
            contract=asked.task.digest,
            base=asked.base,
            delta=delta_of(asked.state, value),
        )
        return to_bytes(pack_update(update))

    return train


@dataclass
class Live:
    """A pool at work.

    Attributes:
        folder: the coordinator's.
        run: the run file.
        database: a connection of the test's own, as an operator's command has.
        phase: seconds of a round.
    """

    parent: Path
    folder: CoordinatorFolder
    run: Path
    database: Database
    phase: float = LONGEST_WAIT
    threads: dict[str, threading.Thread] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    coordinator: Coordinator | None = None

    # --- The coordinator ------------------------------------------------------------------------

    def start(self) -> None:
        """As `coordinator start`."""
        self.coordinator = Coordinator(self.folder, listen=self.folder.address)
        self._thread("coordinator", self.coordinator.serve)

    def stop(self) -> None:
        """As `coordinator stop`."""
        assert self.coordinator is not None
        self.coordinator.stop()
        self.threads.pop("coordinator").join(LONGEST_WAIT)

    def submit(self, run: Path | None = None) -> str:
        """As `coordinator submit`; returns the run's id."""
        return submit(self.folder, run or self.run, phase=self.phase).id

    @property
    def runs(self) -> Runs:
        return Runs(self.database)

    @property
    def mailbox(self) -> Mailbox:
        return Mailbox(self.database)

    @property
    def members(self) -> Members:
        return Members(self.database)

    def result(self, run: str) -> RunResult:
        return read_result(self.folder.path / "runs" / run)

    def wait(self, run: str, state: str) -> Submitted:
        """Wait until a run is in a state."""
        found = None

        def there() -> bool:
            nonlocal found
            found = self.runs.get(run)
            return found.state == state

        until(there, lambda: found)
        assert found is not None
        return found

    # --- Outlets --------------------------------------------------------------------------------

    def join(self, *names: str) -> None:
        """Join outlets, as both operators would."""
        for name in names:
            token = self.folder.token(self.members.invite(name, ttl=3600), now=time.time())
            with Joining.begin(token, self.parent / name) as joining:
                joining.ask()
                self.members.admit(name, joining.fingerprint, self.folder.root)
                assert joining.collect() is not None

    def outlet(self, name: str, trainer: Trainer | None = None) -> None:
        """Let an outlet work."""
        self._thread(name, lambda: self._work(name, trainer or trains(name)))

    def end(self, name: str) -> None:
        """End an outlet's work."""
        until(lambda: name in self.agents)
        self.agents[name].stop()
        self.threads.pop(name).join(LONGEST_WAIT)
        del self.agents[name]

    def link(self, name: str) -> CoordinatorClient:
        """An outlet's line to the coordinator."""
        identity = Identity.read(self.parent / name)
        return CoordinatorClient(
            identity.address,
            lambda: channel(identity.address, identity.credential, root=identity.root),
        )

    def _work(self, name: str, trainer: Trainer) -> None:
        with Spool.open(self.parent / name / "work") as spool:
            self.agents[name] = Agent(
                identity=Identity.read(self.parent / name),
                spool=spool,
                link=self.link(name),
                trainer=trainer,
                position=lambda _: POSITION,
                backoff=Backoff(first=0.05, most=0.3),
            )
            with suppress(AdmissionError):  # revoked
                self.agents[name].run()

    def _thread(self, name: str, work: Callable[[], None]) -> None:
        self.threads[name] = threading.Thread(target=work, name=name, daemon=True)
        self.threads[name].start()

    def close(self) -> None:
        for name in list(self.agents):
            if self.threads[name].is_alive():
                self.end(name)
        if "coordinator" in self.threads:
            self.stop()
        self.database.close()


def until(there: Callable[[], bool], said: Callable[[], object] = lambda: "") -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + LONGEST_WAIT
    while not there():
        assert time.monotonic() < deadline, said()
        time.sleep(0.02)


@contextmanager
def live(
    parent: Path, run: Path, *, database: str | None = None, phase: float = LONGEST_WAIT
) -> Iterator[Live]:
    """A started coordinator."""
    home = parent / "coordinator"
    folder = CoordinatorFolder.create(
        home,
        name="press-pool",
        address=f"localhost:{free_port()}",
        database=database,
        now=time.time(),
    )
    with ExitStack() as stack:
        pool = Live(parent, folder, run, Database.open(folder.database), phase)
        stack.callback(pool.close)
        pool.start()
        yield pool
