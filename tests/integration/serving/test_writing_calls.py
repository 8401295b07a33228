"""Texts that are written for OpenAI's own client: whole, streamed, stopped, and refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pyarrow as pa
import pytest
from tests.fakes.served.made_adapters import made_adapter
from tests.fakes.served.made_servers import MadeServer, made_server

from presspool.common.contract.contract import parse_contract
from presspool.common.models.base_model import resolve
from presspool.common.models.models import base
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf

PROMPTS = ["minister talks", "goal", "the bank says profit rates"]


@pytest.fixture
def server(
    tmp_path_factory: pytest.TempPathFactory, writing_body: Callable[[str], dict[str, Any]]
) -> Iterator[MadeServer]:
    root = tmp_path_factory.mktemp("writers")
    paths = []
    for seed, (name, form) in enumerate(
        (("texts", "text"), ("prompts", "prompt"), ("other", "prompt"), ("chats", "chat"))
    ):
        body = writing_body(form)
        body["task"] = {**body["task"], "answer_length": 12}
        body["model"] |= resolve(body["model"]["id"], weights=None, tokenizer=None).pins
        paths.append((name, made_adapter(root / name, parse_contract(body), seed=seed, scale=0.2)))
    with made_server(AdapterShelf.of(paths)) as made:
        yield made


@pytest.fixture
def client(server: MadeServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0)


def test_all_that_is_written(client: openai.OpenAI, server: MadeServer) -> None:
    wanted: dict[str, list[str]] = {}
    for name in ("texts", "prompts", "other"):
        task = server.shelf.get(name).task
        records = pa.table({task.inputs[0]: pa.array(PROMPTS, pa.large_string())})
        wanted[name] = task.write(records) or []

    # Whole, several prompts at once.
    for name, texts in wanted.items():
        answer = client.completions.create(model=name, prompt=PROMPTS)
        assert [one.text for one in answer.choices] == texts
        assert {one.finish_reason for one in answer.choices} <= {"stop", "length"}
        assert answer.usage is not None
        assert answer.usage.completion_tokens <= 36

    assert len({text for texts in wanted.values() for text in texts}) > 3

    # Streamed by many at once: the pieces are the whole.
    def streamed(number: int) -> bool:
        name, at = ("texts", "prompts", "other")[number % 3], number % len(PROMPTS)
        parts = client.completions.create(model=name, prompt=PROMPTS[at], stream=True)
        pieces = [choice for part in parts for choice in part.choices]
        assert pieces[-1].finish_reason in ("stop", "length")
        return "".join(one.text for one in pieces) == wanted[name][at]

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(streamed, range(18)))


def test_a_chat_is_answered_whole_and_streamed(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "minister talks"}]
    whole = client.chat.completions.create(model="chats", messages=messages, max_tokens=6)
    assert whole.choices[0].message.role == "assistant"
    assert whole.usage is not None
    assert whole.usage.completion_tokens <= 6
    parts = list(
        client.chat.completions.create(
            model="chats",
            messages=messages,
            max_tokens=6,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    said = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert said == whole.choices[0].message.content
    assert parts[-1].usage == whole.usage
    assert parts[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def test_an_answer_ends_where_it_is_told_to(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="texts", prompt=PROMPTS[0], max_tokens=12)
    text = whole.choices[0].text
    assert len(text) > 4
    stop = text[3:5]
    cut = client.completions.create(model="texts", prompt=PROMPTS[0], max_tokens=12, stop=stop)
    assert cut.choices[0].text == text[: text.index(stop)].rstrip()
    assert cut.choices[0].finish_reason == "stop"
    parts = client.completions.create(
        model="texts", prompt=PROMPTS[0], max_tokens=12, stop=[stop], stream=True
    )
    streamed = "".join(one.text for part in parts for one in part.choices)
    assert streamed == cut.choices[0].text
    one = client.completions.create(model="texts", prompt=PROMPTS[0], max_tokens=1)
    assert one.usage is not None
    assert one.usage.completion_tokens == 1
    assert one.choices[0].finish_reason == "length"
    drawn = client.completions.create(model="texts", prompt=PROMPTS, temperature=1.0, top_p=0.9)
    assert len(drawn.choices) == 3


def test_what_cannot_be_written_is_refused(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "x"}]
    with pytest.raises(openai.BadRequestError, match="chat/completions"):
        client.completions.create(model="chats", prompt="x")
    with pytest.raises(openai.BadRequestError, match="one prompt"):
        client.chat.completions.create(model="prompts", messages=messages * 2)
    with pytest.raises(openai.BadRequestError, match="tokens of"):
        client.completions.create(model="texts", prompt="x", max_tokens=4096)
    with pytest.raises(openai.BadRequestError, match="record 0"):
        client.completions.create(model="prompts", prompt="")
    with pytest.raises(openai.BadRequestError, match="not known"):
        client.completions.create(model="texts", prompt="x", logprobs=3)
    with pytest.raises(openai.BadRequestError, match="n:"):
        client.completions.create(model="texts", prompt="x", n=2)
    with pytest.raises(openai.BadRequestError, match="generation"):
        client.embeddings.create(model="texts", input="x")


def test_the_base_model_alone_writes_what_it_wrote_before_any_adapter(
    client: openai.OpenAI, server: MadeServer, tmp_path: Path
) -> None:
    served = server.shelf.get("texts")
    server.shelf.put("loud", made_adapter(tmp_path / "loud", served.contract, scale=3.0))
    records = pa.table({served.task.inputs[0]: pa.array(PROMPTS, pa.large_string())})
    bare = base(served.contract).eval().task.write(records)
    answers = [
        client.completions.with_raw_response.create(
            model="loud", prompt=PROMPTS, extra_body={"without_adapter": without}
        )
        for without in (True, False)
    ]
    digest = answers[1].headers["x-presspool-adapter"]
    said = httpx2.get(f"{server.address}/provenance/{digest}", timeout=240).json()["c2pa"]
    (made,) = said["data"]["actions"]
    assert (said["label"], made["action"]) == ("c2pa.actions.v2", "c2pa.created")
    assert made["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert made["parameters"]["org.presspool.adapter"] == digest
    without, beside = ([choice.text for choice in one.parse().choices] for one in answers)
    assert without == bare != beside
    assert ["x-presspool-adapter" in one.headers for one in answers] == [False, True]
