"""The page itself, its style and its script. It asks the same routes as everybody else.

Invariants:
    * The three files are the same for everybody and say nothing of what is served: who may ask is
      looked at where they ask. Whether texts are kept they say, before one is pasted.
    * The page loads from this port alone, runs no inline script, and is framed by nobody.

Example: `add_page(app, masking.promise)`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from importlib import resources

from fastapi import FastAPI, Request
from starlette.responses import Response

from presspool.common.audit.dashboard.asgi_app import HEADERS

_HERE = resources.files("presspool.server.serving") / "page" / "templates"
_STYLE = resources.files("presspool.common.audit") / "pages" / "templates" / "style.css"
FILES = {
    "/": ("text/html; charset=utf-8", (_HERE / "ask.html",)),
    "/ask.css": ("text/css; charset=utf-8", (_STYLE, _HERE / "ask.css")),
    "/ask.js": ("text/javascript; charset=utf-8", (_HERE / "ask.js",)),
}


def add_page(app: FastAPI, promise: str) -> None:
    """Put the page into an application.

    Args:
        app: the application.
        promise: what becomes of a text that is pasted, after "What you paste goes to this server,".
    """
    for path, (kind, parts) in FILES.items():
        body = b"".join(part.read_bytes() for part in parts)
        body = body.replace(b"{promise}", promise.encode())
        app.add_route(path, _file(body, {**HEADERS, "content-type": kind}))


def _file(body: bytes, headers: Mapping[str, str]) -> Callable[[Request], Awaitable[Response]]:
    async def file(_: Request) -> Response:
        return Response(body, headers=headers)

    return file
