"""The plain ways to serve an adapter, as somebody writes them down who has no server for it.

Both are FastAPI with one route that computes what it was asked, one text a call, in FastAPI's own
threads: `model(**tokenizer(text))`, or a pipeline of transformers. The model is the adapter's base
with the adapter merged into its weights, in torch's own layers.

Invariant: it answers what `presspool serve` answers at `/classify`, as far as labels go.

Example: `python -m presspool.simulations.bench.served.plain_port model runs/first`.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from torch import Tensor

from presspool.common.models.frozen_product import unquicken
from presspool.common.released.adapter_folder import read_adapter
from presspool.common.released.exports.placed import Placed, placed


class Asked(BaseModel):
    """A call; the name of the adapter is not looked at."""

    model: str
    input: str


def by_model(plain: Placed) -> Callable[[str], Tensor]:
    """Logits of a text, (1, labels), by the model itself."""
    tokenizer, most = plain.task.tokenizer, plain.contract.task.max_length

    def logits(text: str) -> Tensor:
        found = tokenizer(text, return_tensors="pt", truncation=True, max_length=most)
        said: Tensor = plain.headed(found["input_ids"], found["attention_mask"])
        return said

    return logits


def by_pipeline(plain: Placed) -> Callable[[str], Tensor]:
    """Logits of a text, (1, labels), by a pipeline for its states and the head."""
    from transformers import pipeline

    words = {"truncation": True, "max_length": plain.contract.task.max_length}
    states = pipeline(
        "feature-extraction",
        model=plain.headed.encoder,
        tokenizer=plain.task.tokenizer,
        tokenize_kwargs=words,
        return_tensors=True,
    )

    def logits(text: str) -> Tensor:
        found = states(text)
        mask = torch.ones(found.shape[:2], dtype=torch.int64)
        said: Tensor = plain.headed.head(plain.task.pool(found, mask))
        return said

    return logits


WAYS = {"model": by_model, "pipeline": by_pipeline}


def plain_app(way: str, folder: Path) -> FastAPI:
    """The application."""
    plain, app = placed(read_adapter(folder)).folded(), FastAPI()
    unquicken(plain.model)
    logits, labels = WAYS[way](plain), list(plain.task.options)

    @app.post("/classify")
    def classify(asked: Asked) -> dict[str, Any]:
        with torch.inference_mode():
            chances = logits(asked.input).softmax(-1)[0].tolist()
        best = max(range(len(labels)), key=chances.__getitem__)
        return {"data": [{"label": labels[best], "probs": chances}]}

    return app


if __name__ == "__main__":
    made = plain_app(sys.argv[1], Path(sys.argv[2]))
    listener = socket.create_server(("127.0.0.1", 0))
    print(json.dumps({"address": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
    config = uvicorn.Config(made, access_log=False, log_level="warning")
    uvicorn.Server(config).run(sockets=[listener])
