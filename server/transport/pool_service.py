"""The Pool service: what an outlet may ask of the coordinator, within limits.

Who calls, and how often, is seen to by `presspool.server.transport.call_limits`.

Example: `PoolService(mailbox, member=lambda context: members.member(caller(context)))`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol

import grpc

from presspool.common.base.errors import AdmissionError, StorageError
from presspool.common.pki.keys import SIGNATURE_BYTES
from presspool.common.proto.pool_pb2 import Header, NextTaskRequest, Part, Receipt
from presspool.common.proto.pool_pb2_grpc import PoolServicer, add_PoolServicer_to_server
from presspool.common.wire.envelope import HEADER_BYTES, MOST_PUT_OFF, Signed, TaskHeader
from presspool.server.transport.call_limits import Calls, Limits, Stream
from presspool.server.transport.mailbox import Mailbox
from presspool.server.transport.upload import Upload

_CUT_SECONDS = 1.0


class PoolCaller(Protocol):
    """Who calls."""

    @property
    def name(self) -> str:
        """The outlet."""

    @property
    def update_key(self) -> bytes:
        """The public key that signs its updates."""


class PoolService(PoolServicer):
    """Serves the mailbox to members.

    Args:
        mailbox: tasks and updates.
        member: whose call this is; raises `AdmissionError` for anybody but a member.
        limits: of each member.
        seen: told who asks for work, and what version and clock it says that it has.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        member: Callable[[grpc.ServicerContext], PoolCaller],
        limits: Limits | None = None,
        seen: Callable[[str, str, float], None] = lambda *_: None,
    ) -> None:
        self._mailbox, self._limits, self._seen = mailbox, limits or Limits(), seen
        self.calls = Calls(member, record=mailbox.refuse, limits=self._limits)

    def register(self, server: grpc.Server) -> None:
        """Let a server serve this."""
        add_PoolServicer_to_server(self, server)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """End all polls and the watch."""
        self.calls.close()
        self._mailbox.tasks_changed.raise_()

    def NextTask(self, request: NextTaskRequest, context: grpc.ServicerContext) -> Iterator[Part]:  # noqa: N802
        """See pool.proto."""
        with self.calls.refusing(context), self.calls.open(context) as stream:
            if len(request.put_off) > MOST_PUT_OFF:
                raise AdmissionError("malformed", "too many tasks", where=stream.member.name)
            with suppress(StorageError):  # a sighting never keeps work from anybody
                self._seen(stream.member.name, request.version, request.clock)
            found = self._wait(context, stream, list(request.put_off))
            if found is None:
                return
            header, signed = found
            yield Part(header=Header(body=signed.body, signature=signed.signature))
            for chunk in self._mailbox.task_body(header):
                stream.moved()
                self.calls.count(stream)
                yield Part(chunk=chunk)

    def SendUpdate(self, request: Iterator[Part], context: grpc.ServicerContext) -> Receipt:  # noqa: N802
        """See pool.proto."""
        with self.calls.refusing(context), self.calls.open(context) as stream:
            signed = self._header(request, stream)
            upload = self._mailbox.receive(stream.member.name, stream.member.update_key, signed)
            if upload is None:
                return Receipt()
            try:
                self._fill(upload, request, stream)
            finally:
                upload.close()
            return Receipt()

    def _wait(
        self, context: grpc.ServicerContext, stream: Stream[PoolCaller], put_off: list[str]
    ) -> tuple[TaskHeader, Signed] | None:
        """The caller's next task, or None after a while."""
        until = time.monotonic() + self._limits.poll
        while True:
            seen = self._mailbox.tasks_changed.count
            found = self._mailbox.next_task(stream.member.name, put_off=put_off)
            left = until - time.monotonic()
            if found or left <= 0 or self.calls.ended.is_set() or not context.is_active():
                return found
            self._mailbox.tasks_changed.wait(seen, min(left, self._limits.check))
            stream.moved()
            self.calls.member(context)

    def _header(self, request: Iterator[Part], stream: Stream[PoolCaller]) -> Signed:
        part = next(request, Part())
        header = part.header
        if part.WhichOneof("part") is None and _gone(stream.context):
            raise grpc.RpcError
        if (
            part.WhichOneof("part") != "header"
            or len(header.body) > HEADER_BYTES
            or len(header.signature) != SIGNATURE_BYTES
        ):
            self._mailbox.refuse(stream.member.name, "malformed")
            raise AdmissionError("malformed", "no header")
        stream.moved()
        return Signed(header.body, header.signature)

    def _fill(self, upload: Upload, request: Iterator[Part], stream: Stream[PoolCaller]) -> None:
        for part in request:
            stream.moved()
            self.calls.count(stream)
            upload.add(part.chunk)  # empty, and refused, where it is another header
        if not upload.whole and _gone(stream.context):
            raise grpc.RpcError
        upload.finish()


def _gone(context: grpc.ServicerContext) -> bool:
    """Whether a stream that ended early was cut, which is nobody's fault and no refusal.

    gRPC may tell the end of a cut stream a moment before the cut.
    """
    left = threading.Event()
    return not context.add_callback(left.set) or left.wait(_CUT_SECONDS)
