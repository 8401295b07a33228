"""What every call passes on its way in and out, before a route sees any of it.

Invariants:
    * A caller without a key gets nothing read; a body is cut off at `MOST_BYTES`. Bodies that are
      held at once are `MOST_TOGETHER` bytes, but for the first `SMALL` of each, so that large ones
      keep no small one out.
    * Where no keys are asked for, a call must name a host that this port is meant for, so that no
      name which somebody points here (DNS rebinding) lets a web page call it.
    * The access log has one line a call, of our own words, names and numbers: no text, no path
      that was typed, no key, no address.
    * Once the server stops, calls that came before are answered, and later ones are told so.

Example: `RequestGate(app, [metrics.count], draining, keys=None, hosts=names(port, "127.0.0.1"))`.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from presspool.server.serving.asked_calls import GONE, NOTE, CallNote
from presspool.server.serving.shelf.call_errors import CallError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from presspool.server.serving import access_keys

log = logging.getLogger(__name__)

MOST_BYTES, MOST_TOGETHER, SMALL = 8 << 20, 64 << 20, 64 << 10
TOO_LARGE = f"a body of more than {MOST_BYTES >> 20} MiB"
BESIDE = "presspool.beside"  # of a part of a body: bytes that are held besides
_PLAIN = re.compile(r"[!-~]+")
ANY_KEY = ("/v1/models", "/provenance/", "/openapi.json")
OPEN: Final = frozenset({"/health", "/ready", "/", "/ask.css", "/ask.js"})
SCOPES: Final[Mapping[str, access_keys.Scope | None]] = {
    "/v1/load_lora_adapter": "admin",
    "/v1/unload_lora_adapter": "admin",
    "/metrics": "metrics",
    "/drift": "metrics",
    "/compare": "metrics",
    "/mask": "ask",
    "/classify": "ask",
    "/explain": "ask",
    "/tag": "ask",
    "/rerank": "ask",
    "/ads": "ask",
    "/recommend": "ask",
    "/v1/embeddings": "ask",
    "/v1/completions": "ask",
    "/v1/chat/completions": "ask",
}
"""By path; any key may do the rest: see what is served."""
Watcher = Callable[[CallNote, int, float], None]
_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]


class Draining:
    """Whether the server stops, and how many calls are still to be answered."""

    def __init__(self) -> None:
        self.began, self.calls = False, 0

    def drain(self, seconds: float) -> bool:
        """Take nothing new, and wait for what was taken; whether all of it was answered."""
        self.began, end = True, time.monotonic() + seconds
        while self.calls and time.monotonic() < end:
            time.sleep(0.02)
        return not self.calls


class BodiesHeld:
    """Bytes of all bodies that are read or worked for, beyond the first `SMALL` of each."""

    def __init__(self) -> None:
        self.most, self.held = MOST_TOGETHER, 0


class RequestGate:
    """An application behind the gate.

    Args:
        app: the application.
        watchers: told of every call that ended: what, its status, its seconds.
        draining: the server's.
        keys: who may call; None for whoever reaches the port.
        hosts: values of the Host header that are answered where there are no keys; None for all.
    """

    def __init__(
        self,
        app: ASGIApp,
        watchers: Sequence[Watcher],
        draining: Draining,
        *,
        keys: access_keys.AccessKeys | None,
        hosts: frozenset[str] | None,
    ) -> None:
        self._app, self._watchers, self._draining = app, watchers, draining
        self._keys, self._hosts, self._bodies = keys, hosts, BodiesHeld()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            return  # a web socket, say: closed without an answer
        call = _OneCall(scope, receive, send, self._draining, self._bodies)
        try:
            await self._let_in(call)
        finally:
            call.told.route = getattr(scope.get("route"), "path", "")
            seconds = time.monotonic() - call.began
            call.status = GONE if call.told.gone else call.status
            for told in self._watchers:
                told(call.told, call.status, seconds)
            log.info("%s", _line(call, seconds))

    async def _let_in(self, call: _OneCall) -> None:
        try:
            self._check(call)
        except CallError as error:
            await refusal(error)(call.scope, call.receive, call.send)
            return
        counted = call.scope["path"] not in OPEN
        self._draining.calls += counted
        try:
            await self._app(call.scope, call.receive, call.send)
        except Exception as error:  # noqa: BLE001 - its words may quote what was asked
            log.error("a call failed: %s", type(error).__name__)
            if not call.status:
                failed = CallError(500, "something went wrong here")
                await refusal(failed)(call.scope, call.receive, call.send)
        finally:
            self._draining.calls -= counted
            self._bodies.held -= call.held

    def _check(self, call: _OneCall) -> None:
        headers, path = Headers(scope=call.scope), call.scope["path"]
        if path in OPEN:
            return
        asks = _scope_of(path)
        if self._keys is None and self._hosts is None and asks in ("admin", "metrics"):
            raise CallError(403, "a certificate lets ask; this needs a key: start with --keys")
        if self._keys is None:
            host = headers.get("host", "").lower()
            if self._hosts is not None and host not in self._hosts:
                raise CallError(421, "not a name of this port")
        else:
            found = self._keys.named(headers.get("authorization", ""), asks)
            call.told.key = found.name
        if self._draining.began and call.scope["method"] == "POST":
            raise CallError(503, "this server is stopping", retry=1)
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > MOST_BYTES:
            raise CallError(413, TOO_LARGE)


def _scope_of(path: str) -> access_keys.Scope | None:
    """What a key must be good for; None for any key. A path that is not known leads nowhere.

    Routers forgive a line's end behind a path, and would find a route that is not in `SCOPES`.
    """
    if path in SCOPES:
        return SCOPES[path]
    if _PLAIN.fullmatch(path) and path.startswith(ANY_KEY):
        return None
    raise CallError(404, "no such route; GET /openapi.json has all of them")


class _OneCall:
    """A call on its way."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        draining: Draining,
        bodies: BodiesHeld,
    ) -> None:
        self.scope, self._receive, self._send, self._draining = scope, receive, send, draining
        self.began, self.status, self.read, self._beside = time.monotonic(), 0, 0, 0
        self._bodies, self.held = bodies, 0
        method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else "other"
        trace = Headers(scope=scope).get("traceparent", "")
        self.told = scope[NOTE] = CallNote(method=method, traceparent=trace)

    async def receive(self) -> Message:
        """As ASGI has it, up to `MOST_BYTES` of a body."""
        message = await self._receive()
        self.read += len(message.get("body", b""))
        if self.read > MOST_BYTES:
            raise HTTPException(413)  # the only kind that FastAPI lets through from here
        self._beside += message.get(BESIDE, 0)
        self._hold(max(0, self.read + self._beside - SMALL) - self.held)
        return message

    def _hold(self, more: int) -> None:
        if self._bodies.held + more > self._bodies.most:
            raise HTTPException(503)
        self._bodies.held += more
        self.held += more

    async def send(self, message: Message) -> None:
        """As ASGI has it, with the headers of every answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            # Who keeps a connection to a server that stops would lose the next call with it.
            closing: Iterable[tuple[bytes, bytes]] = (
                [(b"connection", b"close")] if self._draining.began else []
            )
            message["headers"] = [*message["headers"], *_HEADERS, *closing]
            if self.told.model:
                message["headers"].append((b"x-presspool-model", self.told.model.encode()))
            if self.told.masked is not None:
                message["headers"].append((b"x-presspool-masked", b"%d" % self.told.masked))
        await self._send(message)


def refusal(error: CallError) -> JSONResponse:
    """What a caller is told."""
    return JSONResponse(error.body, error.status, headers=dict(error.headers))


def _line(call: _OneCall, seconds: float) -> str:
    told = call.told
    found: dict[str, Any] = {
        "method": told.method,
        "route": told.route or "other",
        "status": call.status,
        "ms": round(1000 * seconds, 1),
        "key": told.key,
        "model": told.model,
        "records": told.rows,
        "prompt_tokens": told.prompt_tokens,
        "completion_tokens": told.completion_tokens,
    }
    return json.dumps({name: value for name, value in found.items() if value not in ("", 0)})
