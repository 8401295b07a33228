"""Routes about the server: what is served, where from, how it fares; and administrators'.

Invariant: nothing is put up or taken down while the server is stopping.

Example: `add_shelf_routes(app, shelf, source, state)`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response

from presspool.common.base.errors import PressPoolError
from presspool.server.serving import dialect
from presspool.server.serving.asked_calls import said
from presspool.server.serving.request_gate import Draining
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf, FolderSource
from presspool.server.serving.shelf.call_errors import CallError
from presspool.server.serving.shelf.served_adapter import ServedAdapter


def add_shelf_routes(
    app: FastAPI,
    shelf: AdapterShelf,
    source: FolderSource | None,
    draining: Draining,
    loaded: Callable[[ServedAdapter], None] | None = None,
) -> None:
    """Put the routes into an application; `loaded` is told of what was put up."""

    @app.get("/health")
    async def health() -> Response:
        return Response()

    @app.get("/ready")
    async def ready() -> Response:
        if draining.began:
            raise CallError(503, "this server is stopping", retry=1)
        return Response()

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(one) for one in shelf]}

    @app.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        return _model(shelf.get(name))

    @app.get("/provenance/{digest}")
    async def provenance(digest: str) -> Response:
        adapter = shelf.by_digest(digest)
        return said(adapter, adapter.provenance.document)

    _add_administration(app, shelf, source, draining, loaded)


def _add_administration(
    app: FastAPI,
    shelf: AdapterShelf,
    source: FolderSource | None,
    draining: Draining,
    loaded: Callable[[ServedAdapter], None] | None,
) -> None:
    @app.post("/v1/load_lora_adapter")
    async def load(call: dialect.LoadCall, _: Request) -> Response:
        if draining.began:
            raise CallError(503, "this server is stopping", retry=1)
        if source is None:
            raise CallError(403, "this server loads nothing: it was started without --adapters")
        try:
            folder = source.folder(call.lora_path)
            made = await asyncio.to_thread(shelf.put, call.lora_name, folder)
        except PressPoolError as error:
            # Elsewhere it names files of this machine, which are no field of the call.
            field = "lora_name" if error.where == "lora_name" else "lora_path"
            raise CallError(400, _one_line(error), param=field) from None
        if loaded is not None:
            await asyncio.to_thread(loaded, made)
        return PlainTextResponse("Success: LoRA adapter added successfully.")

    @app.post("/v1/unload_lora_adapter")
    async def unload(call: dialect.UnloadCall, _: Request) -> Response:
        await asyncio.to_thread(shelf.take, call.lora_name)
        return PlainTextResponse("Success: LoRA adapter removed successfully.")


def _model(adapter: ServedAdapter) -> dict[str, Any]:
    return {
        "id": adapter.name,
        "object": "model",
        "created": adapter.created,
        "owned_by": "presspool",
        "root": adapter.provenance.adapter,
        "parent": adapter.contract.model.id,
        "max_model_len": adapter.contract.task.max_length,
        "task": adapter.contract.task.kind,
        "reads": adapter.task.inputs[0],
        "labels": list(adapter.task.options),
    }


def _one_line(error: PressPoolError) -> str:
    """For an administrator, who named the folder."""
    parts = [("expected", error.expected), ("got", error.got), ("to do", error.advice or None)]
    said = "; ".join(f"{name} {part}" for name, part in parts if part is not None)
    return f"{error.what}: {said}" if said else error.what
