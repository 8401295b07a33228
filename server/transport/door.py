"""The port's door: who calls is asked at the headers, before any message of the call is awaited.

gRPC gives a call a thread and lets it wait there for a unary call's message for as long as the
caller likes. So every call comes in as a stream: its thread first looks at the caller's
certificate, takes a place, and only then reads, against a clock.

Invariants:
    * A certificate that is no member's (an invitation, a revoked outlet, a viewer) shares
      `Shares.strangers` places with all of its kind, and a whole call of it takes `Shares.first`
      seconds at most. Members' places are never theirs.
    * A member has `Shares.member` places over all services, however many connections it makes.
    * Who calls too often, or is refused too often, is refused for the rest of the minute without a
      look into the database.

Example: `open_port(address, credentials, services, door=Door(members_of, record=mailbox.refuse))`.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from presspool.common.base.errors import AdmissionError
from presspool.common.pki.certificates import OUTLET
from presspool.common.pki.tls import Caller, caller
from presspool.server.transport.call_limits import Named, abort
from presspool.server.transport.seldom import Minute, Seldom

log = logging.getLogger(__name__)

# Ends of a call for which its caller need not answer.
_NO_FAULT = (None, grpc.StatusCode.OK, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


@dataclass(frozen=True, kw_only=True)
class Shares:
    """How the port's calls are shared out.

    Attributes:
        calls: at a time over all callers; a waiting poll is one.
        strangers: of them, for all together who are no members.
        member: of them, for each member: two polls, an upload, an answer, and as many that a cut
            line left behind.
        first: seconds for a call's first message; for all of a stranger's call.
        often: calls a minute of one member.
        seldom: calls a minute of one stranger's certificate.
        refused: calls a minute that may be refused, or cut, before all others are.
        slow: seconds after which a call is refused here, so that a flood waits for its answers.
        slowed: calls that wait so at a time; more are refused at once.
        check: seconds between two looks at the clock.
    """

    calls: int = 256
    strangers: int = 16
    member: int = 8
    first: float = 10.0
    often: int = 6000
    seldom: int = 120
    refused: int = 120
    slow: float = 1.0
    slowed: int = 128
    check: float = 1.0


@dataclass
class _Visit:
    """A call that was let in: until when, on the monotonic clock, it must have spoken."""

    who: Caller
    owner: str
    context: grpc.ServicerContext
    until: float


class Door(grpc.ServerInterceptor):  # type: ignore[misc]
    """Stands before all services of a port.

    Args:
        member: whose call this is; raises `AdmissionError` for anybody but a member.
        record: told an outlet and the word that it was refused with.
        shares: of the port.
    """

    def __init__(
        self,
        member: Callable[[grpc.ServicerContext], Named],
        *,
        record: Callable[[str, str], None],
        shares: Shares | None = None,
    ) -> None:
        self._member, self._record, self.shares = member, record, shares or Shares()
        self._lock, self._ended, self._told = threading.Lock(), threading.Event(), Seldom()
        self._visits: dict[int, _Visit] = {}
        # By certificate, not by name: who holds a revoked one must not shut out its successor.
        self._counts: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._owners: dict[str, str] = {}  # members' serials that called in this minute
        self._minute, self._slowed = Minute(), 0
        threading.Thread(target=self._watch, name="door-watch", daemon=True).start()

    def close(self) -> None:
        """End the watch."""
        self._ended.set()

    def inside(self) -> list[str]:
        """Owners of the calls that are let in: members' names, and "" for every stranger."""
        with self._lock:
            return [visit.owner for visit in self._visits.values()]

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Every method as one that begins before its message is there."""
        found = continuation(details)
        if found is None:
            return None
        # The bytes are parsed here: gRPC would write a traceback for each that are no message.
        if found.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._answers(found), None, found.response_serializer
            )
        return grpc.stream_unary_rpc_method_handler(
            self._answer(found), None, found.response_serializer
        )

    def _answer(self, method: grpc.RpcMethodHandler) -> Callable[..., Any]:
        behave = method.stream_unary or method.unary_unary

        def single(requests: Iterator[bytes], context: grpc.ServicerContext) -> Any:
            with self._in(context) as visit:
                return behave(_said(requests, visit, method), context)

        return single

    def _answers(self, method: grpc.RpcMethodHandler) -> Callable[..., Any]:
        behave = method.stream_stream or method.unary_stream

        def streams(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[Any]:
            with self._in(context) as visit:
                yield from behave(_said(requests, visit, method), context)

        return streams

    @contextmanager
    def _in(self, context: grpc.ServicerContext) -> Iterator[_Visit]:
        try:
            visit = self._enter(context)
        except AdmissionError as error:
            self._slow()
            abort(context, error.code)
        except Exception:
            if self._told("failed"):
                log.exception("cannot tell who calls")
            abort(context, "unavailable")
        try:
            yield visit
        except AdmissionError as error:
            abort(context, error.code)
        except Exception:
            if context.code() is None:  # else it was refused with a word
                self._failed(context)
            raise
        finally:
            with self._lock:
                del self._visits[id(visit)]
            if context.code() not in _NO_FAULT:
                self._fault(visit.who)

    def _failed(self, context: grpc.ServicerContext) -> None:
        """End a call that raised; gRPC itself would write a traceback for each."""
        if not context.is_active():
            context.abort(grpc.StatusCode.CANCELLED, "")
        if self._told("failed"):
            log.exception("a call failed")
        abort(context, "unavailable")

    def _enter(self, context: grpc.ServicerContext) -> _Visit:
        """Take a place; raises `AdmissionError` where there is none for this caller."""
        who, shares = caller(context), self.shares
        count = self._count(who)
        if count > shares.often or self._faults[who.serial] > shares.refused:
            raise self._refused(self._owners.get(who.serial, ""), "too-fast")
        owner = self._owner(who, context)
        if owner:
            self._owners[who.serial] = owner
        if not owner and count > shares.seldom:
            raise self._refused("", "too-fast")
        most = shares.member if owner else shares.strangers
        visit = _Visit(who, owner, context, time.monotonic() + shares.first)
        with self._lock:
            owners = [other.owner for other in self._visits.values()]
            members = len(owners) - owners.count("")
            fits = owners.count(owner) < most
            fits &= not owner or members < shares.calls - shares.strangers
            if fits:
                self._visits[id(visit)] = visit
        if not fits:
            self._fault(who)
            raise self._refused(owner, "too-many-streams")
        return visit

    def _slow(self) -> None:
        with self._lock:
            fits = self._slowed < self.shares.slowed
            self._slowed += fits
        if fits:
            self._ended.wait(self.shares.slow)
            with self._lock:
                self._slowed -= 1

    def _owner(self, who: Caller, context: grpc.ServicerContext) -> str:
        if who.kind != OUTLET:
            return ""
        try:
            return self._member(context).name
        except AdmissionError:
            return ""  # revoked, or lapsed: the service says which

    def _count(self, who: Caller) -> int:
        """The calls with this certificate in this minute, with this one."""
        with self._lock:
            if self._minute.is_over():
                self._counts.clear()
                self._faults.clear()
                self._owners.clear()
            self._counts[who.serial] += 1
            return self._counts[who.serial]

    def _fault(self, who: Caller) -> None:
        with self._lock:
            self._faults[who.serial] += 1

    def _refused(self, owner: str, code: str) -> AdmissionError:
        if self._told(owner, code):
            log.warning("refused calls of %s: %s", owner or "strangers", code)
            if owner:
                self._record(owner, code)
        return AdmissionError(code, "refused", where=owner)

    def _watch(self) -> None:
        """Cut calls that do not say what they want."""
        while not self._ended.wait(self.shares.check):
            with self._lock:
                late = [v for v in self._visits.values() if v.until < time.monotonic()]
            for visit in late:
                if self._told(visit.owner, "cut"):
                    log.info("cut silent calls of %s", visit.owner or "strangers")
                self._fault(visit.who)
                visit.context.cancel()


def _said(requests: Iterator[bytes], visit: _Visit, method: grpc.RpcMethodHandler) -> Any:
    """What a method reads: its one message, or all of them; raises `AdmissionError`."""
    messages = _timed(requests, visit, method.request_deserializer or bytes)
    if method.request_streaming:
        return messages
    for message in messages:
        return message
    raise AdmissionError("malformed", "no message", where=visit.owner)


def _timed(
    requests: Iterator[bytes], visit: _Visit, parse: Callable[[bytes], Any]
) -> Iterator[Any]:
    for raw in requests:
        if visit.owner:
            visit.until = math.inf  # from here on the service's own watch looks after it
        try:
            message = parse(raw)
        except DecodeError:
            raise AdmissionError("malformed", "no message", where=visit.owner) from None
        yield message
