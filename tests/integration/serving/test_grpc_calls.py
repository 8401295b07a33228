"""Every method over gRPC beside its HTTP route: the same answers, and the same words of refusal."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
from tests.fakes.grids.grid_parts import wait_until
from tests.fakes.served.made_adapters import made_adapter
from tests.fakes.served.made_rpc import RpcCaller, said
from tests.fakes.served.made_servers import MadeServer, made_server

from presspool.common.contract.contract import parse_contract
from presspool.common.models.base_model import resolve
from presspool.server.serving.masking import Masking
from presspool.server.serving.rpc.rpc_calls import PATHS, SERVICE
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf

CANARY = "zebra-canary-6174"
TITLES = ["goal in final", "minister treaty", "bank profit", "goal in final"]
LEFT_OUT = {"id", "created", "object", "logprobs"}  # of one call alone, or the same in all
TABLES: dict[str, dict[str, Any]] = {
    "spans": {"kind": "tagging", "format": "spans", "labels": ["person", "place"]},
    "words": {"kind": "tagging", "format": "tokens", "labels": ["person", "place"]},
    "ads": {"kind": "ad-response", "max_length": 16, "context": {"device": ["phone", "tablet"]}},
    "feed": {"kind": "recommendation", "history": 2, "candidates": 5, "title_length": 8},
}


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, contract_body: dict[str, Any]
) -> Iterator[MadeServer]:
    root = tmp_path_factory.mktemp("adapters")
    tables = {"desk": contract_body["task"], **TABLES}
    paths = [
        (name, made_adapter(root / name, parse_contract({**contract_body, "task": table})))
        for name, table in tables.items()
    ]
    masking = Masking.asked(model=None, log=None, off=False)
    with made_server(AdapterShelf.of(paths), masking=masking) as made:
        yield made
    masking.close()


@pytest.fixture
def caller(server: MadeServer) -> Iterator[RpcCaller]:
    with grpc.insecure_channel(server.grpc) as channel:
        yield RpcCaller(channel)


def bare(body: Any) -> Any:
    """An answer without what is of one call alone, and the zeros that protobuf does not send."""
    if isinstance(body, list):
        return [bare(one) for one in body]
    if not isinstance(body, dict):
        return body
    kept = {name: bare(one) for name, one in body.items() if name not in LEFT_OUT}
    return {name: one for name, one in kept.items() if one not in (None, 0, "", [], {})}


SAME: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("Classify", {"model": "desk", "input": TITLES}, {}),
    ("Classify", {"model": "desk", "input": [f"{CANARY} ann@example.org"], "mask": True}, {}),
    ("Explain", {"model": "desk", "input": "goal in final", "label": "sport"}, {}),
    ("Tag", {"model": "spans", "input": [{"text": one} for one in TITLES]}, {"input": TITLES}),
    (
        "Tag",
        {"model": "words", "input": [{"tokens": one.split()} for one in TITLES]},
        {"input": [one.split() for one in TITLES]},
    ),
    ("RateAds", {"model": "ads", "input": [{"text": "goal", "device": "phone"}]}, {}),
    ("Rerank", {"model": "feed", "query": ["rates bank"], "documents": TITLES}, {}),
    ("Rerank", {"model": "feed", "documents": TITLES, "top_n": 1}, {"query": []}),
    ("Mask", {"input": ["to ann@example.org", "goal"]}, {}),
]


@pytest.mark.parametrize(("method", "asked", "over_http"), SAME)
def test_what_reads_answers_as_its_route_does(
    caller: RpcCaller,
    server: MadeServer,
    method: str,
    asked: dict[str, Any],
    over_http: dict[str, Any],
) -> None:
    if asked.get("mask") or method == "Mask":
        pytest.importorskip("presidio_analyzer", reason="the extra `redact` is not here")
    if method == "Explain":
        pytest.importorskip("captum", reason="the extra `gate` is not here")
        asked["label"] = server.shelf.get("desk").task.options[0]
    route = server.address + PATHS[method]
    answer = httpx2.post(route, json={**asked, **over_http}, timeout=240)
    assert answer.status_code == 200, answer.text
    call = caller.begin(method, asked)
    assert bare(said(call.result())) == bare(answer.json())
    wanted = {name: one for name, one in answer.headers.items() if name.startswith("x-presspool")}
    assert dict(call.trailing_metadata()) == wanted
    assert ("x-presspool-adapter" in wanted) == (method != "Mask")


def test_models_and_vectors_are_those_of_the_routes(caller: RpcCaller, server: MadeServer) -> None:
    models = httpx2.get(f"{server.address}/v1/models", timeout=240).json()["data"]
    wanted = [{**bare(one), "created": one["created"]} for one in models]
    found = caller.ask("ListModels", {})["data"]
    own = {"id", "owned_by"}  # the second is the same of all
    assert [{**one, "created": int(one["created"])} for one in found] == [
        {**{name: value for name, value in one.items() if name not in own}, "id": model["id"]}
        for one, model in zip(wanted, models, strict=True)
    ]
    body = {"model": "desk", "input": TITLES}
    rows = httpx2.post(f"{server.address}/v1/embeddings", json=body, timeout=240).json()["data"]
    vectors = caller.begin("Embed", body).result()
    for one, other in zip(vectors.data, rows, strict=True):
        assert list(one.embedding) == pytest.approx(other["embedding"], abs=1e-6)


def test_each_method_has_its_route_and_no_other_is_there(server: MadeServer) -> None:
    assert set(PATHS) == {method.name for method in SERVICE.methods}
    hidden = "/grpc.reflection.v1{}.ServerReflection/ServerReflectionInfo"
    with grpc.insecure_channel(server.grpc) as channel:
        for path in (hidden.format(""), hidden.format("alpha"), f"/{SERVICE.full_name}/Load"):
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(path)(b"")
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


REFUSED: list[tuple[str, dict[str, Any] | bytes, str, str]] = [
    ("Classify", {"model": "east", "input": ["x"]}, "NOT_FOUND", "desk, feed"),
    ("Classify", {"model": "desk", "input": []}, "INVALID_ARGUMENT", "1 or more"),
    ("Classify", {"model": "desk", "input": [CANARY * 2000]}, "INVALID_ARGUMENT", "input"),
    ("Classify", {"model": "desk", "input": [CANARY] * 257}, "INVALID_ARGUMENT", "256 or fewer"),
    ("Classify", {"model": "desk", "input": [""] * 1_000_000}, "INVALID_ARGUMENT", "input"),
    ("Classify", {}, "INVALID_ARGUMENT", "model"),
    ("Classify", b"\xff" + CANARY.encode(), "INVALID_ARGUMENT", "cannot be read"),
    ("Classify", b"\x0a\x04desk\x22\x02\xff\xfe", "INVALID_ARGUMENT", "cannot be read"),
    ("Classify", b"\x0a\x04desk\x22\x01x\xa0\x06\x01", "INVALID_ARGUMENT", "not known here"),
    ("Classify", {"model": "desk", "input": ["x" * (9 << 20)]}, "RESOURCE_EXHAUSTED", ""),
    ("Classify", {"model": "desk", "input": ["\x01" * (8_000_000)]}, "RESOURCE_EXHAUSTED", "8 MiB"),
    (
        "Complete",
        {"model": "desk", "prompt": ["x"], "temperature": "NaN"},
        "INVALID_ARGUMENT",
        "temperature",
    ),
    ("Tag", {"model": "desk", "input": [{"text": "x"}]}, "INVALID_ARGUMENT", "/classify"),
    ("Tag", {"model": "words", "input": [{"tokens": ["x"] * 300}]}, "INVALID_ARGUMENT", "input"),
    (
        "Tag",
        {"model": "words", "input": [{"tokens": ["x"] * 2000}]},
        "INVALID_ARGUMENT",
        "cannot be read",
    ),
    (
        "Tag",
        {"model": "words", "input": [{"text": "x", "tokens": ["x"]}]},
        "INVALID_ARGUMENT",
        "input",
    ),
    ("Classify", b"\x0a\x04desk" * 300 + b"\x22\x01x", "INVALID_ARGUMENT", "input"),
    ("Classify", b"\x22\x01x" + b"\x0a\x04desk" * 300, "INVALID_ARGUMENT", "not known here"),
    ("RateAds", {"model": "ads", "input": [{"device": CANARY}]}, "INVALID_ARGUMENT", "record 0"),
]


@pytest.mark.parametrize(("method", "asked", "code", "word"), REFUSED)
def test_what_cannot_be_answered_is_refused_with_the_routes_words(
    server: MadeServer,
    caller: RpcCaller,
    method: str,
    asked: dict[str, Any] | bytes,
    code: str,
    word: str,
) -> None:
    if isinstance(asked, bytes):
        with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(f"/{SERVICE.full_name}/{method}")(asked)
        found = error.value.code().name, error.value.details()
    else:
        found = caller.refused(method, asked)
    assert found[0] == code, found
    assert word in found[1]
    assert CANARY not in found[1]
    if isinstance(asked, dict) and method == "Classify" and code != "RESOURCE_EXHAUSTED" and asked:
        answer = httpx2.post(f"{server.address}/classify", json=asked, timeout=240)
        assert answer.json()["error"]["message"] == found[1]


def test_a_full_queue_says_when_to_ask_again(
    caller: RpcCaller, server: MadeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.queue, "_rows", 1024)
    error = caller.begin("Classify", {"model": "desk", "input": ["goal"]}).exception()
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == "too many calls wait already"
    told = dict(error.trailing_metadata())
    assert int(told["grpc-retry-pushback-ms"]) == 1000 * int(told["retry-after"]) > 0
    refused = caller.begin("Classify", {"model": "east", "input": ["goal"]}).exception()
    assert dict(refused.trailing_metadata())["x-presspool-param"] == "model"


def test_what_nobody_foresaw_is_internal_and_nothing_written_has_a_text(
    caller: RpcCaller,
    server: MadeServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "presspool"):
        asked = {"model": "desk", "input": [CANARY], "user": CANARY}
        metadata = (("x-presspool-canary", CANARY), ("traceparent", CANARY))
        assert caller.ask("Classify", asked, metadata=metadata)
        caller.refused("Classify", {"model": CANARY, "input": [CANARY]})

        def broken(_: str) -> None:
            raise RuntimeError(CANARY)

        monkeypatch.setattr(server.shelf, "get", broken)
        assert caller.refused("Classify", asked) == ("INTERNAL", "something went wrong here")
        lines_end = {f'"status": {status}' for status in (200, 404, 500)}
        # A line follows its answer, in no order.
        assert wait_until(lambda: all(end in caplog.text for end in lines_end))
    metrics = httpx2.get(f"{server.address}/metrics", timeout=240).text
    ours = [one for one in caplog.records if not one.name.startswith("http")]
    lines = [one.getMessage() for one in ours if one.name.endswith("request_gate")]
    found = {one["status"]: one for one in (json.loads(x) for x in lines if x.startswith("{"))}
    assert {found[status]["route"] for status in (200, 404, 500)} == {"/classify"}
    assert (found[200]["model"], found[200]["records"]) == ("desk", 1)
    assert 'presspool_calls_total{route="/classify",status="404"}' in metrics
    written = "\n".join(one.getMessage() + str(one.exc_text) for one in ours)
    assert CANARY not in written + metrics + "".join(capfd.readouterr())


def test_texts_are_written_whole_and_piece_by_piece(
    tmp_path: Path, writing_body: Callable[[str], dict[str, Any]]
) -> None:
    paths = []
    for seed, (name, form) in enumerate((("texts", "text"), ("chats", "chat"))):
        body = writing_body(form)
        body["model"] |= resolve(body["model"]["id"], weights=None, tokenizer=None).pins
        body["task"] = {**body["task"], "answer_length": 12}
        paths.append(
            (name, made_adapter(tmp_path / name, parse_contract(body), seed=seed, scale=0.4))
        )
    shelf = AdapterShelf.of(paths)
    with made_server(shelf) as server, grpc.insecure_channel(server.grpc) as channel:
        caller = RpcCaller(channel)
        prompt = {"model": "texts", "prompt": ["minister talks"], "temperature": 0}
        turns = {"model": "chats", "messages": [{"role": "user", "content": "minister talks"}]}
        several = []
        for method, asked in (("Complete", prompt), ("Chat", turns)):
            over_http = httpx2.post(server.address + PATHS[method], json=asked, timeout=240).json()
            whole = caller.ask(method, asked)
            assert bare(whole) == bare(over_http)
            call = caller.begin(f"{method}Stream", asked)
            pieces = [said(piece) for piece in call]
            assert call.code() is grpc.StatusCode.OK
            assert "x-presspool-adapter" in dict(call.trailing_metadata())
            choices = [one for piece in pieces for one in piece.get("choices", [])]
            texts = [one.get("text", one.get("delta", {}).get("content", "")) for one in choices]
            (written,) = whole["choices"]
            assert "".join(texts) == written.get("text", written.get("message", {}).get("content"))
            assert choices[-1]["finish_reason"] == written["finish_reason"]
            assert pieces[-1]["usage"] == whole["usage"]
            several.append(len(pieces) > 3)
        assert any(several)
        refused = caller.begin("CompleteStream", {"model": "chats", "prompt": ["x"]})
        with pytest.raises(grpc.RpcError, match="chat/completions"):
            list(refused)
        long = caller.begin("CompleteStream", prompt | {"max_tokens": 40})
        next(long)
        long.cancel()  # who hangs up is not worked for, and others are
        assert caller.ask("Complete", prompt)["choices"]
