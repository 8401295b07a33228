"""Routes that read: `/classify`, `/tag`, `/rerank`, `/ads` and `/v1/embeddings`.

Invariant: a call with a record that cannot be answered is refused as a whole, by its place.

Example: `add_reading_routes(app, shelf, queue, masking)`.
"""

from __future__ import annotations

import base64
import json
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from presspool.server.serving import dialect
from presspool.server.serving.asked_calls import answered, asked_for, called, checked, said, told
from presspool.server.serving.masking import Masking
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf
from presspool.server.serving.shelf.call_errors import CallError
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
        data = [
            {
                "index": index,
                "label": one.answer,
                "probs": [one.probabilities[label] for label in labels],
                "num_classes": len(labels),
            }
            for index, one in enumerate(found.said)
        ]
        return said(adapter, listed("classify", call.model, data, found))

    @app.post("/tag")
    async def tag(call: dialect.Tag, request: Request) -> Response:
        adapter = asked_for(shelf, request, call, "tagging")
        call = await masking.of(request, call)
        (column,) = adapter.task.inputs
        kept = [_words(one, column) for one in call.texts]
        found = await read(request, queue, adapter, {column: kept})
        data = [
            {"index": index, "entities": adapter.task.told(one.answer)}
            for index, one in enumerate(found.said)
        ]
        return said(adapter, listed("tag", call.model, data, found))

    @app.post("/ads")
    async def ads(call: dialect.AdCall, request: Request) -> Response:
        adapter = asked_for(shelf, request, call, "ad-response")
        call = await masking.of(request, call)
        columns = {name: [getattr(one, name) for one in call.input] for name in adapter.task.inputs}
        found = await read(request, queue, adapter, columns)
        data = [
            {"index": index, "click_probability": adapter.task.told(one.answer)}
            for index, one in enumerate(found.said)
        ]
        return said(adapter, listed("ads", call.model, data, found))

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


def listed(kind: str, model: str, data: list[dict[str, Any]], found: Reading) -> dict[str, Any]:
    """A list of answers, as vLLM has it."""
    return {
        "id": called(kind),
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "data": data,
        "usage": dialect.usage(found.tokens),
    }


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
