"""The coordinator's process: one port for all outlets, and the submitted runs one after the other.

It may be killed at any moment: runs, tasks and updates are in the database, whole rounds in each
run's folder, and the next start goes on from there.

What it does when a round does not come about:

* outlets are missing (link cut, machine off, approval not given): the round stays open and is asked
  for again, for as long as it takes, because an answer that is already here keeps its worth; other
  runs that wait have a turn in between;
* all have answered and too few answers can be used, or too few outlets are left in the run because
  the operator dropped the others: the run has failed;
* the disk refuses or the database is not to be had: it waits and tries again.

Example: `Coordinator(CoordinatorFolder.read(home), listen="127.0.0.1:7443").serve()`.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

import grpc
import numpy as np

from presspool.common.base.errors import InputError, PressPoolError, QuorumError, StorageError
from presspool.common.contract.cohorts import cohort_of
from presspool.common.contract.contract import Contract
from presspool.common.pki.tls import caller, server_credentials
from presspool.common.runs.run_folder import RunFolder
from presspool.common.transparency.consortium_entries import Entry
from presspool.common.wire.envelope import task_id
from presspool.server.coordinator.adapter_service import AdapterService
from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
from presspool.server.coordinator.database_claim import DatabaseClaim
from presspool.server.coordinator.run_queue import Runs, Submitted
from presspool.server.database import Database
from presspool.server.membership import enrolment_service
from presspool.server.membership.fleet import Fleet
from presspool.server.membership.members import Member, Members
from presspool.server.rounds import round_checkpoint as checkpoints
from presspool.server.rounds.server_app import serve
from presspool.server.transport.door import Door
from presspool.server.transport.grpc_grid import GrpcGrid
from presspool.server.transport.listener import open_port
from presspool.server.transport.mailbox import Mailbox
from presspool.server.transport.pool_service import PoolService
from presspool.server.witnessing.witness_service import WitnessService

log = logging.getLogger(__name__)

IDLE_SECONDS, AGAIN_SECONDS = 1.0, 15.0


class _GivenUpError(Exception):
    """The operator gave the run up."""


class _StoppedError(Exception):
    """The coordinator is to end; the run goes on at its next start."""


class Coordinator:
    """A running coordinator.

    Args:
        folder: its home.
        listen: address of this machine to listen at.

    Attributes:
        port: that it listens at.
    """

    def __init__(self, folder: CoordinatorFolder, *, listen: str) -> None:
        self._folder = folder
        self._database = Database.open(folder.database)
        self._claim = DatabaseClaim(self._database)
        self._mailbox, self._members = Mailbox(self._database), Members(self._database)
        self._runs, self._stopping = Runs(self._database), threading.Event()
        self._had_turn: set[str] = set()  # runs that lack outlets, until all others had theirs

        def member(context: grpc.ServicerContext) -> Member:
            return self._members.member(caller(context))

        fleet = Fleet(self._database)
        self._door = Door(member, record=self._mailbox.refuse)
        self._pool = PoolService(
            self._mailbox,
            member=member,
            seen=lambda name, version, clock: fleet.seen(name, version=version, clock=clock),
        )
        self._witnesses = WitnessService(
            self._database,
            folder.log,
            peers=self._members.peers,
            record=self._mailbox.refuse,
            member=member,
        )
        self._adapters = AdapterService(
            self._runs, folder.path, member=member, record=self._mailbox.refuse
        )
        self._server, self.port = open_port(
            listen,
            server_credentials(folder.server, root=folder.root.certificate),
            [
                self._pool.register,
                self._witnesses.register,
                self._adapters.register,
                lambda server: enrolment_service.serve(
                    server, self._members, folder.root, addresses=folder.addresses
                ),
            ],
            door=self._door,
        )

    def serve(self) -> None:
        """Work until `stop`; what is going on is continued at the next start."""
        self._mailbox.sweep()
        try:
            with suppress(_StoppedError):
                while not self._stopping.is_set():
                    self._turn()
        finally:
            self._door.close()
            self._pool.close()
            self._witnesses.close()
            self._adapters.close()
            self._server.stop(grace=1.0).wait()
            self._claim.release()
            self._database.close()

    def _turn(self) -> None:
        """Work on the next run, or wait a moment for one; whatever is refused is tried again."""
        try:
            self._claim.hold()
            run = self._runs.next(after=self._had_turn)
            if run is not None:
                self._work(run)
            elif self._had_turn:
                self._had_turn.clear()
            else:
                self._stopping.wait(IDLE_SECONDS)
        except StorageError as error:
            log.error("%s; trying again", error)
            self._stopping.wait(AGAIN_SECONDS)

    def stop(self) -> None:
        """End `serve`, also while it waits for outlets. From any thread."""
        self._stopping.set()
        self._mailbox.updates_changed.raise_()

    def _work(self, run: Submitted) -> None:
        """Bring a run further; what ends it is written down."""
        try:
            self._runs.mark(run.id, "running", run.note)
            self._finish(run)
        except (_StoppedError, StorageError):
            raise
        except _GivenUpError:
            self._mailbox.suspend(run.id)
            log.info("run %s: given up", run.id)
        except PressPoolError as error:
            log.error("run %s has failed: %s", run.id, error)
            self._fail(run, str(error))
        except Exception:
            log.exception("run %s has failed", run.id)
            self._fail(run, "a fault of the program; the coordinator's log says more")

    def _finish(self, run: Submitted) -> None:
        folder = RunFolder(self._folder.path / "runs" / run.id)
        contract = folder.read_contract()
        grid = GrpcGrid(
            self._mailbox,
            run=run.id,
            key=self._folder.contract,
            outlets=contract.outlets,
            members=lambda: self._present(run),
            keys=lambda: {peer.outlet: peer.witness.public for peer in self._members.peers()},
            dropped=lambda: self._runs.dropped(run.id),
            phase=run.phase,
            number_bytes=np.dtype(contract.trust.dtype(contract)).itemsize,
        )

        def committed(number: int, digest: str, outlets: tuple[str, ...], keys: str | None) -> None:
            self._witnesses.commit(
                Entry(
                    run=run.id,
                    contract=contract.digest,
                    round=number,
                    adapter=digest,
                    outlets=outlets,
                    keys=keys,
                )
            )

        try:
            self._require_enough_left(run, contract)
            serve(grid, folder, committed=committed, bound=True)  # agents have ledgers
        except QuorumError as error:
            self._require_enough_left(run, contract)
            if self._all_answered(run, contract):
                raise
            log.warning("run %s: %s; the round stays open", run.id, error)
            self._runs.mark(run.id, "running", f"waiting for outlets: {error.what}")
            self._had_turn.add(run.id)
            return
        self._mailbox.finish(run.id)  # first, or a kill between the two leaves the bodies for ever
        self._runs.mark(run.id, "complete")
        log.info("run %s: complete", run.id)

    def _present(self, run: Submitted) -> frozenset[str]:
        """Who is a member now; raises where the run was given up, or the coordinator stops."""
        if self._stopping.is_set():
            raise _StoppedError
        self._claim.hold()
        if self._runs.get(run.id).state == "stopped":
            raise _GivenUpError
        return self._members.names()

    def _require_enough_left(self, run: Submitted, contract: Contract) -> None:
        """Raise `InputError` where the run's open round can never reach its quorum."""
        asked = cohort_of(contract, self._open_round(run, contract))
        left = {*asked} - self._runs.dropped(run.id)
        fewest = contract.trust.fewest(contract)
        if len(left) < fewest:
            raise InputError(
                "too few outlets are left in the run",
                where="coordinator",
                expected=f"at least {fewest}",
                got=", ".join(sorted(left)) or "none",
                advice="submit a new contract without those that were dropped",
            )

    def _open_round(self, run: Submitted, contract: Contract) -> int:
        """The round that is not whole; after the last, that one."""
        folder = RunFolder(self._folder.path / "runs" / run.id)
        point = checkpoints.load(folder.checkpoint, digest=contract.digest)
        return min(len(point.rounds), contract.federation.rounds) if point else 1

    def _all_answered(self, run: Submitted, contract: Contract) -> bool:
        """Whether every outlet that was asked in the open phase has answered."""
        number = self._open_round(run, contract)
        cohort = set(cohort_of(contract, number))
        present = self._members.names() & cohort - self._runs.dropped(run.id)
        phase = self._mailbox.phase(run.id, number)
        enough = len(present) >= contract.trust.fewest(contract)
        if contract.trust.masked is not None:  # who missed a phase is not asked in the next
            present &= self._mailbox.asked(run.id, number, phase)
        tasks = [task_id(run.id, number, phase, name) for name in present]
        return enough and bool(tasks) and len(self._mailbox.answered(tasks)) == len(tasks)

    def _fail(self, run: Submitted, note: str) -> None:
        self._mailbox.suspend(run.id)
        self._runs.mark(run.id, "failed", note)
