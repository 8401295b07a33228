r"""A witness: cosigns the heads of logs it knows, each only if it continues the one before.

`judge` is the whole rule, without I/O: a request and the head held so far give an answer. `Witness`
adds the two things that must not fail: heads are stored durably before they are cosigned, and
nobody else can move a head between the look and the store.

Invariants:
    * For one log, all cosigned heads are of one history, over crashes and over processes.
    * The head is fsynced before the cosignature is made: what was signed is never forgotten.
    * A log that was caught with two heads of one size gets no cosignature any more, and the proof
      of it lies beside the heads.

Source: C2SP tlog-witness, add-checkpoint: 400, 403, 404, 409 and 422 as there. A log under proof
of a fork gets 403: its key is not trusted any more.

Example:
    >>> import tempfile
    >>> log = notes.Signer.generate("example.org/pool", kind=notes.NOTE)
    >>> text = Checkpoint(origin="example.org/pool", size=1, root=merkle.leaf_hash(b"open")).text
    >>> ask = Request(old=0, proof=(), checkpoint=notes.Note(text=text).signed(log.sign(text)))
    >>> witness = Witness(notes.Signer.generate("example.org/outlet", kind=notes.COSIGNATURE),
    ...                   logs=[log.key], heads=Heads(Path(tempfile.mkdtemp())))
    >>> witness.add_checkpoint(ask.encode()).status
    200
    >>> witness.add_checkpoint(b"old 1\n\n").status, witness.add_checkpoint(ask.encode()).body
    (400, b'1\n')
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from presspool.common.base.errors import EvidenceError, LedgerError, StorageError
from presspool.common.base.files import replace_file
from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import (
    Checkpoint,
    open_checkpoint,
    read_hash,
    read_number,
)
from presspool.common.transparency.forks import contradict, fork_proof

OK, MALFORMED, UNTRUSTED, UNKNOWN, CONFLICT, UNPROVEN = 200, 400, 403, 404, 409, 422


@dataclass(frozen=True, kw_only=True)
class Request:
    """An add-checkpoint request; nothing in it is verified.

    Attributes:
        old: size of the head that the log believes the witness holds.
        proof: consistency proof from that size.
        checkpoint: the signed head to cosign.
    """

    old: int
    proof: tuple[bytes, ...]
    checkpoint: notes.Note

    def encode(self) -> bytes:
        """The request's body."""
        hashes = [base64.b64encode(value).decode() for value in self.proof]
        return "\n".join([f"old {self.old}", *hashes, "", ""]).encode() + self.checkpoint.encode()


def parse_request(data: bytes) -> Request:
    """Read a request's body.

    Raises:
        EvidenceError: not a request, or beyond the caps.
    """
    text = notes.decode_text(data, what="request")
    head, separator, checkpoint = text.partition("\n\n")
    first, *lines = head.split("\n")
    if not separator or not first.startswith("old "):
        raise EvidenceError("request", expected="a line 'old' and a size, a proof, a checkpoint")
    if len(lines) > merkle.LONGEST_PROOF:
        raise EvidenceError("proof", expected=f"at most {merkle.LONGEST_PROOF} hashes")
    return Request(
        old=read_number(first.removeprefix("old "), what="old size"),
        proof=tuple(read_hash(line) for line in lines),
        checkpoint=notes.parse_note(checkpoint.encode()),
    )


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a witness answers.

    Attributes:
        status: as in HTTP.
        body: signature lines for `OK`, the held size for `CONFLICT`, empty else.
        fork: proof against the log, where this request completed one.
    """

    status: int
    body: bytes = b""
    fork: bytes | None = None


def judge(request: Request, *, log: notes.VerifierKey, held: notes.Note | None) -> Reply:
    """Whether a head may be cosigned after the one held; an `OK` here has no signature yet.

    Args:
        request: from anybody.
        log: the key known for the origin that the request names.
        held: the head last cosigned for it, as its log signed it; None for none.
    """
    try:
        new, _ = open_checkpoint(request.checkpoint, log=log)
    except EvidenceError:
        return Reply(status=UNTRUSTED)
    empty = Checkpoint(origin=log.name, size=0, root=merkle.EMPTY_ROOT)
    old = Checkpoint.parse(held.text) if held else empty
    if request.old > new.size:
        return Reply(status=MALFORMED)
    conflict = f"{old.size}\n".encode()
    if held is not None and contradict(old, new):
        proof = fork_proof(held, request.checkpoint, log=log)
        return Reply(status=CONFLICT, body=conflict, fork=proof)
    if request.old != old.size:
        return Reply(status=CONFLICT, body=conflict)
    try:
        merkle.verify_consistency(
            request.proof, old=old.size, new=new.size, old_root=old.root, new_root=new.root
        )
    except EvidenceError:
        return Reply(status=UNPROVEN)
    return Reply(status=OK)


_LONGEST_NAME = 100  # characters of an origin in the name of its file


class Heads:
    """A folder with the head last cosigned for each log, and the fork proofs.

    Args:
        folder: made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError("cannot write", where=str(folder), got=error.strerror) from None

    @contextmanager
    def alone(self, origin: str) -> Iterator[None]:
        """Nobody else reads or stores this log's head inside the block, in any process.

        Raises:
            StorageError: the folder cannot be written.
        """
        try:
            lock = self._file(origin, "lock").open("ab")
        except OSError as error:
            raise StorageError("cannot write", where=str(self.folder), got=error.strerror) from None
        with lock as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)  # closing lets go
            yield

    def read(self, origin: str) -> notes.Note | None:
        """The head held for a log; raises `EvidenceError` where its file is damaged."""
        path = self._file(origin, "checkpoint")
        return notes.parse_note(path.read_bytes()) if path.exists() else None

    def store(self, origin: str, note: notes.Note) -> None:
        """Hold another head, durably; raises `StorageError` where the disk refuses."""
        replace_file(self._file(origin, "checkpoint"), note.encode())

    def forget(self, origin: str) -> None:
        """Begin anew with a log whose operator has said that it is another one now."""
        with self.alone(origin):
            self._file(origin, "checkpoint").unlink(missing_ok=True)

    def keep_fork(self, origin: str, proof: bytes) -> None:
        """Keep the proof against a log, durably."""
        replace_file(self.fork(origin), proof)

    def fork(self, origin: str) -> Path:
        """Where the proof against a log lies, if there is one."""
        return self._file(origin, "fork")

    def _file(self, origin: str, ending: str) -> Path:
        """Readable, and another one for each origin; older versions called it by its hash."""
        digest = hashlib.sha256(origin.encode()).hexdigest()
        words = re.sub("[^A-Za-z0-9.]+", "-", origin)[:_LONGEST_NAME].strip(".-")
        path = self.folder / f"{words or 'log'}.{digest[:32]}.{ending}"
        before = self.folder / f"{digest}.{ending}"
        if before.exists() and not path.exists():
            with suppress(FileNotFoundError):  # another process was quicker
                before.rename(path)
        return path


class Witness:
    """Answers requests for the logs it knows.

    Args:
        signer: a cosigning key of this witness alone.
        logs: keys of the logs to witness, one an origin.
        heads: where heads are held.
        clock: POSIX seconds.

    Raises:
        LedgerError: keys of the wrong kinds, or two for one origin.
    """

    def __init__(
        self,
        signer: notes.Signer,
        *,
        logs: Iterable[notes.VerifierKey],
        heads: Heads,
        clock: Callable[[], float] = time.time,
    ) -> None:
        keys = list(logs)
        self._logs = {key.name: key for key in keys}
        if signer.key.kind != notes.COSIGNATURE or any(k.kind != notes.NOTE for k in keys):
            raise LedgerError("keys of a witness", expected="its cosigning key, logs' note keys")
        if len(self._logs) < len(keys):
            raise LedgerError("keys of a witness", expected="one key for each log")
        self._signer, self.heads, self._clock = signer, heads, clock

    def add_checkpoint(self, data: bytes) -> Reply:
        """Answer one request.

        Raises:
            StorageError: the disk refuses; nothing was cosigned.
            EvidenceError: the held head's file is damaged; nothing was cosigned.
        """
        try:
            request = parse_request(data)
            origin = Checkpoint.parse(request.checkpoint.text).origin
        except EvidenceError:
            return Reply(status=MALFORMED)
        log = self._logs.get(origin)
        if log is None:
            return Reply(status=UNKNOWN)
        with self.heads.alone(origin):
            if self.heads.fork(origin).exists():
                return Reply(status=UNTRUSTED)
            reply = judge(request, log=log, held=self.heads.read(origin))
            if reply.fork is not None:
                self.heads.keep_fork(origin, reply.fork)
            return self._cosigned(request.checkpoint, log) if reply.status == OK else reply

    def _cosigned(self, note: notes.Note, log: notes.VerifierKey) -> Reply:
        """Store first, then sign."""
        own = [s for s in note.signatures if (s.name, s.key_id) == (log.name, log.id)]
        self.heads.store(log.name, notes.Note(text=note.text, signatures=tuple(own[:1])))
        signature = self._signer.sign(note.text, time=int(self._clock()))
        return Reply(status=OK, body=f"{signature.line}\n".encode())
