"""The coordinator's mailbox: tasks handed out, updates that came in, calls that were refused.

It is all in the database, so that a coordinator that is killed and started again finds it. A round
that is handed out again finds its tasks, and the updates that have arrived meanwhile, because a
task's id is a function of run, round, phase and outlet.

Invariants:
    * A task has at most one update: the first whole one whose signature, place and digest hold.
    * An update's body is staged in rows of at most `CHUNK_BYTES` and becomes an update in one
      transaction; what is staged is nothing, and is swept away when it is given up.
    * An update's row and its body live and die together, and die when the run has gone beyond their
      round: no outlet trains a round twice, so an answer that is thrown away is lost for ever.
    * Nothing of a body is read before its header was accepted, and never more than it declares.
    * Every refusal is a word of `presspool.common.wire.envelope.CALL_REFUSALS`.

Example: `mailbox.hand_out(tasks, body)`; `upload = mailbox.receive("north-post", key, signed)`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from presspool.common.base.errors import AdmissionError, StorageError
from presspool.common.wire.envelope import Signed, TaskHeader, UpdateHeader, read_header
from presspool.server.database import Database
from presspool.server.transport.mailbox_body import StoredBody
from presspool.server.transport.mailbox_rows import (
    add_chunks,
    body_owner,
    chunk_sizes,
    close_before,
    forget,
    has_update,
    judge,
    keep,
    last_phase,
    last_place,
    next_row,
    opened,
    require_same_body,
    store,
    task_row,
)
from presspool.server.transport.mailbox_schema import ChunkRow, TaskRow, UpdateRow
from presspool.server.transport.refusal_counts import RefusalCounts, RefusedCall
from presspool.server.transport.upload import Upload


class Mailbox:
    """Tasks and updates of all runs; any number of threads may use it.

    Args:
        database: where they are.
        now: seconds since 1970.
    """

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database, self._now = database, now
        self._turn = threading.Lock()  # SQLite's own waiting is slow and unfair
        self._refusals = RefusalCounts(database, self._writing, now)
        self._given_up: set[str] = set()  # uploads that a full disk kept from being thrown away
        self.tasks_changed, self.updates_changed = Signal(), Signal()

    # --- Tasks ----------------------------------------------------------------------------------

    def hand_out(self, tasks: Sequence[tuple[TaskHeader, Signed]], body: bytes) -> None:
        """Open tasks of one run and phase that share a body; those that are there stay the same.

        The run's earlier phases are closed, its earlier rounds' bodies thrown away. A phase after
        which another was handed out stays closed: that one was made of the answers that there were.

        Raises:
            PressPoolError: the phase was handed out before with another body.
            StorageError: the database refuses.
        """
        run, place = tasks[0][0].run, tasks[0][0].place
        with self._writing() as session:
            require_same_body(session, tasks)
            for header, signed in tasks:
                row = session.get(TaskRow, header.task)
                if row is None:
                    session.add(task_row(header, signed, at=self._now()))
                else:
                    row.closed = False
            close_before(session, run, (place[0], last_phase(session, run, place[0])))
            forget(session, run, place[0] - 1)
            store(session, body_owner(run, place), body)
        self.tasks_changed.raise_()

    def suspend(self, run: str) -> None:
        """The run is stopped or has failed: nothing is asked for, and what has come stays.

        A run that goes on finds the answers of its open round here.
        """
        with self._writing() as session:
            close_before(session, run, (last_place(session, run)[0] + 1, 1))

    def leave_out(self, run: str, outlet: str) -> None:
        """An outlet takes no part in a run any more: what it was asked is not wanted."""
        mine = (TaskRow.run == run, TaskRow.outlet == outlet)
        with self._writing() as session:
            session.execute(update(TaskRow).where(*mine).values(closed=True))

    def finish(self, run: str) -> None:
        """The run is complete: close its tasks and throw away their bodies and its updates'."""
        with self._writing() as session:
            last, _ = last_place(session, run)
            close_before(session, run, (last + 1, 1))
            forget(session, run, last)

    def next_task(
        self, outlet: str, *, put_off: Sequence[str] = ()
    ) -> tuple[TaskHeader, Signed] | None:
        """The outlet's oldest task that is open and has no update.

        Args:
            outlet: whose.
            put_off: tasks that it cannot do just now: handed out when there is no other, in the
                order given.
        """
        with self._database.reading() as session:
            row = next_row(session, outlet, put_off)
        if row is None:
            return None
        return read_header(TaskHeader, row.header), Signed(row.header, row.signature)

    def phase(self, run: str, round: int) -> int:
        """The newest phase of a round that was handed out; 1 before any was."""
        with self._database.reading() as session:
            return last_phase(session, run, round) or 1

    def asked(self, run: str, round: int, phase: int) -> set[str]:
        """The outlets that a phase was handed out to."""
        place = (TaskRow.run == run, TaskRow.round == round, TaskRow.phase == phase)
        with self._database.reading() as session:
            return set(session.scalars(select(TaskRow.outlet).where(*place)))

    def close(self, tasks: Iterable[str]) -> None:
        """The phase is over: updates of these tasks that are not there yet are late."""
        with self._writing() as session:
            session.execute(update(TaskRow).where(TaskRow.id.in_(list(tasks))).values(closed=True))

    def task_body(self, header: TaskHeader) -> Iterator[bytes]:
        """The chunks of a task's body, as far as they are still there."""
        yield from self._chunks(body_owner(header.run, header.place), header.bytes)

    # --- Updates --------------------------------------------------------------------------------

    def receive(self, outlet: str, update_key: bytes, signed: Signed) -> Upload | None:
        """Judge an update by its header, before any of its body is read.

        Args:
            outlet: the member whose call this is.
            update_key: the member's key.
            signed: the header.

        Returns:
            The upload that takes the body, or None where this very update is there already.

        Raises:
            AdmissionError: it is refused; that is on record.
        """
        try:
            header = opened(signed, update_key)
        except AdmissionError as error:
            self.refuse(outlet, error.code)
            raise
        try:
            with self._database.reading() as session:
                known = judge(session, outlet, header, signed)
        except AdmissionError as error:
            self.refuse(outlet, error.code, header)
            raise
        return None if known else Upload(self, header, signed)

    def answered(self, tasks: Iterable[str]) -> set[str]:
        """Those of these tasks that have an update."""
        wanted = select(UpdateRow.task).where(UpdateRow.task.in_(list(tasks)))
        with self._database.reading() as session:
            return set(session.scalars(wanted))

    def waiting(self, tasks: Iterable[str]) -> set[str]:
        """Those of these tasks that are open and have no update."""
        open_ = (TaskRow.id.in_(list(tasks)), TaskRow.closed.is_(False), ~has_update())
        with self._database.reading() as session:
            return set(session.scalars(select(TaskRow.id).where(*open_)))

    def update(self, task: str) -> tuple[UpdateHeader, StoredBody]:
        """The update of a task that is answered: its header, and its body, which stays here."""
        with self._database.reading() as session:
            row = session.get_one(UpdateRow, task)
            sizes = chunk_sizes(session, row.upload)
        header = read_header(UpdateHeader, row.header)
        return header, StoredBody(sizes, lambda number: self._chunk(row.upload, number))

    # --- Refusals -------------------------------------------------------------------------------

    def refuse(self, outlet: str, code: str, header: UpdateHeader | None = None) -> None:
        """Put a refusal on record."""
        run, round = (header.run, header.round) if header else ("", 0)
        self._refusals.add(outlet, code, run=run, round=round)

    def refusals(self, *, run: str | None = None) -> list[RefusedCall]:
        """The refusals on record, of all runs or one, oldest first."""
        return self._refusals.found(run=run)

    # --- Within ---------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with self._turn, self._database.writing() as session:
            yield session

    def _chunks(self, owner: str, size: int) -> Iterator[bytes]:
        number = 0
        while size > 0:
            data = self._chunk(owner, number)
            if not data:
                return  # thrown away meanwhile; whoever counts bytes will see it
            yield data
            number, size = number + 1, size - len(data)

    def _chunk(self, owner: str, number: int) -> bytes:
        """A chunk, which is never empty, or nothing where there is none any more."""
        wanted = select(ChunkRow.data).where(ChunkRow.owner == owner, ChunkRow.number == number)
        with self._database.reading() as session:
            return session.scalar(wanted) or b""

    def stage(self, upload: str, chunks: Mapping[int, bytes]) -> None:
        """Keep chunks of an upload that is not whole yet."""
        with self._writing() as session:
            add_chunks(session, upload, chunks)

    def complete(self, upload: Upload, rest: Mapping[int, bytes]) -> None:
        """Make an update of what is staged, if its task is still waiting for it."""
        header = upload.header
        try:
            with self._writing() as session:
                if judge(session, header.outlet, header, upload.signed):
                    return  # another stream brought the very same update first
                add_chunks(session, upload.id, rest)
                keep(session, header, upload.signed, upload.id, self._now())
        except AdmissionError as error:
            self.refuse(header.outlet, error.code, header)
            raise
        upload.kept = True
        self.updates_changed.raise_()
        if self._given_up:
            with suppress(StorageError):
                self._discard_given_up()

    def discard(self, upload: str) -> None:
        """Throw away what an upload staged; tried again later where the disk refuses."""
        self._given_up.add(upload)
        self._discard_given_up()

    def _discard_given_up(self) -> None:
        gone = list(self._given_up)
        with self._writing() as session:
            session.execute(delete(ChunkRow).where(ChunkRow.owner.in_(gone)))
        self._given_up.difference_update(gone)

    def sweep(self) -> None:
        """Throw away what a killed coordinator had staged; before the port is opened."""
        with self._writing() as session:
            kept = select(UpdateRow.upload)
            staged = ~ChunkRow.owner.contains("/") & ChunkRow.owner.not_in(kept)
            session.execute(delete(ChunkRow).where(staged))


class Signal:
    """Something happened; threads that wait for it never miss it."""

    def __init__(self) -> None:
        self._count, self._condition = 0, threading.Condition()

    @property
    def count(self) -> int:
        """How often it happened; read it before looking, then wait."""
        return self._count

    def raise_(self) -> None:
        """It happened."""
        with self._condition:
            self._count += 1
            self._condition.notify_all()

    def wait(self, seen: int, seconds: float) -> None:
        """Return when it has happened more than `seen` times, or after `seconds`."""
        with self._condition:
            self._condition.wait_for(lambda: self._count != seen, timeout=seconds)
