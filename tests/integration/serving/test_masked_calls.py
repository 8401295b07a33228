"""Personal data masked on its way to the model, and on its way to a log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.fakes.served.made_adapters import made_adapter
from tests.fakes.served.made_servers import MadeServer, made_server

from presspool.common.base.errors import InputError
from presspool.common.contract.contract import parse_contract
from presspool.server.serving.masking import MOST, Masking
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf

pytest.importorskip("presidio_analyzer", reason="the extra `redact` is not here")
MAIL, PHONE = "ann.zebra@example.org", "13564457866"
TEXT = f"the goal: write to {MAIL} 或者{PHONE}"
MASKED = "the goal: write to <EMAIL_ADDRESS> 或者<CN_MOBILE_NUMBER>"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "inputs.jsonl"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, contract_body: dict[str, Any], kept: Path
) -> Iterator[MadeServer]:
    root = tmp_path_factory.mktemp("adapters")
    tables = {
        "desk": contract_body["task"],
        "words": {"kind": "tagging", "format": "tokens", "labels": ["person", "place"]},
        "feed": {"kind": "recommendation", "history": 2, "candidates": 5, "title_length": 8},
        "ads": {"kind": "ad-response", "context": {"region": ["Leeds", "York"]}},
    }
    paths = [
        (name, made_adapter(root / name, parse_contract({**contract_body, "task": table})))
        for name, table in tables.items()
    ]
    masking = Masking.asked(model=None, log=kept, off=False)
    with made_server(AdapterShelf.of(paths), masking=masking) as made:
        yield made
    masking.close()


@pytest.fixture
def http(server: MadeServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.address, timeout=240) as client:
        yield client


def test_texts_are_given_back_masked(http: httpx2.Client) -> None:
    answer = http.post("/mask", json={"input": [TEXT, "goal in final"]})
    assert answer.status_code == 200, answer.text
    kinds = ["EMAIL_ADDRESS", "CN_MOBILE_NUMBER"]
    assert answer.json()["data"] == [
        {"index": 0, "text": MASKED, "kinds": kinds},
        {"index": 1, "text": "goal in final", "kinds": []},
    ]
    assert answer.headers["x-presspool-masked"] == "2"
    many = http.post("/mask", json={"input": ["x" * 20_000] * (MOST // 20 + 1)})
    assert many.status_code == 413


def test_the_model_sees_what_is_left(http: httpx2.Client) -> None:
    def ask(route: str, body: dict[str, Any], *, mask: bool) -> httpx2.Response:
        answer = http.post(route, json={**body, "mask": mask})
        assert answer.status_code == 200, answer.text
        return answer

    asked = {"model": "feed", "query": [TEXT], "documents": [f"goal {MAIL}", "the bank"]}
    open_, masked = (ask("/rerank", asked, mask=mask) for mask in (False, True))
    assert MAIL in open_.text
    assert "x-presspool-masked" not in open_.headers
    assert MAIL not in masked.text
    assert "<EMAIL_ADDRESS>" in masked.text
    assert masked.headers["x-presspool-masked"] == "3"
    by_hand = ask(
        "/recommend", {**asked, "documents": ["goal <EMAIL_ADDRESS>", "the bank"]}, mask=True
    )
    assert by_hand.json()["results"] == masked.json()["results"]
    lists = http.post("/tag", json={"model": "words", "input": [["a", MAIL]], "mask": True})
    assert lists.status_code == 400
    assert MAIL not in lists.text
    said = [
        ask("/classify", {"model": "desk", "input": text}, mask=True) for text in (TEXT, MASKED)
    ]
    assert said[0].json()["data"] == said[1].json()["data"]


def test_an_adverts_context_is_the_contracts_or_refused_unread(
    http: httpx2.Client, kept: Path
) -> None:
    shown = {"text": TEXT, "region": "Leeds", "campaign": MAIL}  # a column that is not read
    asked = {"model": "ads", "input": [shown], "mask": True}
    answer = http.post("/ads", json=asked)
    assert answer.status_code == 200, answer.text
    by_hand = http.post("/ads", json={**asked, "input": [{"text": MASKED, "region": "Leeds"}]})
    assert answer.json()["data"] == by_hand.json()["data"]
    refused = http.post("/ads", json={**asked, "input": [{**shown, "region": MAIL}]})
    assert refused.status_code == 400
    assert MAIL not in answer.text + refused.text + kept.read_text(encoding="utf-8")


def test_what_is_kept_is_masked(server: MadeServer, kept: Path) -> None:
    body = {"model": "desk", "input": TEXT}
    for mask in (False, True):
        assert httpx2.post(f"{server.address}/classify", json={**body, "mask": mask}, timeout=240)
    httpx2.post(f"{server.address}/mask", json={"input": "wait"}, timeout=240)  # a queue in order
    written = kept.read_text(encoding="utf-8")
    assert MAIL not in written
    assert PHONE not in written
    last = [json.loads(line) for line in written.splitlines()][-2:]
    assert [one["texts"] for one in last] == [[MASKED], [MASKED]]
    assert {(one["model"], one["route"]) for one in last} == {("desk", "/classify")}
    assert kept.stat().st_mode & 0o077 == 0


def test_tokens_are_kept_as_the_text_that_they_are(server: MadeServer, kept: Path) -> None:
    """One by one none of these is a telephone number or a bank account."""
    said = "call +49 30 901820 , IBAN DE89 3704 0044 0532 0130 00"
    with httpx2.Client(base_url=server.address, timeout=240) as client:
        assert client.post("/tag", json={"model": "words", "input": [said.split()]}).is_success
        client.post("/mask", json={"input": "wait"})
    (line,) = [one for one in kept.read_text(encoding="utf-8").splitlines() if '"/tag"' in one][-1:]
    assert json.loads(line)["texts"] == ["call <PHONE_NUMBER> , IBAN <IBAN_CODE>"]


def test_masking_ends_by_name_alone(tmp_path: Path, server: MadeServer) -> None:
    path = tmp_path / "raw.jsonl"
    masking = Masking.asked(model=None, log=path, off=True)
    with made_server(server.shelf, masking=masking) as made:
        asked = {"model": "desk", "input": TEXT}
        assert httpx2.post(f"{made.address}/classify", json=asked, timeout=240).status_code == 200
        refused = httpx2.post(f"{made.address}/classify", json={**asked, "mask": True}, timeout=240)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "mask")
    masking.close()
    assert json.loads(path.read_text().splitlines()[0])["texts"] == [TEXT]


def test_a_log_that_would_not_be_masked_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "presidio_analyzer", None)
    with pytest.raises(InputError, match=r"presspool\[redact\]"):
        Masking.asked(model=None, log=tmp_path / "x", off=False)
    assert not (tmp_path / "x").exists()
