"""The Pool service: what an outlet may ask of the coordinator, within limits.

Invariants:
    * Whose call it is comes from its certificate alone, and is asked anew at every call, every few
      seconds of a long poll, and every few seconds of a stream: a revoked outlet is cut off.
    * A peer hears of an error one word of `presspool.common.envelope.REFUSALS` and nothing else.
    * A caller holds a few streams, sends so many messages a minute, and may not fall silent in the
      middle of a stream; what is above that is refused or cut without touching the database.

Example: `PoolService(desk, member=lambda context: members.member(caller(context)))`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

import grpc

from presspool.common.envelope import HEADER_BYTES, Signed, TaskHeader
from presspool.common.errors import AdmissionError
from presspool.common.keys import SIGNATURE_BYTES
from presspool.common.proto.pool_pb2 import Header, NextTaskRequest, Part, Receipt
from presspool.common.proto.pool_pb2_grpc import PoolServicer, add_PoolServicer_to_server
from presspool.server.desk import Desk, Upload

log = logging.getLogger(__name__)

_MINUTE = 60.0
_CUT_SECONDS = 1.0
_STATUS = {
    "not-a-member": grpc.StatusCode.PERMISSION_DENIED,
    "revoked": grpc.StatusCode.PERMISSION_DENIED,
    "too-many-streams": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "too-fast": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "unavailable": grpc.StatusCode.UNAVAILABLE,
}


class Member(Protocol):
    """Who calls."""

    @property
    def name(self) -> str:
        """The outlet."""

    @property
    def update_key(self) -> bytes:
        """The public key that signs its updates."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one outlet may do, and how long things take.

    Attributes:
        streams: calls at a time: a poll, an upload, and room for those that a cut left behind.
        messages: calls and chunks a minute.
        silence: seconds in which a stream must move on.
        poll: seconds that a poll waits for a task.
        check: seconds between two looks at whether the caller is still a member.
    """

    streams: int = 6
    messages: int = 6000
    silence: float = 30.0
    poll: float = 25.0
    check: float = 2.0


class PoolService(PoolServicer):
    """Serves the desk to members.

    Args:
        desk: tasks and updates.
        member: whose call this is; raises `AdmissionError` for anybody but a member.
        limits: of each member.
    """

    def __init__(
        self, desk: Desk, *, member: Callable[[grpc.ServicerContext], Member],
        limits: Limits | None = None,
    ) -> None:  # fmt: skip
        self._desk, self._member = desk, member
        self._limits = limits or Limits()
        self._streams = _Streams(self._limits)
        self._ended = threading.Event()
        threading.Thread(target=self._watch, name="pool-watch", daemon=True).start()

    def register(self, server: grpc.Server) -> None:
        """Let a server serve this."""
        add_PoolServicer_to_server(self, server)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """End all polls and the watch."""
        self._ended.set()
        self._desk.tasks_changed.raise_()

    def NextTask(self, request: NextTaskRequest, context: grpc.ServicerContext) -> Iterator[Part]:  # noqa: ARG002, N802
        """See pool.proto."""
        with self._refusing(context), self._call(context) as stream:
            found = self._wait(context, stream)
            if found is None:
                return
            header, signed = found
            yield Part(header=Header(body=signed.body, signature=signed.signature))
            for chunk in self._desk.task_body(header):
                stream.moved()
                self._count(stream)
                yield Part(chunk=chunk)

    def SendUpdate(self, request: Iterator[Part], context: grpc.ServicerContext) -> Receipt:  # noqa: N802
        """See pool.proto."""
        with self._refusing(context), self._call(context) as stream:
            signed = self._header(request, stream)
            upload = self._desk.receive(stream.member.name, stream.member.update_key, signed)
            if upload is None:
                return Receipt()
            try:
                self._fill(upload, request, stream)
            finally:
                upload.close()
            return Receipt()

    def _wait(
        self, context: grpc.ServicerContext, stream: _Stream
    ) -> tuple[TaskHeader, Signed] | None:
        """The caller's next task, or None after a while."""
        until = time.monotonic() + self._limits.poll
        while True:
            seen = self._desk.tasks_changed.count
            found = self._desk.next_task(stream.member.name)
            left = until - time.monotonic()
            if found or left <= 0 or self._ended.is_set() or not context.is_active():
                return found
            self._desk.tasks_changed.wait(seen, min(left, self._limits.check))
            stream.moved()
            self._member(context)

    def _header(self, request: Iterator[Part], stream: _Stream) -> Signed:
        part = next(request, Part())
        header = part.header
        if part.WhichOneof("part") is None and _gone(stream.context):
            raise grpc.RpcError
        if (
            part.WhichOneof("part") != "header"
            or len(header.body) > HEADER_BYTES
            or len(header.signature) != SIGNATURE_BYTES
        ):
            self._desk.refuse(stream.member.name, "malformed")
            raise AdmissionError("malformed", "no header")
        stream.moved()
        return Signed(header.body, header.signature)

    def _fill(self, upload: Upload, request: Iterator[Part], stream: _Stream) -> None:
        for part in request:
            stream.moved()
            self._count(stream)
            upload.add(part.chunk)  # empty, and refused, where it is another header
        if not upload.whole and _gone(stream.context):
            raise grpc.RpcError
        upload.finish()

    @contextmanager
    def _refusing(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Let nothing but a code out."""
        try:
            yield
        except AdmissionError as error:
            _abort(context, error.code)
        except grpc.RpcError:
            raise  # the peer is gone
        except Exception:
            if context.is_active():
                log.exception("a call failed here; its outlet will try again")
                _abort(context, "unavailable")
            raise

    @contextmanager
    def _call(self, context: grpc.ServicerContext) -> Iterator[_Stream]:
        """A member's call, counted."""
        member = self._member(context)
        try:
            stream = self._streams.open(member, context)
        except AdmissionError as error:
            self._record_once(member.name, error.code)
            raise
        try:
            yield stream
        finally:
            self._streams.close(stream)

    def _count(self, stream: _Stream) -> None:
        try:
            self._streams.count(stream.member.name)
        except AdmissionError as error:
            self._record_once(stream.member.name, error.code)
            raise

    def _record_once(self, outlet: str, code: str) -> None:
        """What a flood is refused with is put on record once a minute, or the record floods."""
        if self._streams.first(outlet, code):
            self._desk.refuse(outlet, code)

    def _watch(self) -> None:
        """Cut streams whose caller is no member any more, or that do not move."""
        while not self._ended.wait(self._limits.check):
            for stream in self._streams.all():
                try:
                    self._member(stream.context)
                    cut = time.monotonic() - stream.last > self._limits.silence
                except AdmissionError as error:
                    self._record_once(stream.member.name, error.code)
                    cut = True
                except Exception:
                    log.exception("cannot tell who is a member")
                    continue
                if cut:
                    log.info("cut a stream of %s", stream.member.name)
                    stream.context.cancel()


@dataclass
class _Stream:
    """An open call.

    Attributes:
        member: whose.
        context: its handle.
        last: when it last moved, on the monotonic clock.
    """

    member: Member
    context: grpc.ServicerContext
    last: float = field(default_factory=time.monotonic)

    def moved(self) -> None:
        """The peer took or gave something."""
        self.last = time.monotonic()


class _Streams:
    """All open calls, and what each member did in this minute."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._lock = limits, threading.Lock()
        self._open: dict[int, _Stream] = {}
        self._began = time.monotonic()
        self._messages: dict[str, int] = defaultdict(int)
        self._recorded: set[tuple[str, str]] = set()

    def open(self, member: Member, context: grpc.ServicerContext) -> _Stream:
        """Count a call; raises `AdmissionError` above a limit."""
        self.count(member.name)
        stream = _Stream(member, context)
        with self._lock:
            mine = sum(other.member.name == member.name for other in self._open.values())
            if mine >= self._limits.streams:
                raise AdmissionError("too-many-streams", "refused", where=member.name)
            self._open[id(stream)] = stream
        return stream

    def close(self, stream: _Stream) -> None:
        """The call is over."""
        with self._lock:
            del self._open[id(stream)]

    def count(self, outlet: str) -> None:
        """Count a message; raises `AdmissionError` above the limit."""
        with self._lock:
            self._new_minute()
            self._messages[outlet] += 1
            if self._messages[outlet] > self._limits.messages:
                raise AdmissionError("too-fast", "refused", where=outlet)

    def first(self, outlet: str, code: str) -> bool:
        """Whether this is the first such refusal in this minute."""
        with self._lock:
            self._new_minute()
            new = (outlet, code) not in self._recorded
            self._recorded.add((outlet, code))
            return new

    def all(self) -> list[_Stream]:
        """The open calls."""
        with self._lock:
            return list(self._open.values())

    def _new_minute(self) -> None:
        if time.monotonic() - self._began > _MINUTE:
            self._began = time.monotonic()
            self._messages.clear()
            self._recorded.clear()


def _gone(context: grpc.ServicerContext) -> bool:
    """Whether a stream that ended early was cut, which is nobody's fault and no refusal.

    gRPC may tell the end of a cut stream a moment before the cut.
    """
    left = threading.Event()
    return not context.add_callback(left.set) or left.wait(_CUT_SECONDS)


def _abort(context: grpc.ServicerContext, code: str) -> NoReturn:
    context.abort(_STATUS.get(code, grpc.StatusCode.FAILED_PRECONDITION), code)
    raise AssertionError  # abort never returns
