"""Routes that read: `/classify`, `/explain`, `/tag`, `/rerank`, `/ads` and `/v1/embeddings`.

Invariant: a call with a record that cannot be answered is refused as a whole, by its place.

Example: `add_reading_routes(app, shelf, queue, masking)`.
"""

from __future__ import annotations

import base64
import json
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from presspool.common.models.adapted_outputs import Prediction
from presspool.common.released.explained_answers import ExplainedLabel
from presspool.server.serving import dialect
from presspool.server.serving.asked_calls import answered, asked_for, called, checked, said, told
from presspool.server.serving.masking import Masking
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf
from presspool.server.serving.shelf.call_errors import CallError
from presspool.server.serving.shelf.explain_jobs import ExplainJob
from presspool.server.serving.shelf.reading import Reading, ReadJob
from presspool.server.serving.shelf.served_adapter import ServedAdapter
from presspool.server.serving.shelf.work_queue import WorkQueue


def add_reading_routes(
    app: FastAPI, shelf: AdapterShelf, queue: WorkQueue, masking: Masking
) -> None:
    """Put the routes into an application."""

    @app.post("/classify")
    async def classify(call: dialect.Classify, request: Request) -> Response:
        adapter = asked_for(shelf, request, call, "classification")
        call = await masking.of(request, call)
        found = await read(request, queue, adapter, {"text": call.texts})
        labels = list(adapter.task.options)

        def tell(one: Prediction) -> dict[str, Any]:
            probs = [one.probabilities[label] for label in labels]
            return {"label": one.answer, "probs": probs, "num_classes": len(labels)}

        return listed("classify", call, adapter, found, tell)

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

    @app.post("/tag")
    async def tag(call: dialect.Tag, request: Request) -> Response:
        adapter = asked_for(shelf, request, call, "tagging")
        call = await masking.of(request, call)
        (column,) = adapter.task.inputs
        kept = [_words(one, column) for one in call.texts]
        found = await read(request, queue, adapter, {column: kept})
        task = adapter.task
        return listed("tag", call, adapter, found, lambda one: {"entities": task.told(one.answer)})

    @app.post("/ads")
    async def ads(call: dialect.AdCall, request: Request) -> Response:
        adapter = asked_for(shelf, request, call, "ad-response")
        call = await masking.of(request, call)
        columns = {name: [getattr(one, name) for one in call.input] for name in adapter.task.inputs}
        found = await read(request, queue, adapter, columns)

        def tell(one: Prediction) -> dict[str, Any]:
            return {"click_probability": adapter.task.told(one.answer)}

        return listed("ads", call, adapter, found, tell)

    @app.post("/recommend")
    @app.post("/rerank")
    async def rerank(call: dialect.Rerank, request: Request) -> Response:
        adapter = asked_for(shelf, request, call, "recommendation")
        call = await masking.of(request, call)
        columns = {"history": [json.dumps(call.history)]}
        columns["candidates"] = [json.dumps(call.documents)]
        found = await read(request, queue, adapter, columns)
        results = _ranked(adapter.task.told(found.said[0].answer), call)
        body = {"id": called("rerank"), "model": call.model, "results": results}
        return said(adapter, body | {"usage": {"total_tokens": found.tokens}})

    @app.post("/v1/embeddings")
    async def embed(call: dialect.Embed, request: Request) -> Response:
        adapter = asked_for(shelf, request, call, "classification")
        call = await masking.of(request, call)
        if adapter.alone is not None:
            raise CallError(400, "this adapter's method gives no vectors", param="model")
        found = await read(request, queue, adapter, {"text": call.texts}, vectors=True)
        spell = _packed if call.encoding_format == "base64" else list
        data = [
            {"object": "embedding", "index": index, "embedding": spell(vector)}
            for index, vector in enumerate(found.said)
        ]
        used = dialect.usage(found.tokens)
        body = {"object": "list", "model": call.model, "data": data}
        del used["completion_tokens"]
        return said(adapter, body | {"usage": used})


async def read(
    request: Request,
    queue: WorkQueue,
    adapter: ServedAdapter,
    columns: Mapping[str, Sequence[str]],
    *,
    vectors: bool = False,
) -> Reading:
    """What an adapter says of some records; raises `CallError`."""
    job = ReadJob(
        rows=len(next(iter(columns.values()))),
        adapter=adapter,
        records=checked(adapter, columns),
        vectors=vectors,
    )
    found: Reading = await answered(request, queue, job)
    told(request).prompt_tokens = found.tokens
    return found


def listed(
    kind: str,
    call: dialect.AdapterCall,
    adapter: ServedAdapter,
    found: Reading,
    tell: Callable[[Prediction], dict[str, Any]],
) -> Response:
    """A list of answers, as vLLM has it, each as `tell` says it."""
    body = {
        "id": called(kind),
        "object": "list",
        "created": int(time.time()),
        "model": call.model,
        "data": [{"index": index, **tell(one)} for index, one in enumerate(found.said)],
        "usage": dialect.usage(found.tokens),
    }
    return said(adapter, body)


def _words(one: str | list[str], column: str) -> str:
    if column == "tokens":
        words = one.split() if isinstance(one, str) else one
        return json.dumps(words, ensure_ascii=False)
    if isinstance(one, str):
        return one
    raise CallError(400, "this adapter reads texts, and no lists of tokens", param="input")


def _ranked(ranking: list[dict[str, Any]], call: dialect.Rerank) -> list[dict[str, Any]]:
    """The best titles first, each by its place in the call; equal titles by their order."""
    left: dict[str, list[int]] = {}
    for place, title in enumerate(call.documents):
        left.setdefault(title, []).append(place)
    results = []
    for one in ranking[: call.top_n]:
        found = {"index": left[one["title"]].pop(0), "relevance_score": one["score"]}
        document = {"document": {"text": one["title"]}} if call.return_documents else {}
        results.append(found | document)
    return results


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
