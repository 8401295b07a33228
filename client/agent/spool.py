"""The outlet's unfinished work on disk: tasks that were accepted, replies that are sealed.

::

    lock           held by the one agent that works here
    TASK.task      an accepted task: its header as it came, its signature, and, until its reply is
                   sealed, its body
    TASK.arrived   empty; its time is when the task came, whatever is written afterwards
    TASK.waiting   empty; the task was put off, and is trained only if it is asked for again
    TASK.answer    what the app keeps of an answer that is paid for and not sealed yet
    TASK.reply     the sealed reply: the very bytes that may be sent, again and again
    TASK.contract  the contract of a task whose body has gone
    TASK.done      the reply arrived, or will never be wanted
    TASK.ended     the operator ended the run

Invariants:
    * A file is there whole, fsynced, or not at all. A reply is sealed before it is sent and never
      changed; a task whose reply is sealed is never trained again.
    * Work of before rounds had phases is thrown away when the folder is opened: its headers
      can be neither checked nor sent any more, and the coordinator asks for the round anew.
    * Of each run one task is kept, its newest, so that an older one is known as such. Its body goes
      when its reply is sealed. Its reply is kept until the round is over, because a coordinator
      that was killed may ask for it again: a later task came, the consortium log names the round,
      or the operator ended the run; and it goes only after it was delivered.
    * No more than `room` bytes are ever taken, a task's body and the two copies of its answer
      counted before the body is asked for. Nothing that was paid for is removed to make room.

Example: `with Spool.open(Path("work")) as spool: spool.unfinished()`.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from presspool.client.agent.spool_files import (
    LENGTH,
    SpooledTask,
    body_of,
    contract_in,
    read_signed,
    read_task,
    write_signed,
)
from presspool.common.base.errors import FolderError, LinkError, StorageError
from presspool.common.base.files import private_folder, replace_file, replacing
from presspool.common.base.locks import locked
from presspool.common.wire.envelope import (
    HEADER_BYTES,
    Signed,
    TaskHeader,
    is_task_of_before_phases,
)

log = logging.getLogger(__name__)

# Last the one by which the others are found.
_KINDS = ("arrived", "waiting", "answer", "reply", "contract", "done", "ended", "task")
ROOM = 4 << 30  # bytes
MOST_RUNS = 256


class Spool:
    """A folder of unfinished work, held by one agent.

    Args:
        folder: the folder.
        room: bytes that its files may have in all.
    """

    def __init__(self, folder: Path, *, room: int = ROOM) -> None:
        self._folder, self._room = folder, room

    @classmethod
    @contextmanager
    def open(cls, folder: Path, *, room: int = ROOM) -> Iterator[Self]:
        """Open or make the folder, for this agent alone.

        Raises:
            FolderError: another agent works here.
            StorageError: the disk refuses.
        """
        busy = FolderError(
            "another agent works here",
            where=str(folder),
            expected="one agent an outlet",
            advice="stop the other one first",
        )
        with locked(private_folder(folder) / "lock", busy=busy):
            for draft in folder.glob(".*.tmp"):
                draft.unlink()  # what a kill left half written
            self = cls(folder, room=room)
            self._drop_older_version()
            self._tidy()
            yield self

    def tasks(self) -> list[SpooledTask]:
        """The newest task of each run."""
        found = sorted(self._all(), key=lambda task: task.header.place)
        return list({task.header.run: task for task in found}.values())

    def newest(self, run: str) -> SpooledTask | None:
        """The newest task of a run."""
        return next((task for task in self.tasks() if task.header.run == run), None)

    def accept(self, task: SpooledTask, chunks: Iterable[bytes]) -> None:
        """Keep a task whose header was verified, in place of the run's older one.

        Raises:
            LinkError: the body that arrived is not the one that the header names.
            StorageError: there is no room, and nothing was asked for; or the disk refuses.
        """
        self._require_room(task)
        with replacing(self._path(task, "task")) as stream:
            write_signed(stream, task.signed)
            hasher, size = hashlib.sha256(), 0
            for chunk in chunks:
                hasher.update(chunk)
                size += len(chunk)
                if size > task.header.bytes:
                    break
                stream.write(chunk)
            if size != task.header.bytes or f"sha256:{hasher.hexdigest()}" != task.header.body:
                raise LinkError(
                    "the task's body did not arrive whole",
                    where=task.header.task,
                    expected=f"{task.header.bytes} bytes",
                    got=f"{size}",
                )
            self._path(task, "arrived").touch()
        self._tidy()

    def refuse(self, task: SpooledTask) -> None:
        """Keep a task that is answered without its body ever being asked for."""
        self._require_room(task, body=False)
        with replacing(self._path(task, "task")) as stream:
            write_signed(stream, task.signed)
        self._tidy()

    def unfinished(self, *, put_off: Collection[str] = ()) -> SpooledTask | None:
        """A task that is still to be trained, and is none of these."""
        waiting = (t for t in self.tasks() if not self.is_answered(t))
        return next((t for t in waiting if t.header.task not in put_off), None)

    def wait(self, task: SpooledTask, *, waits: bool = True) -> None:
        """A task was put off, or is so no longer."""
        path = self._path(task, "waiting")
        path.touch() if waits else path.unlink(missing_ok=True)

    def waiting(self) -> list[SpooledTask]:
        """Unfinished tasks that were put off, also before a restart."""
        unfinished = (task for task in self.tasks() if not self.is_answered(task))
        return [task for task in unfinished if self._path(task, "waiting").exists()]

    def undelivered(self) -> SpooledTask | None:
        """A task whose reply is sealed and still to be sent."""
        waiting = (t for t in self.tasks() if self._path(t, "reply").exists())
        return next((t for t in waiting if not self._path(t, "done").exists()), None)

    def arrived(self, task: SpooledTask) -> float:
        """When a task was accepted, in seconds since 1970."""
        path = self._path(task, "arrived")
        return (path if path.exists() else self._path(task, "task")).stat().st_mtime

    def body(self, task: SpooledTask) -> bytes:
        """The body of an unfinished task."""
        return b"".join(body_of(self._path(task, "task")))

    def contract(self, task: SpooledTask) -> bytes:
        """The contract that a task came with, as it came; b"" where there was none."""
        path = self._path(task, "contract")
        return path.read_bytes() if path.exists() else contract_in(self.body(task))

    def seal(self, task: SpooledTask, signed: Signed, body: bytes) -> None:
        """Keep the reply's exact bytes; from here on no others may be sent."""
        with replacing(self._path(task, "reply")) as stream:
            write_signed(stream, signed)
            stream.write(body)
        self._drop_body(task)

    def answer(self, task: str) -> Path:
        """Where the app keeps its answer to a task until that is sealed."""
        return self._folder / f"{task}.answer"

    def reply(self, task: SpooledTask) -> tuple[Signed, Iterator[bytes]]:
        """A sealed reply: its header and its body's chunks."""
        path = self._path(task, "reply")
        with path.open("rb") as stream:
            signed = read_signed(stream, path)
        return signed, body_of(path)

    def finish(self, task: SpooledTask) -> None:
        """The reply arrived, or will never be wanted; should this be lost, it is sent once more."""
        self._path(task, "done").touch()

    def want_again(self, task: SpooledTask) -> bool:
        """The coordinator asks for a reply once more; False where its round was over already."""
        kept = self._path(task, "reply").exists() or not self.is_answered(task)
        if kept:
            self._path(task, "done").unlink(missing_ok=True)
        return kept

    def end(self, contract: str) -> None:
        """The operator ended this run: its replies go once they are delivered. For any process."""
        for task in self._all():
            if task.header.contract == contract:
                self._path(task, "ended").touch()

    def forget(self, is_over: Callable[[TaskHeader], bool]) -> None:
        """Remove replies that arrived and whose rounds are over; what is left is their headers."""
        for task in self._all():
            arrived = self._path(task, "reply").exists() and self._path(task, "done").exists()
            if arrived and (self._path(task, "ended").exists() or is_over(task.header)):
                self._path(task, "reply").unlink()

    def is_answered(self, task: SpooledTask) -> bool:
        """Whether a task's reply is sealed, or was delivered."""
        return self._path(task, "reply").exists() or self._path(task, "done").exists()

    def _require_room(self, task: SpooledTask, *, body: bool = True) -> None:
        """Raise `StorageError` where a task and its answer do not fit beside what is kept."""
        header, tasks = task.header, self.tasks()
        others = self._pruned([t for t in tasks if t.header.run != header.run])
        gone = {t.header.task for t in tasks} - {t.header.task for t in others}
        kept = [p for p in self._folder.iterdir() if p.is_file() and p.stem not in gone]
        promised = sum(2 * t.header.allowance for t in others if not self.is_answered(t))
        taken, runs = sum(path.stat().st_size for path in kept) + promised, len(others)
        wanted = HEADER_BYTES + (header.bytes + 2 * header.allowance if body else 0)
        if taken + wanted > self._room or runs >= MOST_RUNS:
            raise StorageError(
                "no room for another task",
                where=str(self._folder),
                expected=f"at most {self._room} bytes and {MOST_RUNS} runs (outlet.toml work_mib)",
                got=f"{taken} bytes and {runs} runs, and {wanted} bytes for round {header.round} "
                f"of run {header.run}",
                advice="it is tried again; presspool outlet end RUN frees what a run that is over "
                "still holds, or raise work_mib",
            )

    def _pruned(self, found: Sequence[SpooledTask]) -> list[SpooledTask]:
        """These, but as many as may be beside another; others that hold nothing paid for go.

        The longest untouched goes first.
        """
        oldest = sorted(found, key=lambda task: self._path(task, "task").stat().st_mtime)
        idle = [task for task in oldest if self._path(task, "done").exists()]
        spare = [task for task in idle if not self._holds_answer(task)]
        spare = spare[: max(0, len(found) - MOST_RUNS + 1)]
        for task in spare:
            self._remove(task)
        return [task for task in found if task not in spare]

    def _holds_answer(self, task: SpooledTask) -> bool:
        return self._path(task, "reply").exists() and any(self.reply(task)[1])

    def _drop_body(self, task: SpooledTask) -> None:
        """Free what a sealed task does not need; a kill before it is made up for by `_tidy`."""
        path, head = self._path(task, "task"), LENGTH.size + len(task.signed.body)
        head += len(task.signed.signature)
        if path.stat().st_size > head:
            if contract := self.contract(task):
                replace_file(self._path(task, "contract"), contract)
            os.truncate(path, head)
        self.answer(task.header.task).unlink(missing_ok=True)

    def _drop_older_version(self) -> None:
        for path in self._folder.glob("*.task"):
            with path.open("rb") as stream:
                older = is_task_of_before_phases(read_signed(stream, path).body)
            if not older:
                continue
            log.warning(
                "%s is of an older version of PressPool and is thrown away: the coordinator asks "
                "for its round anew; where its answer was paid for already, this outlet misses "
                "that round, and is not charged again",
                path.name,
            )
            for kind in _KINDS:
                path.with_suffix(f".{kind}").unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Remove what newer tasks have replaced."""
        newest = {task.header.task for task in self.tasks()}
        for task in self._all():
            if task.header.task not in newest:
                self._remove(task)
            elif self.is_answered(task):
                self._drop_body(task)

    def _remove(self, task: SpooledTask) -> None:
        for kind in _KINDS:
            self._path(task, kind).unlink(missing_ok=True)

    def _all(self) -> list[SpooledTask]:
        return [read_task(path) for path in self._folder.glob("*.task")]

    def _path(self, task: SpooledTask, kind: str) -> Path:
        return self._folder / f"{task.header.task}.{kind}"
