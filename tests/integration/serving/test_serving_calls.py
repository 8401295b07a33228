"""Calls of a server on loopback, by the field's own clients; and every call that is refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from tests.fakes.grids.grid_parts import wait_until
from tests.fakes.served.made_adapters import made_adapter
from tests.fakes.served.made_servers import MadeServer, made_server

import presspool
from presspool.common.contract.contract import parse_contract
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf

CANARY = "zebra-canary-7731"
TEXTS = ["minister says treaty", "goal in final", "the bank"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, contract_body: dict[str, Any]) -> Path:
    """Adapters: two that classify, one of another base."""
    root = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(("north", "south")):
        body = {**contract_body, "adapter": {"method": "head"}} if seed else contract_body
        made_adapter(root / name, parse_contract(body), seed=seed)
    return root


@pytest.fixture(scope="module")
def server(folders: Path) -> Iterator[MadeServer]:
    shelf = AdapterShelf.of([("north", folders / "north"), ("south", folders / "south")])
    with made_server(shelf, root=folders) as made:
        yield made


@pytest.fixture
def http(server: MadeServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.address, timeout=240) as client:
        yield client


def test_classify_says_what_predict_says(http: httpx2.Client, folders: Path) -> None:
    for name in ("north", "south"):
        answer = http.post("/classify", json={"model": name, "input": TEXTS})
        assert answer.status_code == 200, answer.text
        expected = presspool.load(folders / name).predict(TEXTS)
        data = answer.json()["data"]
        assert [one["label"] for one in data] == [one.answer for one in expected]
        assert [one["index"] for one in data] == [0, 1, 2]
        for one, wanted in zip(data, expected, strict=True):
            assert one["probs"] == pytest.approx(list(wanted.probabilities.values()), abs=1e-5)
            assert one["num_classes"] == 3
        assert answer.json()["usage"]["total_tokens"] > 0


def test_the_official_client_lists_models_and_embeds(server: MadeServer) -> None:
    client = openai.OpenAI(base_url=f"{server.address}/v1", api_key="none")
    models = {one.id: one for one in client.models.list()}
    assert set(models) == {"north", "south"}
    assert models["north"].model_extra is not None
    assert models["north"].model_extra["root"].startswith("sha256:")
    assert models["north"].model_extra["parent"] == server.shelf.base.model.id
    vectors = client.embeddings.create(model="north", input=TEXTS)  # base64 by default
    plain = client.embeddings.create(model="north", input=TEXTS, encoding_format="float")
    assert len(vectors.data) == 3
    for one, other in zip(vectors.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert sum(x * x for x in one.embedding) == pytest.approx(1, abs=1e-5)
    with pytest.raises(openai.NotFoundError, match="north, south"):
        client.embeddings.create(model="east", input="x")


def test_every_answer_says_where_it_comes_from(http: httpx2.Client, server: MadeServer) -> None:
    answer = http.post("/classify", json={"model": "north", "input": "goal"})
    adapter = server.shelf.get("north")
    assert answer.headers["x-presspool-adapter"] == adapter.provenance.adapter
    assert answer.headers["x-presspool-unit"] == "reader"
    assert answer.headers["x-presspool-epsilon"] in adapter.provenance.statement
    digest = adapter.provenance.adapter
    said = http.get(f"/provenance/{digest}").json()
    assert said["adapter"] == digest
    assert said["statement"] == adapter.provenance.statement
    assert http.get("/provenance/sha256:00").status_code == 404


REFUSED: list[tuple[str, dict[str, Any] | bytes, int, str]] = [
    ("/classify", {"model": "east", "input": "x"}, 404, "north, south"),
    ("/classify", {"model": "north", "input": []}, 400, "1 or more"),
    ("/classify", {"model": "north", "input": [CANARY, 7]}, 400, "input.1: expected text"),
    ("/classify", {"model": "north", "input": CANARY * 2000}, 400, "20000 characters"),
    ("/classify", {"model": "north", "input": [CANARY * 2000]}, 400, "20000 characters"),
    ("/classify", {"model": "north", "input": [CANARY] * 257}, 400, "256 or fewer"),
    ("/classify", {"model": "north", "input": "x", CANARY: 1}, 400, "not known"),
    ("/classify", {f"{CANARY}-{n}": n for n in range(100_000)}, 400, "at most 32 fields"),
    ("/classify", {"model": "north"}, 400, "missing"),
    ("/classify", b'{"model": "north", "input": "zebra-canary-7731', 400, "JSON"),
    ("/classify", b'{"model": "north", "input": "\\ud800"}', 400, ""),
    ("/classify", b"[]", 400, "the body: expected an object"),
    ("/classify", b'{"input":"' + CANARY.encode() * 600_000 + b'"}', 413, "8 MiB"),
    ("/tag", {"model": "north", "input": "x"}, 400, "/classify"),
    ("/rerank", {"model": "north", "query": "x", "documents": ["y"]}, 400, "/classify"),
    ("/zebra-canary-7731", {}, 404, "route"),
]


@pytest.mark.parametrize(("route", "body", "status", "word"), REFUSED)
def test_what_cannot_be_answered_is_refused_in_the_dialects_shape(
    http: httpx2.Client, route: str, body: dict[str, Any] | bytes, status: int, word: str
) -> None:
    sent = {"content": body} if isinstance(body, bytes) else {"json": body}
    headers = {"content-type": "application/json"}
    answer = http.post(route, headers=headers, **sent)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == status
    assert word in error["message"]
    assert CANARY not in answer.text


def test_what_nobody_foresaw_is_told_in_the_dialects_shape(
    http: httpx2.Client, server: MadeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: str) -> None:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(server.shelf, "get", broken)
    answer = http.post("/classify", json={"model": "north", "input": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, 500)
    assert answer.json()["error"]["message"] == "something went wrong here"
    assert CANARY not in answer.text


def test_a_body_without_a_length_is_cut_off(server: MadeServer) -> None:
    def drops() -> Iterator[bytes]:
        yield b'{"input":"'
        for _ in range(10):
            yield b"x" * (1 << 20)

    headers = {"content-type": "application/json"}
    answer = httpx2.post(
        f"{server.address}/classify", content=drops(), headers=headers, timeout=240
    )
    assert answer.status_code == 413
    assert answer.json()["error"]["type"] == "RequestTooLargeError"


def test_nothing_that_is_written_has_a_text_in_it(
    http: httpx2.Client, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    ours_too = caplog.at_level(logging.DEBUG, "presspool")  # a command before has set its own
    with caplog.at_level(logging.DEBUG), ours_too:
        for body in ({"model": "north", "input": CANARY}, {"model": CANARY, "input": CANARY}):
            http.post("/classify", json=body)
        http.get(f"/{CANARY}")
        http.get(f"/v1/models/{CANARY}")
        metrics = http.get("/metrics").text
        # A line follows its answer; before these there may be one of a call of another test.
        wanted = [200, 404, 404, 404, 200]
        assert wait_until(lambda: [one["status"] for one in _logged(caplog)[-5:]] == wanted)
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith("http")]  # the client
    written = "\n".join(ours) + metrics + "".join(capfd.readouterr())
    assert _logged(caplog)[-5]["model"] == "north"
    assert 'vllm:request_success_total{model_name="north"}' in metrics
    assert CANARY not in written


def _logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    gate = [r.getMessage() for r in caplog.records if r.name.endswith("request_gate")]
    return [json.loads(line) for line in gate]


def test_many_callers_of_many_adapters_get_their_own_answers(
    http: httpx2.Client, folders: Path
) -> None:
    expected = {
        name: [one.answer for one in presspool.load(folders / name).predict(TEXTS)]
        for name in ("north", "south")
    }

    def ask(number: int) -> bool:
        name, text = ("north", "south")[number % 2], number % 3
        answer = http.post("/classify", json={"model": name, "input": TEXTS[text]})
        return bool(answer.json()["data"][0]["label"] == expected[name][text])

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(120)))


def test_an_administrator_loads_and_unloads(
    http: httpx2.Client, folders: Path, server: MadeServer
) -> None:
    made = http.post("/v1/load_lora_adapter", json={"lora_name": "third", "lora_path": "north"})
    assert made.status_code == 200, made.text
    assert http.post("/classify", json={"model": "third", "input": "x"}).status_code == 200
    again = http.post("/v1/load_lora_adapter", json={"lora_name": "third", "lora_path": "north"})
    assert again.status_code == 400
    assert http.post("/v1/unload_lora_adapter", json={"lora_name": "third"}).status_code == 200
    assert http.post("/classify", json={"model": "third", "input": "x"}).status_code == 404
    (folders / "hollow").mkdir()
    for path in ("../elsewhere", "/etc", "missing", "north\0", "hollow"):
        body = {"lora_name": "third", "lora_path": path}
        answer = http.post("/v1/load_lora_adapter", json=body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == "lora_path"
        assert str(folders) not in answer.text
    assert [one.name for one in server.shelf] == ["north", "south"]


def test_another_name_of_this_port_is_not_answered(http: httpx2.Client) -> None:
    answer = http.post(
        "/classify", json={"model": "north", "input": "x"}, headers={"host": "evil.example"}
    )
    assert answer.status_code == 421
