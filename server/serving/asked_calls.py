"""What every route does between a call and its answer: wait for the model, and say where from.

Invariants:
    * Every answer of an adapter has its provenance in its headers.
    * Who hangs up is not worked for: a job that still waits is taken out.
    * What log and metrics learn of a call stands in `CallNote`, and nothing of its texts.

Example: `reading = await answered(request, queue, job)`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from starlette.requests import Request
from starlette.responses import JSONResponse

from presspool.server.serving.dialect import AdapterCall
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf
from presspool.server.serving.shelf.arrivals import awaited
from presspool.server.serving.shelf.call_errors import CallError
from presspool.server.serving.shelf.served_adapter import ServedAdapter
from presspool.server.serving.shelf.work_queue import QueuedJob, WorkQueue

ROUTES = {
    "classification": "/classify",
    "tagging": "/tag",
    "recommendation": "/rerank",
    "ad-response": "/ads",
    "generation": "/v1/completions or /v1/chat/completions",
}
NOTE = "presspool.told"  # of an ASGI scope
GONE = 499  # what logs call it when the caller hung up; nobody is told


@dataclass
class CallNote:
    """What log and metrics learn of a call.

    Attributes:
        method: "other" for what is none of the usual.
        route: its template, never the path that was typed.
        traceparent: the caller's trace, as it came.
        key: the name of the caller's key.
        model: an adapter that is there.
        rows: records in it.
        prompt_tokens: that were read.
        completion_tokens: that were written.
        asked: the name that was asked for, which another may have answered.
        job: what the model did last for it.
        masked: places that were masked; None where nothing was asked to be.
        gone: whether the caller hung up, or does not read, before all was sent.
    """

    method: str = ""
    route: str = ""
    traceparent: str = ""
    key: str = ""
    model: str = ""
    rows: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    asked: str = ""
    job: QueuedJob | None = None
    masked: int | None = None
    gone: bool = False


def told(request: Request) -> CallNote:
    """Of a call."""
    found: CallNote = request.scope[NOTE]
    return found


def asked_for(shelf: AdapterShelf, request: Request, call: AdapterCall, kind: str) -> ServedAdapter:
    """The adapter that answers a call, for a route of its kind; raises `CallError`."""
    known = told(request)
    caller = call.user or known.key or uuid.uuid4().hex
    adapter = shelf.get(shelf.route(call.model, caller))
    known.model, known.asked = adapter.name, call.model
    own = adapter.contract.task.kind
    if own != kind:
        advice = f": ask it at {ROUTES[own]}" if own in ROUTES else ""
        raise CallError(400, f"this adapter's task is {own}{advice}", param="model")
    return adapter


def checked(adapter: ServedAdapter, columns: Mapping[str, Sequence[str]]) -> pa.Table:
    """Records that the adapter can answer; raises `CallError` for the first that it cannot."""
    try:
        rows = {name: pa.array(list(said), pa.large_string()) for name, said in columns.items()}
    except UnicodeEncodeError:  # half a surrogate pair
        raise CallError(400, "a text that is no Unicode", param="input") from None
    for number, fault in enumerate(adapter.task.unanswerable(rows).to_pylist()):
        if fault is not None:
            raise CallError(400, f"record {number} cannot be answered: {fault}", param="input")
    return pa.table(rows)


def submit(request: Request, queue: WorkQueue, job: QueuedJob) -> None:
    """Put a call's job into the queue, as its key's; raises `CallError`."""
    known = told(request)
    known.rows, known.job, job.key = job.rows, job, known.key
    queue.submit(job)


async def answered(request: Request, queue: WorkQueue, job: QueuedJob) -> Any:
    """What comes of a job.

    Raises:
        CallError: it was refused or failed, or the caller hung up.
    """
    submit(request, queue, job)
    answer = awaited(job.future)
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise CallError(GONE, "the caller hung up")
        return answer.result()
    finally:
        gone.cancel()
        if not answer.done():
            job.left = True
            answer.cancel()
            job.future.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def called(kind: str) -> str:
    """A name for an answer."""
    return f"{kind}-{uuid.uuid4().hex}"


def said(adapter: ServedAdapter, body: dict[str, Any]) -> JSONResponse:
    """An answer with its provenance."""
    return JSONResponse(body, headers=adapter.provenance.headers)
