"""A gRPC call as the application's own kind of call: its message a body of JSON, and back.

What a call passes (keys, limits, queue, masking, log, metrics, spans) is the gate and the routes
that HTTP has; here is only the mapping, and what each end of a call is named over gRPC.

Invariants:
    * Nothing of a message is read before the gate has let its caller in.
    * A field that is not known here is refused, as over HTTP; protobuf itself would pass over it.
    * A message of more fields than a call has is not taken apart, and its bytes count as a body's.
    * `MOST_CALLS` are under way, and who reads no answer keeps no place among them.
    * Only the key and the trace are taken from what a caller may write beside its message.

Example: `server.add_generic_rpc_handlers([rpc_handlers(app, host=host, admitted=admitted)])`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from presspool.common.audit.dashboard.serving import IDLE_SECONDS, PATIENCE
from presspool.server.serving.asked_calls import NOTE
from presspool.server.serving.request_gate import BESIDE
from presspool.server.serving.rpc import serving_pb2
from presspool.server.serving.shelf.call_errors import RETRY

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Scope
    from starlette.types import Message as Event

SERVICE = serving_pb2.DESCRIPTOR.services_by_name["Serving"]
PATHS: Final[Mapping[str, str]] = {
    "ListModels": "/v1/models",
    "Classify": "/classify",
    "Explain": "/explain",
    "Tag": "/tag",
    "Rerank": "/rerank",
    "RateAds": "/ads",
    "Embed": "/v1/embeddings",
    "Mask": "/mask",
    "Complete": "/v1/completions",
    "CompleteStream": "/v1/completions",
    "Chat": "/v1/chat/completions",
    "ChatStream": "/v1/chat/completions",
}
CODES: Final[Mapping[int, grpc.StatusCode]] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
PUSHBACK = "grpc-retry-pushback-ms"  # what gRPC's own clients obey where they retry
_TAKEN, _TOLD = ("authorization", "traceparent"), ("x-presspool-", RETRY)
MOST_CALLS = 128
_MOST_FIELDS = 300  # of a message, or of one in it: a list of more entries than any may have
_SIZES: Final[Mapping[int, int]] = {0: 0, 1: 8, 2: 0, 5: 4}  # bytes of a field, by its wire type
_SLOW = IDLE_SECONDS * PATIENCE  # seconds for a message on its way, as over HTTP


def rpc_handlers(
    app: ASGIApp, *, host: str, admitted: Callable[[Mapping[str, Any]], bool]
) -> grpc.GenericRpcHandler:
    """The service's methods.

    Args:
        app: the application behind its gate.
        host: a name of the port that the gate answers. There is none to check: no web page can make
            a gRPC call, so none is led here by a name.
        admitted: whether a connection may call, by what gRPC knows of it.
    """
    under_way: set[asyncio.Future[None]] = set()

    def handler(method: MethodDescriptor) -> grpc.RpcMethodHandler:
        async def answer(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
            if not admitted(context.auth_context()):
                await context.abort(CODES[403], "not a connection that may call")
            if len(under_way) >= MOST_CALLS:
                again = ((RETRY, "1"), (PUSHBACK, "1000"))
                await context.abort(CODES[429], "too many calls are under way", again)
            await _RpcCall(method, context, host).through(app, under_way)

        # As a stream, else gRPC would read the message before anybody asks who calls.
        return grpc.stream_stream_rpc_method_handler(answer)

    methods = {method.name: handler(method) for method in SERVICE.methods}
    return grpc.method_handlers_generic_handler(SERVICE.full_name, methods)


async def cut_off(context: grpc.aio.ServicerContext[bytes, bytes], words: str) -> None:
    """End a call whose caller may not read: gRPC says so when it can, and keeps no place for it."""
    with suppress(TimeoutError, grpc.aio.InternalError):
        async with asyncio.timeout(1):
            await context.abort(grpc.StatusCode.UNAVAILABLE, words)


class _RpcCall:
    """One call on its way."""

    def __init__(
        self,
        method: MethodDescriptor,
        context: grpc.aio.ServicerContext[bytes, bytes],
        host: str,
    ) -> None:
        self._method, self._context, self._scope = method, context, _scope(method, context, host)
        self._says = GetMessageClass(method.output_type)
        self._gone, self._unread, self._held = asyncio.Event(), False, b""
        self._asked = False
        self._raw: bytes | None = None
        self._told: list[tuple[str, str]] = []
        self._end(grpc.StatusCode.INTERNAL, "something went wrong here")  # until it is answered

    async def through(self, app: ASGIApp, under_way: set[asyncio.Future[None]]) -> None:
        """Let the application answer; who hangs up is told to it, as by HTTP's server."""
        answering = asyncio.ensure_future(app(self._scope, self._receive, self._send))
        under_way.add(answering)
        answering.add_done_callback(under_way.discard)
        try:
            await asyncio.shield(answering)
        finally:
            self._leave()
        if self._unread:
            await cut_off(self._context, "the answer was not read in time")

    def _leave(self) -> None:
        self._gone.set()
        if NOTE in self._scope:
            self._scope[NOTE].gone = True

    async def _receive(self) -> Event:
        """A message's size, that the gate counts it before it is a body; the body; the end."""
        if not self._asked:
            self._asked, self._raw = True, await self._read()
            if self._raw is not None:
                beside = {BESIDE: len(self._raw)}
                return {"type": "http.request", "body": b"", "more_body": True, **beside}
        if self._raw is not None:
            body, self._raw = _body(self._method, self._raw), None
            await asyncio.sleep(0)  # others' turn: it may have been a large one
            return {"type": "http.request", "body": body}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _read(self) -> bytes | None:
        try:
            async with asyncio.timeout(_SLOW):
                raw = await self._context.read()
        except TimeoutError:
            self._gone.set()
            return None
        if not isinstance(raw, bytes):  # its end, and no message before it
            raise HTTPException(400)
        return raw

    async def _send(self, event: Event) -> None:
        """Gather what is sent to whole answers: one, or as many as a stream's events."""
        if event["type"] == "http.response.start":
            headers = Headers(raw=event["headers"])
            self._told = [one for one in headers.items() if one[0].startswith(_TOLD)]
            if after := headers.get(RETRY):
                self._told.append((PUSHBACK, str(1000 * int(after))))
            self._streams = headers["content-type"].startswith("text/event-stream")
            return
        self._held += event.get("body", b"")
        if self._streams:
            *whole, self._held = self._held.split(b"\n\n")
            for one in whole:
                await self._say(one.removeprefix(b"data: "))
        elif not event.get("more_body"):
            await self._say(self._held)

    async def _say(self, said: bytes) -> None:
        body = {} if said == b"[DONE]" else json.loads(said)
        if error := body.get("error"):
            self._told += [("x-presspool-param", error["param"])] if error["param"] else []
            self._end(CODES.get(error["code"], grpc.StatusCode.INTERNAL), error["message"])
            return
        if body:
            await self._write(ParseDict(body, self._says(), ignore_unknown_fields=True))
        if not body or not self._streams:
            self._end(grpc.StatusCode.OK, "")

    async def _write(self, message: Message) -> None:
        try:
            async with asyncio.timeout(_SLOW):
                if not self._gone.is_set():
                    await self._context.write(message.SerializeToString())
        except (TimeoutError, grpc.aio.BaseError):
            self._unread = True
            self._leave()
        except asyncio.CancelledError:  # also gRPC's, of a call that is over
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            self._leave()

    def _end(self, code: grpc.StatusCode, words: str) -> None:
        self._context.set_code(code)
        self._context.set_details(words)
        self._context.set_trailing_metadata(tuple(self._told))


def _scope(
    method: MethodDescriptor, context: grpc.aio.ServicerContext[bytes, bytes], host: str
) -> Scope:
    given = context.invocation_metadata() or ()
    taken = [(name, str(value)) for name, value in given if name in _TAKEN]
    taken += [("host", host), ("content-type", "application/json")]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "method": "POST" if method.input_type.fields else "GET",
        "path": PATHS[method.name],
        "raw_path": PATHS[method.name].encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in taken],
    }


def _body(method: MethodDescriptor, raw: bytes) -> bytes:
    """A message as its route reads it.

    Raises:
        HTTPException: bytes that are no message.
    """
    message, first = GetMessageClass(method.input_type)(), _first(raw, method.input_type)
    try:
        message.ParseFromString(first)
    except DecodeError:
        raise HTTPException(400) from None
    size = message.ByteSize()
    message.DiscardUnknownFields()
    strange = message.ByteSize() != size or first != raw
    said = MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    if strange:
        said["a field of a later version"] = None  # for the route to say what it says of those
    if method.name == "Tag":
        said["input"] = [
            one if one["tokens"] and one["text"] else one["tokens"] or one["text"]
            for one in said["input"]  # both are for the route to refuse
        ]
    if method.server_streaming:
        said |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(said, ensure_ascii=False).encode()


def _first(raw: bytes, of: Descriptor) -> bytes:
    """A message's first fields: to take a million of them apart takes seconds.

    Raises:
        HTTPException: bytes that are no message, or one in it that has too many.
    """
    at = 0
    for _ in range(_MOST_FIELDS):
        if at >= len(raw):
            return raw
        tag, at = _varint(raw, at)
        if (size := _SIZES.get(tag & 7)) is None:
            raise HTTPException(400)
        if tag & 7 in (0, 2):
            value, at = _varint(raw, at)
            size = value if tag & 7 else 0
        field = of.fields_by_number.get(tag >> 3)
        if field is not None and field.message_type is not None:
            inner = raw[at : at + size]
            if len(_first(inner, field.message_type)) < len(inner):
                raise HTTPException(400)
        at += size
    return raw[:at]


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A number as messages write it, and where it ends; raises `HTTPException`."""
    number = 0
    for place, byte in enumerate(raw[at : at + 10]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, at + place + 1
    raise HTTPException(400)
