"""The routes put together into one application, and its errors in the dialect's shape.

Invariant: no answer and no log line quotes a call: a fault names the field and what was expected.

Example: `create_app(shelf, queue, draining, source=None, keys=None, hosts=hosts, masking=masking)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response

from presspool import __version__
from presspool.common.base.validation import expected
from presspool.server.serving.drift.drift_routes import add_drift_routes
from presspool.server.serving.masking import Masking, add_mask_route
from presspool.server.serving.page.page_routes import add_page
from presspool.server.serving.reading_routes import add_reading_routes
from presspool.server.serving.request_gate import TOO_LARGE, Draining, RequestGate, refusal
from presspool.server.serving.serving_metrics import ServingMetrics
from presspool.server.serving.shelf.call_errors import TYPES, CallError
from presspool.server.serving.shelf.explain_jobs import ExplainJob, explained
from presspool.server.serving.shelf.reading import Reader, ReadJob
from presspool.server.serving.shelf.work_queue import QueuedJob, WorkQueue
from presspool.server.serving.shelf.writing_jobs import WriteJob, written
from presspool.server.serving.shelf_routes import add_shelf_routes
from presspool.server.serving.trials import AdapterTrial, Trials
from presspool.server.serving.trials_page import PAGE_HEADERS, comparison_page
from presspool.server.serving.writing_routes import add_writing_routes

if TYPE_CHECKING:
    from presspool.server.serving.access_keys import AccessKeys
    from presspool.server.serving.drift.drift_watch import DriftWatch
    from presspool.server.serving.shelf.adapter_shelf import AdapterShelf, FolderSource
    from presspool.server.serving.tracing import CallTraces

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def queue_of(shelf: AdapterShelf, drift: DriftWatch | None = None) -> WorkQueue:
    """The queue before a shelf's model, and who watches what is asked, if anybody."""
    reader = Reader(shelf.trunk, drift.see if drift else None)

    def run(jobs: list[QueuedJob]) -> None:
        reader.run([job for job in jobs if isinstance(job, ReadJob)])
        written([job for job in jobs if isinstance(job, WriteJob)])
        explained([job for job in jobs if isinstance(job, ExplainJob)])

    return WorkQueue(run)


def create_app(
    shelf: AdapterShelf,
    queue: WorkQueue,
    draining: Draining,
    *,
    source: FolderSource | None,
    keys: AccessKeys | None,
    hosts: frozenset[str] | None,
    masking: Masking,
    trials: Sequence[AdapterTrial] = (),
    traces: CallTraces | None = None,
    page: bool = False,
    drift: DriftWatch | None = None,
) -> RequestGate:
    """The application.

    Args:
        shelf: what is served.
        queue: of `queue_of`.
        draining: whether the server stops.
        source: where administrators' calls find adapters; None lets them load none.
        keys: who may call; None for whoever reaches the port.
        hosts: values of the Host header that are answered where there are no keys; None for
            all, where callers show certificates.
        masking: what masks calls.
        trials: adapters beside others.
        traces: what makes spans of calls, if anything.
        page: whether a browser gets a page to ask by.
        drift: what watches what is asked, if anything.

    Raises:
        InputError: as `Trials`.
    """
    known = Trials(trials, shelf, queue)
    app = FastAPI(title="PressPool", version=__version__, docs_url=None, redoc_url=None)
    metrics = ServingMetrics(shelf, queue)
    add_shelf_routes(app, shelf, source, draining, drift.follow_loaded if drift else None)
    add_drift_routes(app, drift)
    add_reading_routes(app, shelf, queue, masking)
    add_writing_routes(app, shelf, queue, masking)
    add_mask_route(app, masking)
    if page:
        add_page(app, masking.promise)

    @app.get("/metrics")
    async def scrape() -> Response:
        return Response(metrics.exposition(), headers={"content-type": CONTENT_TYPE})

    @app.get("/compare")
    async def compare(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(comparison_page(known.document()), headers=PAGE_HEADERS)
        return JSONResponse(known.document())

    _add_errors(app)
    watchers = [metrics.count, known.ended, *([traces.ended] if traces else [])]
    return RequestGate(app, watchers, draining, keys=keys, hosts=hosts)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(CallError)
    async def refused(_: Request, error: CallError) -> Response:
        return refusal(error)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> Response:
        return refusal(_fault(error.errors()))

    @app.exception_handler(HTTPException)
    async def elsewhere(_: Request, error: HTTPException) -> Response:
        known = error.status_code if error.status_code in TYPES else 400
        words = {404: "no such route", 405: "no such method here", 413: TOO_LARGE}
        words[503] = "too many large bodies at once"
        retry = 1 if known == 503 else None
        return refusal(CallError(known, words.get(known, "the call cannot be read"), retry=retry))

    @app.exception_handler(Exception)
    async def unexpected(_: Request, __: Exception) -> Response:
        return refusal(CallError(500, "something went wrong here"))  # the gate logs its kind


def _fault(errors: Sequence[Any]) -> CallError:
    """The first fault of a body, by its field.

    Of a field that may be a text or a list, each way has its own: what is a list is not told that
    it is no text.
    """
    same = [error for error in errors if error["loc"][:2] == errors[0]["loc"][:2]]
    first = max(same, key=lambda one: (not one["type"].endswith("_type"), len(one["loc"])))
    if first["type"] == "json_invalid":
        return CallError(400, "the body is no JSON")
    path = [part for part in first["loc"] if part != "body"]
    field = ".".join(str(part) for part in path if isinstance(part, int) or part.isidentifier())
    if first["type"] == "extra_forbidden":
        return CallError(400, "a field that is not known here", param=None)
    wanted = expected(first).replace("a table", "an object")  # JSON's word, not TOML's
    what = "missing" if first["type"] == "missing" else f"expected {wanted}"
    return CallError(400, f"{field or 'the body'}: {what}", param=field or None)
