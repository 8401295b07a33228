"""`POST /explain`: which words of a text moved an adapter towards a label.

Invariant: as of every route: a text that cannot be answered is refused, and no text is kept.

Example: `add_explaining_routes(app, shelf, queue, masking)`.
"""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.responses import Response

from presspool.common.released.explained_answers import ExplainedLabel
from presspool.server.serving import dialect
from presspool.server.serving.asked_calls import answered, asked_for, checked, said
from presspool.server.serving.masking import Masking
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf
from presspool.server.serving.shelf.call_errors import CallError
from presspool.server.serving.shelf.explain_jobs import ExplainJob
from presspool.server.serving.shelf.work_queue import WorkQueue


def add_explaining_routes(
    app: FastAPI, shelf: AdapterShelf, queue: WorkQueue, masking: Masking
) -> None:
    """Put the route into an application."""

    @app.post("/explain")
    async def explain(call: dialect.Explain, request: Request) -> Response:
        adapter = asked_for(shelf, request, call, "classification")
        call = await masking.of(request, call)
        checked(adapter, {"text": [call.input]})
        if call.label not in adapter.task.options:
            raise CallError(
                400, f"no such label; there are: {', '.join(adapter.task.options)}", param="label"
            )
        job = ExplainJob(adapter=adapter, text=call.input, label=call.label)
        found: ExplainedLabel = await answered(request, queue, job)
        body = {
            "model": call.model,
            "label": found.label,
            "probability": found.probability,
            "without_words": found.without,
            "words": [{"word": word, "adds": adds} for word, adds in found.words],
            "gap": found.gap,
        }
        return said(adapter, body)
