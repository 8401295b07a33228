"""Routes that write: `/v1/completions` and `/v1/chat/completions`, whole or token by token.

Invariants:
    * A stream's pieces, put together, are the answer that a call without `stream` gets.
    * Nothing is tokenised for a call that the queue has no room for, or in the way of other calls.

Example: `add_writing_routes(app, shelf, queue, masking)`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from presspool.common.tasks.records import turns
from presspool.server.serving import dialect
from presspool.server.serving.asked_calls import (
    answered,
    asked_for,
    called,
    checked,
    said,
    submit,
    told,
)
from presspool.server.serving.masking import Masking
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf
from presspool.server.serving.shelf.call_errors import CallError
from presspool.server.serving.shelf.served_adapter import TOKENISING, WRITING, ServedAdapter
from presspool.server.serving.shelf.work_queue import WorkQueue
from presspool.server.serving.shelf.writing_jobs import WriteJob, Written

Piece = tuple[int, str]
Choice = Callable[[int, str, str | None], dict[str, Any]]
"""From a text's place, what is new of it and why it ends to how the dialect says so."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """How one of the two routes speaks.

    Attributes:
        kind: of its answers' ids.
        whole: the name of an answer.
        part: the name of a piece of one.
        choice: an answer's.
        piece: a piece's.
    """

    kind: str
    whole: str
    part: str
    choice: Choice
    piece: Choice


def _text(index: int, text: str, why: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": why}


def _message(index: int, text: str, why: str | None) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": why}


def _delta(index: int, text: str, why: str | None) -> dict[str, Any]:
    delta = {} if why else {"role": "assistant", "content": text}
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": why}


TEXTS = Form(
    kind="cmpl", whole="text_completion", part="text_completion", choice=_text, piece=_text
)
CHATS = Form(
    kind="chatcmpl",
    whole="chat.completion",
    part="chat.completion.chunk",
    choice=_message,
    piece=_delta,
)


def add_writing_routes(
    app: FastAPI, shelf: AdapterShelf, queue: WorkQueue, masking: Masking
) -> None:
    """Put the routes into an application."""

    @app.post("/v1/completions")
    async def complete(call: dialect.Complete, request: Request) -> Response:
        adapter = asked_for(shelf, request, call, WRITING)
        call = await masking.of(request, call)
        (column,) = adapter.task.inputs
        if column == "messages":
            raise CallError(400, "this adapter chats: ask it at /v1/chat/completions")
        queue.check(len(call.texts), told(request).key)
        columns = {column: call.texts}
        job = await asyncio.to_thread(_job, adapter, call, columns, call.max_tokens)
        return await _answer(request, queue, job, call, TEXTS)

    @app.post("/v1/chat/completions")
    async def chat(call: dialect.Chat, request: Request) -> Response:
        adapter = asked_for(shelf, request, call, WRITING)
        call = await masking.of(request, call)
        (column,) = adapter.task.inputs
        columns = {column: [_chat(call.messages, column)]}
        queue.check(1, told(request).key)
        most = call.max_completion_tokens or call.max_tokens
        job = await asyncio.to_thread(_job, adapter, call, columns, most)
        return await _answer(request, queue, job, call, CHATS)


def _chat(messages: list[dialect.ChatTurn], column: str) -> str:
    if column == "messages":
        return turns.chat([{"role": turn.role, "content": turn.content} for turn in messages])
    if len(messages) > 1 or messages[0].role != "user":
        raise CallError(
            400, "this adapter answers one prompt: one message of the user", param="messages"
        )
    return messages[0].content


def _job(
    adapter: ServedAdapter,
    call: dialect.Complete | dialect.Chat,
    columns: Mapping[str, list[str]],
    most: int | None,
) -> WriteJob:
    records = checked(adapter, columns)
    with TOKENISING:
        given: list[list[int]] = adapter.task.wording.given(records)  # type: ignore[attr-defined]
    most = most or adapter.task.table.answer_length
    _check_room(adapter, max(map(len, given)) + most)
    return WriteJob(
        rows=len(given),
        adapter=adapter,
        given=given,
        most=most,
        temperature=call.temperature,
        top_p=call.top_p,
        stops=call.stops,
        before=call.without_adapter,
    )


def _check_room(adapter: ServedAdapter, tokens: int) -> None:
    room = adapter.positions
    if room is not None and tokens > room:
        raise CallError(
            400, f"prompt and answer would be {tokens} tokens of {room}", param="max_tokens"
        )


async def _answer(
    request: Request,
    queue: WorkQueue,
    job: WriteJob,
    call: dialect.Complete | dialect.Chat,
    form: Form,
) -> Response:
    told(request).prompt_tokens = sum(map(len, job.given))
    base = {"id": called(form.kind), "created": int(time.time()), "model": job.adapter.name}
    if call.stream:
        pieces = asyncio.Queue[Piece | None]()
        loop = asyncio.get_running_loop()

        def say(place: int, text: str) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, (place, text))

        job.say = say
        job.future.add_done_callback(lambda _: loop.call_soon_threadsafe(pieces.put_nowait, None))
        submit(request, queue, job)
        usage = bool(call.stream_options and call.stream_options.include_usage)
        events = _events(request, job, pieces, {**base, "object": form.part}, form, usage=usage)
        headers = None if job.before else job.adapter.provenance.headers
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)
    found: list[Written] = await answered(request, queue, job)
    choices = [form.choice(i, one.text, one.why) for i, one in enumerate(found)]
    used = _usage(request, found)
    body = {**base, "object": form.whole, "choices": choices, "usage": used}
    return JSONResponse(body) if job.before else said(job.adapter, body)


async def _events(
    request: Request,
    job: WriteJob,
    pieces: asyncio.Queue[Piece | None],
    base: dict[str, Any],
    form: Form,
    *,
    usage: bool,
) -> AsyncIterator[str]:
    """The stream, to its end or until the caller hangs up."""
    try:
        while (piece := await pieces.get()) is not None:
            yield _event({**base, "choices": [form.piece(*piece, None)]})
        if error := job.future.exception():
            assert isinstance(error, CallError)
            yield _event(error.body)
            return
        found: list[Written] = job.future.result()
        for index, one in enumerate(found):
            yield _event({**base, "choices": [form.piece(index, "", one.why)]})
        used = _usage(request, found)
        if usage:
            yield _event({**base, "choices": [], "usage": used})
        yield "data: [DONE]\n\n"
    finally:
        job.left = True
        job.future.cancel()


def _usage(request: Request, found: list[Written]) -> dict[str, Any]:
    known = told(request)
    known.completion_tokens = sum(one.tokens for one in found)
    return dialect.usage(known.prompt_tokens, known.completion_tokens)


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
