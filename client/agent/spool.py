"""The outlet's unfinished work on disk: tasks that were accepted, replies that are sealed.

::

    lock           held by the one agent that works here
    TASK.task      an accepted task: its header as it came, its signature, and its body
    TASK.answer    what the app keeps of an answer that is paid for and not sealed yet
    TASK.reply     the sealed reply: the very bytes that may be sent, again and again
    TASK.done      the reply arrived, or will never be wanted

Invariants:
    * A file is there whole, fsynced, or not at all. A reply is sealed before it is sent and never
      changed; a task whose reply is sealed is never trained again.
    * Work of before rounds had phases is thrown away when the folder is opened: its headers
      can be neither checked nor sent any more, and the coordinator asks for the round anew.
    * Of each run one task is kept, its newest, so that an older one is known as such.
      Its reply is kept as long, because a coordinator that was killed may ask for it again.

Example: `with Spool.open(Path("work")) as spool: spool.unfinished()`.
"""

from __future__ import annotations

import hashlib
import logging
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from presspool.common.base.errors import EvidenceError, FolderError, LinkError
from presspool.common.base.files import private_folder, replacing
from presspool.common.base.locks import locked
from presspool.common.pki.keys import SIGNATURE_BYTES
from presspool.common.wire.envelope import (
    CHUNK_BYTES,
    HEADER_BYTES,
    Signed,
    TaskHeader,
    is_task_of_before_phases,
    read_header,
)

log = logging.getLogger(__name__)

_LENGTH = struct.Struct(">I")
_KINDS = ("answer", "reply", "done", "task")  # last the one by which the others are found


@dataclass(frozen=True)
class SpooledTask:
    """A task on disk.

    Attributes:
        header: what the coordinator signed.
        signed: its exact bytes.
    """

    header: TaskHeader
    signed: Signed


class Spool:
    """A folder of unfinished work, held by one agent.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Iterator[Self]:
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
            self = cls(folder)
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
            StorageError: the disk refuses.
        """
        with replacing(self._path(task, "task")) as stream:
            _write_signed(stream, task.signed)
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
        self._tidy()

    def unfinished(self) -> SpooledTask | None:
        """A task that is still to be trained."""
        return next((t for t in self.tasks() if not self._path(t, "reply").exists()), None)

    def undelivered(self) -> SpooledTask | None:
        """A task whose reply is sealed and still to be sent."""
        waiting = (t for t in self.tasks() if self._path(t, "reply").exists())
        return next((t for t in waiting if not self._path(t, "done").exists()), None)

    def arrived(self, task: SpooledTask) -> float:
        """When a task was accepted, in seconds since 1970."""
        return self._path(task, "task").stat().st_mtime

    def body(self, task: SpooledTask) -> bytes:
        """The body of an unfinished task."""
        return b"".join(_body(self._path(task, "task")))

    def seal(self, task: SpooledTask, signed: Signed, body: bytes) -> None:
        """Keep the reply's exact bytes; from here on no others may be sent."""
        with replacing(self._path(task, "reply")) as stream:
            _write_signed(stream, signed)
            stream.write(body)
        self.answer(task.header.task).unlink(missing_ok=True)

    def answer(self, task: str) -> Path:
        """Where the app keeps its answer to a task until that is sealed."""
        return self._folder / f"{task}.answer"

    def reply(self, task: SpooledTask) -> tuple[Signed, Iterator[bytes]]:
        """A sealed reply: its header and its body's chunks."""
        path = self._path(task, "reply")
        with path.open("rb") as stream:
            signed = _read_signed(stream, path)
        return signed, _body(path)

    def finish(self, task: SpooledTask) -> None:
        """The reply arrived, or will never be wanted; should this be lost, it is sent once more."""
        self._path(task, "done").touch()

    def want_again(self, task: SpooledTask) -> None:
        """The coordinator asks for a reply once more."""
        self._path(task, "done").unlink(missing_ok=True)

    def _drop_older_version(self) -> None:
        for path in self._folder.glob("*.task"):
            with path.open("rb") as stream:
                older = is_task_of_before_phases(_read_signed(stream, path).body)
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
        for old in (task for task in self._all() if task.header.task not in newest):
            for kind in _KINDS:
                self._path(old, kind).unlink(missing_ok=True)

    def _all(self) -> list[SpooledTask]:
        return [_read_task(path) for path in self._folder.glob("*.task")]

    def _path(self, task: SpooledTask, kind: str) -> Path:
        return self._folder / f"{task.header.task}.{kind}"


def _write_signed(stream: BinaryIO, signed: Signed) -> None:
    stream.write(_LENGTH.pack(len(signed.body)) + signed.body + signed.signature)


def _read_signed(stream: BinaryIO, path: Path) -> Signed:
    head = stream.read(_LENGTH.size)
    length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else HEADER_BYTES + 1
    body = stream.read(length) if length <= HEADER_BYTES else b""
    signature = stream.read(SIGNATURE_BYTES)
    if len(body) != length or len(signature) != SIGNATURE_BYTES:
        raise _damaged(path)
    return Signed(body, signature)


def _read_task(path: Path) -> SpooledTask:
    with path.open("rb") as stream:
        signed = _read_signed(stream, path)
    try:
        return SpooledTask(read_header(TaskHeader, signed.body), signed)
    except EvidenceError:
        raise _damaged(path) from None


def _body(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        _read_signed(stream, path)
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _damaged(path: Path) -> FolderError:
    return FolderError(
        "damaged",
        where=str(path),
        expected="what this agent wrote",
        advice="look at the disk, then remove the file: its round is lost",
    )
