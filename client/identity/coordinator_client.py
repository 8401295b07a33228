"""The outlet's calls to the coordinator: a line, and on it waiting for tasks, delivering updates.

The outlet dials out; nothing listens here. A call either succeeds, or raises `LinkError` where
trying again may help, or `AdmissionError` with the coordinator's code where it will not.

Invariants:
    * A channel that failed, or is an hour old, is thrown away: the next call dials anew, with the
      certificate that is there then.
    * A peer that falls silent is noticed by pings; calls themselves may take as long as they need.
    * What the coordinator says of an error is believed only where it is a word of the fixed list.

Example: `with link.next_task() as found: ...`; `link.deliver(signed, chunks)`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

import grpc

from presspool import __version__
from presspool.common.base.errors import AdmissionError, LinkError
from presspool.common.proto.pool_pb2 import Header, NextTaskRequest, Part
from presspool.common.proto.pool_pb2_grpc import PoolStub
from presspool.common.wire.envelope import CALL_REFUSALS, CHUNK_BYTES, MOST_PUT_OFF, Signed

_AGAIN = {"unavailable", "too-many-streams", "too-fast", "not-a-member"}

LIFETIME_SECONDS = 3600.0


class Line:
    """A connection to one coordinator, made anew where it failed or is old; of one thread.

    Args:
        address: its host and port, for messages.
        dial: makes a channel, with the certificate that is there then.
    """

    def __init__(self, address: str, dial: Callable[[], grpc.Channel]) -> None:
        self.address, self._dial = address, dial
        self._channel: grpc.Channel | None = None
        self._dialled = 0.0

    def close(self) -> None:
        """Hang up."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    @contextmanager
    def calling(self) -> Iterator[grpc.Channel]:
        """The channel for calls; what fails in the block is translated.

        Raises:
            LinkError: trying again may help.
            AdmissionError: the coordinator refuses.
        """
        if time.monotonic() - self._dialled > LIFETIME_SECONDS:
            self.close()
        if self._channel is None:
            self._channel, self._dialled = self._dial(), time.monotonic()
        try:
            yield self._channel
        except grpc.RpcError as error:
            self.close()
            raise _translated(error, self.address) from None
        except BaseException:
            self.close()
            raise


class Call(Protocol):
    """A call that can be given up."""

    def cancel(self) -> bool:
        """Give it up."""


C = TypeVar("C", bound=Call)


class Waiting:
    """Calls that wait for news, one after the other; any thread may end the waiting.

    Args:
        for_good: whether hurrying once ends all later waits too, and not the next one alone.

    Attributes:
        hurried: whether the waiting is over before it begins.
    """

    def __init__(self, *, for_good: bool) -> None:
        self._lock, self._for_good = threading.Lock(), for_good
        self._call: Call | None = None
        self.hurried = False

    @contextmanager
    def on(self, make: Callable[[], C]) -> Iterator[C]:
        """A call, cancelled when somebody hurries, and in any case when the block is left."""
        with self._lock:
            self._call = call = make()
            if self.hurried:
                call.cancel()
        try:
            yield call
        finally:
            with self._lock:
                self._call, self.hurried = None, self.hurried and self._for_good
            call.cancel()

    def hurry(self) -> None:
        """End the wait that is going on, or else the next; from any thread."""
        with self._lock:
            self.hurried = True
            if self._call is not None:
                self._call.cancel()


class CoordinatorClient:
    """Calls to one coordinator for tasks and updates.

    Args:
        address: its host and port, for messages.
        dial: makes a channel, with the certificate that is there then.
    """

    def __init__(self, address: str, dial: Callable[[], grpc.Channel]) -> None:
        self._line, self._waiting = Line(address, dial), Waiting(for_good=True)

    @contextmanager
    def next_task(
        self, put_off: Sequence[str] = ()
    ) -> Iterator[tuple[Signed, Iterator[bytes]] | None]:
        """Wait a while for a task; yields its header and its body's chunks, or None.

        Args:
            put_off: tasks that cannot be done just now; they are given where there is no other.

        Raises:
            LinkError: also in the middle of the chunks.
            AdmissionError: the coordinator refuses this outlet.
        """
        asked = NextTaskRequest(
            put_off=put_off[-MOST_PUT_OFF:], version=__version__, clock=time.time()
        )
        with (
            self._calling() as stub,
            self._waiting.on(lambda: stub.NextTask(asked)) as call,
        ):
            first = self._first(call)
            if first is None:
                yield None
            elif first.WhichOneof("part") != "header":
                raise LinkError("not a task", where=self._line.address)
            else:
                signed = Signed(first.header.body, first.header.signature)
                yield signed, (part.chunk for part in call)

    def hurry(self) -> None:
        """End a wait that is going on, and all later ones at once; from any thread."""
        self._waiting.hurry()

    def deliver(self, signed: Signed, chunks: Iterable[bytes]) -> None:
        """Send an update's very bytes; returns when the coordinator has them safely.

        Raises:
            LinkError: whether they arrived is not known.
            AdmissionError: the coordinator refuses this update.
        """
        with self._calling() as stub:
            stub.SendUpdate(_parts(signed, chunks))

    def close(self) -> None:
        """Hang up."""
        self._line.close()

    def _first(self, call: Iterator[Part]) -> Part | None:
        """What a wait brings, or None where it ended without."""
        try:
            return next(call, None)
        except grpc.RpcError:
            if self._waiting.hurried:
                return None
            raise

    @contextmanager
    def _calling(self) -> Iterator[PoolStub]:
        with self._line.calling() as channel:
            yield PoolStub(channel)  # type: ignore[no-untyped-call]


def _parts(signed: Signed, chunks: Iterable[bytes]) -> Iterator[Part]:
    yield Part(header=Header(body=signed.body, signature=signed.signature))
    for chunk in chunks:
        assert len(chunk) <= CHUNK_BYTES
        yield Part(chunk=chunk)


def _translated(error: grpc.RpcError, address: str) -> LinkError | AdmissionError:
    word = error.details() if isinstance(error, grpc.Call) else None
    if word in CALL_REFUSALS and word not in _AGAIN:
        return AdmissionError(word, "the coordinator refuses", where=address, got=word)
    status = error.code().name if isinstance(error, grpc.Call) else "unknown"
    return LinkError("no answer", where=address, got=word if word in CALL_REFUSALS else status)
