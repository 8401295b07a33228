"""Putting an outlet's agent together: identity, settings, spool, links, witness, the app.

A real outlet has a policy, a ledger and a snapshot of its data; without them its agent does not
start, because a run would then be neither judged nor charged, or paid for with nobody to train on.

Example: `with agent(Path("/var/lib/presspool")) as working: working.run()`.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc

from presspool.client.agent import home as homes
from presspool.client.agent.agent import Agent, Trainer
from presspool.client.agent.ledger_renaming import require_own
from presspool.client.agent.moving import require_paid
from presspool.client.agent.spool import Spool
from presspool.client.agent.task_rules import judge
from presspool.client.consent.policy import Policy
from presspool.client.data.snapshots import current, require_declared
from presspool.client.identity.coordinator_client import CoordinatorClient
from presspool.client.identity.dialling import listen, reach
from presspool.client.identity.identity import Identity
from presspool.client.identity.joining import renew_if_due
from presspool.client.identity.settings import read_settings
from presspool.client.round import Round
from presspool.client.sums import sum_party
from presspool.client.witnessing.witness_client import WitnessClient
from presspool.client.witnessing.witness_watch import WitnessWatch
from presspool.common.base.errors import (
    GuardError,
    InputError,
    LedgerError,
    LinkError,
    NotNowError,
    PressPoolError,
)
from presspool.common.base.stopping import until_signalled
from presspool.common.contract.contract import read_canonical
from presspool.common.pki.tls import split_address

log = logging.getLogger(__name__)

NO_ROOT = "0" * 64


@contextmanager
def agent(home: Path) -> Iterator[Agent]:
    """The agent of the outlet at a home; SIGTERM or SIGINT stops it, and ends the block.

    Raises:
        InputError: not joined, or settings, policy or ledger that are missing or wrong.
        FolderError: another agent works here.
    """
    identity = Identity.read(home)
    check_home(home, identity)
    dial = _dialler(home)
    room = homes.settings_in(home).work_mib << 20
    with until_signalled() as signalled, Spool.open(home / homes.WORK, room=room) as spool:
        watch = WitnessWatch(
            identity,
            ledger=homes.ledger_path(home),
            policy=homes.policy_path(home),
            link=WitnessClient(identity.address, dial),
            news=lambda: working.nudge(),  # noqa: PLW0108  there is no agent yet
            busy=lambda: working.busy,
        )
        working = Agent(
            identity=identity,
            spool=spool,
            link=CoordinatorClient(identity.address, dial),
            trainer=_witnessed(
                _trainer(home, loopback=_is_loopback(identity.address)), watch, home
            ),
            position=_position(home),
            beat=_beat(home),
            largest_task=homes.settings_in(home).task_megabytes << 20,
            before=judge(home, spool),
            tidy=_tidy(home, spool, watch),
        )
        signalled.then(working.stop)
        with watch:
            yield working


def _tidy(home: Path, spool: Spool, watch: WitnessWatch) -> Callable[[], None]:
    """Removes answers of rounds, and secrets of runs, that the consortium log says are over."""

    def tidy() -> None:
        spool.forget(watch.is_over)
        known = sum_party.remembered(home)
        for task in spool.tasks() if known else ():
            if task.header.contract in known:
                _forget_ended(home, task.header.contract, spool.contract(task), watch)

    return tidy


def _forget_ended(home: Path, run: str, contract: bytes, watch: WitnessWatch) -> None:
    """Erase what could open a part in a run's sums, where the log names the run's last round."""
    with suppress(PressPoolError):  # no contract of ours, or busy: it is tried again
        if watch.last(run) >= read_canonical(contract, digest=run).federation.rounds:
            sum_party.forget(home, run)


def check_home(home: Path, identity: Identity) -> None:
    """Return if the settings at a home are those of a real outlet, with policy, ledger and data.

    Raises:
        InputError: missing or wrong, without policy and ledger, or another outlet's; no snapshot
            of the data that they name.
        LedgerError: a ledger under another name or key, which no peer could witness.
        EvidenceError: a damaged ledger.
    """
    where, settings = home / homes.SETTINGS, homes.settings_in(home)
    settings.require_noise(loopback=all(map(_is_loopback, identity.addresses)))
    if settings.policy is None or settings.ledger is None:
        raise InputError(
            "no policy and no ledger",
            where=str(where),
            expected="policy and ledger",
            advice="presspool outlet budget init makes them, and says which two lines name them",
        )
    require_paid(home)
    homes.policy_in(home)
    with homes.ledger_in(home) as ledger:
        require_own(ledger, homes.ledger_path(home), identity)
        commitments = ledger.book.frozen
    snapshot = homes.snapshot_in(home)
    require_declared(current(snapshot, settings), snapshot, commitments)


def _is_loopback(address: str) -> bool:
    host, _ = split_address(address, where="identity/coordinator.json")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _dialler(home: Path) -> Callable[[], grpc.Channel]:
    """Makes the link anew, after renewing the certificate where that is due."""
    turn = threading.Lock()  # of the agent's two lines, one renews

    def dial() -> grpc.Channel:
        with turn:
            identity = Identity.read(home)
            try:
                identity = renew_if_due(identity, now=time.time())
            except (InputError, LinkError) as error:  # the old one may be good for ten days more
                log.warning("the certificate could not be renewed yet: %s", error)
        link = reach(identity)
        listen(identity, link)
        return link

    return dial


def _trainer(home: Path, *, loopback: bool = False) -> Trainer:
    def train(asked: Round, kept: Path) -> bytes:
        from presspool.client.client_app import work

        return work(asked, read_settings(home / homes.SETTINGS), kept=kept, loopback=loopback)

    return train


def _witnessed(train: Trainer, watch: WitnessWatch, home: Path) -> Trainer:
    """Training that tells the witness what it waits for.

    Where witnesses are required, nothing is trained before the pool was asked which head of this
    ledger it has: a home that was restored as a whole finds only there that it is old.
    """

    def trainer(asked: Round, kept: Path) -> bytes:
        if not watch.ready.is_set() and homes.policy_in(home).witnesses.required:
            raise NotNowError(
                "not-now-witnesses",
                "the pool was not yet asked for the head of this ledger",
                advice="nothing: it is tried again",
            )
        try:
            return train(asked, kept)
        except GuardError as error:
            if error.code == "not-now-witnesses":
                watch.want(asked.task.digest, asked.number - 1)
            raise

    return trainer


def _beat(home: Path) -> Callable[[], float]:
    def seconds() -> float:
        try:
            return homes.policy_in(home).answer_seconds
        except InputError:  # told when it is trained by; nothing leaves faster for it
            return Policy().answer_seconds

    return seconds


def _position(home: Path) -> Callable[[str], tuple[int, str]]:
    def of(run: str) -> tuple[int, str]:
        with homes.ledger_in(home) as ledger:
            try:
                return ledger.position(run)
            except LedgerError:  # refused: nothing was reserved
                return 0, NO_ROOT

    return of
