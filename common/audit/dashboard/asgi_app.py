"""The pages as an ASGI application that can only be read.

Invariants:
    * GET and HEAD; everything else is 405, whatever the path.
    * A request must name a host that this port is meant for, so that no name which somebody points
      at the loopback address (DNS rebinding) makes a browser read it for another site.
    * A page may load from this port alone, run no inline script, and be framed by nobody.
    * No browser and no proxy keeps a copy of anything but the style sheet and the script.
    * All work is done by one thread, because ledgers belong to one; a look is shared by requests
      that come within a second.
    * What went wrong inside is logged here and never told.

Example: `create_app(Watch(lambda: paths), hosts=frozenset({"127.0.0.1:8900"}))`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from presspool.common.audit.dashboard import metrics
from presspool.common.audit.dashboard.ledger_views import prove
from presspool.common.audit.dashboard.pages import Pages, asset
from presspool.common.audit.dashboard.snapshot import Snapshot
from presspool.common.audit.dashboard.source_watch import SourceWatch
from presspool.common.audit.dashboard.views import NotThereError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

METHODS = ("GET", "HEAD")
FRESH_SECONDS = 1.0  # as long a look is shared
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
Origin = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9.~-]{0,199}$")]
Hash = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
Index = Annotated[int, Path(ge=0, lt=2**53)]
Page = Annotated[int, Query(ge=1, lt=2**53)]


class Dashboard:
    """One thread that looks at the sources and prints pages of what it saw.

    Args:
        watch: the sources; used in that thread only.
    """

    def __init__(self, watch: SourceWatch) -> None:
        self._watch, self._pages = watch, Pages()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="dashboard")
        self._look: Snapshot | None = None
        self._at = -FRESH_SECONDS

    async def ask(self, make: Callable[[Pages, Snapshot], Any]) -> Any:
        """What `make` makes of a fresh look, in the dashboard's thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._do, make)

    def error(self, heading: str, sentence: str) -> str:
        """An error's page; needs no look."""
        return self._pages.error(heading, sentence)

    def begin(self) -> None:
        """Begin to read the sources, so that who asks first need not wait for all of it."""
        self._thread.submit(self._watch.look)

    def look(self) -> Snapshot:
        """Look now, in the dashboard's thread, and wait for it."""
        found: Snapshot = self._thread.submit(self._do, lambda _pages, look: look).result()
        return found

    def close(self) -> None:
        """Close the sources, where they were opened."""
        self._thread.submit(self._watch.close).result()
        self._thread.shutdown()

    def _do(self, make: Callable[[Pages, Snapshot], Any]) -> Any:
        if self._look is None or time.monotonic() - self._at >= FRESH_SECONDS:
            self._look = self._watch.look()
            self._at = time.monotonic()
        return make(self._pages, self._look)


def create_app(dashboard: Dashboard, *, hosts: frozenset[str], close: bool = False) -> ASGIApp:
    """The application.

    Args:
        dashboard: what answers.
        hosts: values of the Host header that it answers to, in lower case.
        close: end the connection after each answer, so that who may look is asked each time.
    """
    app = FastAPI(
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    _add_pages(app, dashboard)
    _add_files(app, dashboard)
    _add_errors(app, dashboard)
    return _Guarded(app, hosts, {**HEADERS, **({"connection": "close"} if close else {})})


def _add_pages(app: FastAPI, dashboard: Dashboard) -> None:
    def page(path: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        return app.api_route(path, methods=list(METHODS), response_class=Response)

    @page("/")
    async def overview() -> Response:
        return _html(await dashboard.ask(lambda pages, look: pages.overview(look)))

    @page("/runs")
    async def runs() -> Response:
        return _html(await dashboard.ask(lambda pages, look: pages.runs(look)))

    @page("/alerts")
    async def alerts() -> Response:
        return _html(await dashboard.ask(lambda pages, look: pages.alerts(look)))

    @page("/outlets/{origin}")
    async def outlet(origin: Origin) -> Response:
        return _html(await dashboard.ask(lambda pages, look: pages.outlet(look, origin)))

    @page("/ledgers/{origin}")
    async def ledger(origin: Origin, page: Page = 1) -> Response:
        return _html(await dashboard.ask(lambda pages, look: pages.ledger(look, origin, page)))

    @page("/ledgers/{origin}/{index}")
    async def entry(origin: Origin, index: Index) -> Response:
        return _html(await dashboard.ask(lambda pages, look: pages.entry(look, origin, index)))

    @page("/runs/{digest}")
    async def run(digest: Hash) -> Response:
        return _html(await dashboard.ask(lambda pages, look: pages.run(look, digest)))

    @page("/adapters/{sha}")
    async def adapter(sha: Hash) -> Response:
        return _html(await dashboard.ask(lambda pages, look: pages.adapter(look, sha)))


def _add_files(app: FastAPI, dashboard: Dashboard) -> None:
    @app.api_route("/ledgers/{origin}/{index}/proof", methods=list(METHODS))
    async def proof(origin: Origin, index: Index) -> Response:
        """The proof of an entry as a C2SP tlog-proof file."""
        made = await dashboard.ask(lambda _, look: prove(look, origin, index).file)
        if made is None:
            raise NotThereError("no head that covers this entry is signed yet", got=index)
        offered = {"content-disposition": f'attachment; filename="{origin}-{index}.tlog-proof"'}
        return Response(made, media_type="text/plain; charset=utf-8", headers=offered)

    @app.api_route("/metrics", methods=list(METHODS))
    async def scrape() -> Response:
        text = await dashboard.ask(lambda _, look: metrics.exposition(look))
        return Response(text, headers={"content-type": metrics.CONTENT_TYPE})

    @app.api_route("/assets/{name}", methods=list(METHODS))
    async def file(name: str) -> Response:
        kinds = {"style.css": "text/css", "live.js": "text/javascript"}
        if name not in kinds:
            raise HTTPException(404)
        keep = {"cache-control": "public, max-age=31536000, immutable"}  # its address has its hash
        return Response(asset(name), media_type=f"{kinds[name]}; charset=utf-8", headers=keep)


def _add_errors(app: FastAPI, dashboard: Dashboard) -> None:
    def answer(status: int, heading: str, sentence: str) -> Response:
        return Response(dashboard.error(heading, sentence), status, media_type="text/html")

    async def missing(_: Request, error: Exception) -> Response:
        sentence = "There is nothing at this address."
        if isinstance(error, NotThereError):
            expected = f" There is: {error.expected}." if error.expected else ""
            sentence = f"{error.what.capitalize()}.{expected}"
        return answer(404, "Not found", sentence)

    async def refused(_: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return answer(
            status,
            "Not found" if status == 404 else "Not possible",
            "There is nothing at this address.",
        )

    async def failed(_: Request, error: Exception) -> Response:
        log.error("a page failed", exc_info=error)
        return answer(
            500,
            "Something went wrong here",
            "The page could not be made; the log of this program says why.",
        )

    app.add_exception_handler(NotThereError, missing)
    app.add_exception_handler(RequestValidationError, missing)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(Exception, failed)


def _html(page: str) -> Response:
    return Response(page, media_type="text/html")


class _Guarded:
    """Lets only what may be asked through, and says on every answer what a browser may do."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str], headers: Mapping[str, str]) -> None:
        self._app, self._hosts = app, hosts
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # a web socket, say: closed without an answer

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = {name for name, _ in message["headers"]}
                kept = [] if b"cache-control" in said else [(b"cache-control", b"no-store")]
                message["headers"] = [*message["headers"], *self._headers, *kept]
            await send(message)

        hosts = [v.decode("latin-1").lower() for k, v in scope["headers"] if k == b"host"]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            await _plain(421, "not a name of this port")(scope, receive, guarded)
        elif scope["method"] not in METHODS:
            await _plain(405, "this can only be read")(scope, receive, guarded)
        else:
            await self._app(scope, receive, guarded)


def _plain(status: int, words: str) -> Response:
    headers = {"allow": ", ".join(METHODS)} if status == 405 else {}
    return Response(f"{words}\n", status, media_type="text/plain", headers=headers)
