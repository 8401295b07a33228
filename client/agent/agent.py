"""The agent: one process at the outlet that fetches tasks, trains, and delivers, forever.

It does one thing at a time, in this order: deliver a sealed reply, train an accepted task, ask for
one. All of it lies in the spool, so a kill at any moment loses at most the training that was
going on, and no answer that is paid for (`presspool.client.release.kept_reply`); and the link may
be down while it trains.

Invariants:
    * Nothing is trained that the coordinator's contract key did not sign for this outlet, or that
      is older than, or differs from, what was accepted before.
    * A reply is sealed before it is sent, and only the sealed bytes are ever sent. A task that
      comes twice is answered with the same reply.
    * Of an exception only a code leaves (`presspool.client.release.release`).
    * An answer leaves at a beat that public numbers set (`presspool.client.release.answer_times`).
    * "Not now" (quiet hours, an approval that is missing) is no answer: the task waits, behind
      those of all other runs, and is trained later only if the coordinator still asks for it.

Example: `with Spool.open(Path("work")) as spool: Agent(spool=spool, link=link, …).run()`.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from presspool.client.agent import task_rules
from presspool.client.agent.spool import Spool
from presspool.client.agent.spool_files import SpooledTask
from presspool.client.identity.coordinator_client import CoordinatorClient
from presspool.client.release.answer_times import decided_before_data, seconds_to_beat
from presspool.client.release.operators_log import OperatorsLog
from presspool.client.release.release import INTERNAL, failure_code
from presspool.client.round import Round
from presspool.common.base.errors import (
    AdmissionError,
    BusyError,
    EvidenceError,
    GuardError,
    LedgerBusyError,
    LinkError,
    NotNowError,
    StorageError,
)
from presspool.common.pki.keys import key_id
from presspool.common.wire.envelope import (
    Signed,
    TaskHeader,
    UpdateHeader,
    body_digest,
    open_task,
    read_header,
    sign_update,
)
from presspool.common.wire.update import FAILURES

log = logging.getLogger(__name__)

_STORED = (StorageError, LedgerBusyError, BusyError)
_AGAIN = (LinkError, AdmissionError, EvidenceError, *_STORED, NotNowError)
_MOST_SKIPPED = 16
_NOT_NOW = {code for code, word in FAILURES.items() if word.startswith("not-now")}

Trainer = Callable[[Round, Path], bytes]


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How long to wait after the n-th failure in a row: a random time, so that outlets spread out.

    Attributes:
        first: seconds, at most, after the first failure; doubled after each further one.
        most: seconds, at most, ever.
    """

    first: float = 1.0
    most: float = 60.0

    def seconds(self, failures: int) -> float:
        """A random wait after so many failures, at least 1."""
        return random.uniform(0, min(self.most, self.first * 2 ** min(failures - 1, 30)))  # noqa: S311


class Agent:
    """The agent.

    Args:
        identity: who this outlet is.
        spool: its unfinished work.
        link: to the coordinator.
        trainer: makes the exact bytes of a round's answer and keeps them in the file that it is
            given before they are bound (`presspool.client.client_app.work`).
        position: index of a contract's reservation in the outlet's ledger (0 where there is none)
            and the ledger's root in hexadecimal; asked when a reply is sealed, failures included.
        beat: seconds between the moments at which answers leave, asked before each; 0 for at once.
        before: asked before a task's body is stored; raises `GuardError` where its header alone
            says that it is never trained here.
        tidy: removes what is over; called before each look for a task.
        backoff: between failures.
        largest_task: bytes of a task's body; what declares more is not read.

    Attributes:
        busy: a round is being trained, or its answer waits: what it did to the ledger is not to be
            seen yet.
    """

    def __init__(
        self,
        *,
        identity: task_rules.OutletKeys,
        spool: Spool,
        link: CoordinatorClient,
        trainer: Trainer,
        position: Callable[[str], tuple[int, str]],
        beat: Callable[[], float] = lambda: 0.0,
        before: Callable[[TaskHeader], None] = lambda _: None,
        tidy: Callable[[], None] = lambda: None,
        backoff: Backoff | None = None,
        largest_task: int = task_rules.LARGEST_TASK,
    ) -> None:
        self._identity, self._spool, self._link = identity, spool, link
        self._trainer, self._position, self._beat = trainer, position, beat
        self._before, self._tidy = before, tidy
        self._backoff, self._largest_task = backoff or Backoff(), largest_task
        self._stopping, self._wake = threading.Event(), threading.Event()
        # Tasks not to be trained just now, least lately tried first.
        self._put_off = [task.header.task for task in spool.waiting()]
        self._cannot: deque[str] = deque(maxlen=_MOST_SKIPPED)  # tasks that were not to be taken
        self._told = OperatorsLog(log)
        self._at_once: str | None = None  # the task of whose answer nothing hangs on readers' data
        self.busy = True  # until the first step has found nothing open

    def run(self) -> None:
        """Work until `stop`.

        Raises:
            AdmissionError: the coordinator has revoked this outlet.
            FolderError: the spool is damaged.
        """
        failures = 0
        while not self._stopping.is_set():
            try:
                if self.step():
                    failures = 0
            except _AGAIN as error:
                if isinstance(error, AdmissionError) and error.code == "revoked":
                    raise
                if self._stopping.is_set():
                    break  # it is the stop that ended the waiting
                failures += 1
                wait = self._backoff.seconds(failures)
                self._told.again(error, wait)
                self._wake.wait(wait)
                self._wake.clear()
        self._link.close()
        log.info("stopped; unfinished work stays on disk")

    def stop(self) -> None:
        """End `run` when the step that it is in is over; nothing is waited for. From any thread."""
        self._stopping.set()
        self._link.hurry()
        self.nudge()

    def nudge(self) -> None:
        """End the waiting between two tries: what was missing is there. From any thread."""
        self._wake.set()

    def step(self) -> bool:
        """Do the next thing that there is to do, or wait a while for a task.

        Returns:
            Whether things go on: False where the coordinator asks for a reply that it had before.

        Raises:
            LinkError: the coordinator cannot be reached just now.
            EvidenceError: what came is not the coordinator's, or not for us.
            AdmissionError: the coordinator refuses the update, which is dropped, or this outlet.
            NotNowError: the outlet's own rules put the task off.
        """
        task = self._spool.undelivered()
        self.busy = task is not None
        if task is not None:
            self._deliver(task)
        elif (task := self._spool.unfinished(put_off=self._put_off)) is not None:
            self._train(task)
        else:
            return self._fetch()
        return True

    # --- Fetch ----------------------------------------------------------------------------------

    def _fetch(self) -> bool:
        self._tidy()
        kept = {task.header.task for task in self._spool.tasks()}
        self._put_off = [task for task in self._put_off if task in kept]
        with self._link.next_task([*self._cannot, *self._put_off]) as found:
            if found is None:
                return True
            signed, chunks = found
            try:
                task = task_rules.checked(
                    signed,
                    for_=self._identity,
                    newest=self._spool.newest,
                    largest=self._largest_task,
                )
                known, again = self._known(task)
                if known and not again:
                    return False
                if not known:
                    self._accept(task, chunks)
            except (EvidenceError, StorageError):
                self._skip(signed)
                raise
        if again:  # there is nothing else to do, and it is still wanted
            self._train(task)
        return True

    def _known(self, task: SpooledTask) -> tuple[bool, bool]:
        """Whether a task is here already, and is one that was put off.

        Raises:
            EvidenceError: its round was over.
        """
        older = self._spool.newest(task.header.run)
        known = older is not None and older.header.task == task.header.task
        answered = task.header.task not in self._put_off or self._spool.is_answered(task)
        if known and answered and not self._spool.want_again(task):
            raise EvidenceError(
                "the coordinator asks again for a round that is over",
                where=f"run {task.header.run}",
                got=f"round {task.header.round}",
            )
        return known, known and not answered

    def _skip(self, signed: Signed) -> None:
        """Ask for others first from now on: a task that cannot be taken is in no other's way."""
        with suppress(EvidenceError):
            self._cannot.append(open_task(signed, self._identity.contract_key).task)

    def _accept(self, task: SpooledTask, chunks: Iterable[bytes]) -> None:
        """Store a task; of one that is never trained here the body is not even asked for."""
        try:
            self._before(task.header)
        except GuardError as refused:
            log.warning("round %d of run %s: %s", task.header.round, task.header.run, refused)
            self._spool.refuse(task)
            self._seal(task, b"", failure_code(refused))
            return
        self._spool.accept(task, chunks)
        log.info("round %d of run %s: accepted", task.header.round, task.header.run)

    # --- Train ----------------------------------------------------------------------------------

    def _train(self, task: SpooledTask) -> None:
        self._put_off = [other for other in self._put_off if other != task.header.task]
        self._spool.wait(task, waits=False)
        self._told.training(f"round {task.header.round} of run {task.header.run}")
        self.busy = True
        body, failure = self._answer(task)
        self._seal(task, body, failure)

    def _seal(self, task: SpooledTask, body: bytes, failure: int | None) -> None:
        self._told.trained()
        reserve, root = self._position(task.header.contract)
        header, key = task.header, self._identity.update
        sealed = UpdateHeader(
            outlet=header.outlet,
            key=key_id(key.public),
            run=header.run,
            contract=header.contract,
            round=header.round,
            phase=header.phase,
            task=header.task,
            base=header.base,
            body=body_digest(body),
            bytes=len(body),
            nonce=header.nonce,
            reserve=reserve,
            root=root,
            failure=failure,
        )
        self._spool.seal(task, sign_update(sealed, key), body)

    def _answer(self, task: SpooledTask) -> tuple[bytes, int | None]:
        """The trainer's bytes; or none, and all that leaves of its exception: a code.

        Raises:
            NotNowError: the outlet's own rules put the task off.
            StorageError: the disk refuses.
            LedgerBusyError, BusyError: another process keeps the ledger, or the sums, locked.
        """
        try:
            asked = task_rules.asked(task, self._spool.body(task))
            if self._beat() > 0 and not asked.trains:
                self._at_once = task.header.task
            body = self._trainer(asked, self._spool.answer(task.header.task))
        except _STORED:
            # The answer may be bound already, so no other may be sealed; it is tried again.
            self._put_off.append(task.header.task)
            raise
        except Exception as error:  # its text may hold readers' data
            failure = failure_code(error)
            if failure in _NOT_NOW and isinstance(error, GuardError):
                self._put_off.append(task.header.task)
                self._spool.wait(task)
                parts = {"where": f"run {task.header.run}", "advice": error.advice}
                raise NotNowError(error.code, error.what, **parts) from error
            self._told.untrained(error)
            return b"", failure
        return body, None if body else INTERNAL

    # --- Deliver --------------------------------------------------------------------------------

    def _deliver(self, task: SpooledTask) -> None:
        where = f"round {task.header.round} of run {task.header.run}"
        if not self._beat_came(task, where):
            return
        try:
            self._link.deliver(*self._spool.reply(task))
        except AdmissionError as error:
            if error.code != "revoked":
                self._spool.finish(task)
                log.warning("%s: the update is dropped: %s", where, error.code)
            raise
        self._spool.finish(task)
        log.info("%s: delivered", where)

    def _beat_came(self, task: SpooledTask, where: str) -> bool:
        """Wait until an answer may leave; False where something else ended the waiting."""
        arrived, beat = self._spool.arrived(task), self._beat()
        said = read_header(UpdateHeader, self._spool.reply(task)[0].body)
        at_once = self._at_once == task.header.task or decided_before_data(said.failure)
        if at_once or beat <= 0:
            return True
        wait = seconds_to_beat(arrived=arrived, now=time.time(), beat=beat)
        log.info("%s: the answer leaves in %.0f s (answer_seconds = %g)", where, wait, beat)
        if self._wake.wait(wait):
            self._wake.clear()
            return False
        return True
