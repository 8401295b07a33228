"""Calls of members, within limits: what every service on the coordinator's port asks first.

Invariants:
    * Whose call it is comes from its certificate alone, and is asked anew at every call, and every
      few seconds of a stream: a revoked outlet is cut off.
    * A peer hears of an error one word of `presspool.common.wire.envelope.CALL_REFUSALS` and
      nothing else.
    * A caller holds a few streams, sends so many messages a minute, and may not fall silent in the
      middle of a stream; what is above that is refused or cut without touching the database.

Example: `with calls.refusing(context), calls.open(context) as stream: …stream.member…`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Literal, NoReturn, Protocol, TypeVar

import grpc

from presspool.common.base.errors import AdmissionError
from presspool.server.transport.seldom import Minute, Seldom

log = logging.getLogger(__name__)

_STATUS = {
    "not-a-member": grpc.StatusCode.PERMISSION_DENIED,
    "revoked": grpc.StatusCode.PERMISSION_DENIED,
    "too-many-streams": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "too-fast": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "unavailable": grpc.StatusCode.UNAVAILABLE,
}


class Named(Protocol):
    """Who calls."""

    @property
    def name(self) -> str:
        """The outlet."""


M = TypeVar("M", bound=Named)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one outlet may do, and how long things take.

    Attributes:
        streams: calls at a time: a poll, an upload, and room for those that a cut left behind.
        messages: calls and chunks a minute.
        heads: published a minute.
        leaves: of them; each is hashed.
        silence: seconds in which a stream must move on.
        poll: seconds that a poll waits.
        check: seconds between two looks at whether the caller is still a member.
    """

    streams: int = 6
    messages: int = 6000
    heads: int = 120
    leaves: int = 1 << 18
    silence: float = 30.0
    poll: float = 25.0
    check: float = 2.0


@dataclass
class Stream(Generic[M]):
    """An open call.

    Attributes:
        member: whose.
        context: its handle.
        last: when it last moved, on the monotonic clock.
    """

    member: M
    context: grpc.ServicerContext
    last: float = field(default_factory=time.monotonic)

    def moved(self) -> None:
        """The peer took or gave something."""
        self.last = time.monotonic()


class Calls(Generic[M]):
    """The open calls of one service, and what each member did in this minute.

    Args:
        member: whose call this is; raises `AdmissionError` for anybody but a member.
        record: told an outlet and the word that it was refused with, once a minute each.
        limits: of each member.
    """

    def __init__(
        self,
        member: Callable[[grpc.ServicerContext], M],
        *,
        record: Callable[[str, str], None],
        limits: Limits,
    ) -> None:
        self.member, self.limits, self._record = member, limits, record
        self._lock = threading.Lock()
        self._open: dict[int, Stream[M]] = {}
        self._minute = Minute()
        self._counts: Counter[tuple[str, str]] = Counter()
        self.told = Seldom()
        self.ended = threading.Event()
        threading.Thread(target=self._watch, name="calls-watch", daemon=True).start()

    def close(self) -> None:
        """End the watch; polls see it by `ended`."""
        self.ended.set()

    @contextmanager
    def refusing(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Let nothing but a code out."""
        try:
            yield
        except AdmissionError as error:
            abort(context, error.code)
        except grpc.RpcError:
            raise  # the peer is gone
        except Exception:
            if context.is_active():
                if self.told("failed"):
                    log.exception("a call failed here; its outlet will try again")
                abort(context, "unavailable")
            raise

    @contextmanager
    def open(self, context: grpc.ServicerContext) -> Iterator[Stream[M]]:
        """A member's call, counted; raises `AdmissionError` above a limit."""
        stream = Stream(self.member(context), context)
        name = stream.member.name
        self.count(stream)
        with self._lock:
            mine = sum(other.member.name == name for other in self._open.values())
            if fits := mine < self.limits.streams:
                self._open[id(stream)] = stream
        if not fits:
            self._record_once(name, "too-many-streams")
            raise AdmissionError("too-many-streams", "refused", where=name)
        try:
            yield stream
        finally:
            with self._lock:
                del self._open[id(stream)]

    def count(
        self,
        stream: Stream[M],
        what: Literal["messages", "heads", "leaves"] = "messages",
        number: int = 1,
    ) -> None:
        """Count messages, or something dearer; raises `AdmissionError` above the limit."""
        name = stream.member.name
        with self._lock:
            if self._minute.is_over():
                self._counts.clear()
            self._counts[name, what] += number
            above = self._counts[name, what] > getattr(self.limits, what)
        if above:
            self._record_once(name, "too-fast")
            raise AdmissionError("too-fast", "refused", where=name)

    def streams(self) -> list[Stream[M]]:
        """The open calls."""
        with self._lock:
            return list(self._open.values())

    def _record_once(self, outlet: str, code: str) -> None:
        """What a flood is refused with is put on record once a minute, or the record floods."""
        if self.told(outlet, code):
            self._record(outlet, code)

    def _watch(self) -> None:
        """Cut streams whose caller is no member any more, or that do not move."""
        while not self.ended.wait(self.limits.check):
            for stream in self.streams():
                try:
                    self.member(stream.context)
                    cut = time.monotonic() - stream.last > self.limits.silence
                except AdmissionError as error:
                    self._record_once(stream.member.name, error.code)
                    cut = True
                except Exception:
                    if self.told("unknown"):
                        log.exception("cannot tell who is a member")
                    continue
                if cut:
                    if self.told(stream.member.name, "cut"):
                        log.info("cut streams of %s", stream.member.name)
                    stream.context.cancel()


def abort(context: grpc.ServicerContext, code: str) -> NoReturn:
    """End a call with nothing but a word."""
    context.abort(_STATUS.get(code, grpc.StatusCode.FAILED_PRECONDITION), code)
    raise AssertionError  # abort never returns
