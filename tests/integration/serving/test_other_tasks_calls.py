"""Entities and rankings by their routes, beside labels on the same base model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pyarrow as pa
import pytest
from tests.fakes.served.made_adapters import made_adapter
from tests.fakes.served.made_servers import made_server

from presspool.common.contract.contract import parse_contract
from presspool.common.released.adapter_model import AdapterModel
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf

TITLES = ["goal in final", "minister treaty", "bank profit", "goal in final"]


def test_tags_and_rankings_are_those_of_predict(
    tmp_path: Path, contract_body: dict[str, Any]
) -> None:
    tables = {
        "desk": contract_body["task"],
        "spans": {"kind": "tagging", "format": "spans", "labels": ["person", "place"]},
        "words": {"kind": "tagging", "format": "tokens", "labels": ["person", "place"]},
        "ads": {
            "kind": "ad-response",
            "max_length": 16,
            "context": {"device": ["phone", "desktop"], "section": ["news", "sport"]},
        },
        "feed": {"kind": "recommendation", "history": 2, "candidates": 5, "title_length": 8},
    }
    paths = {
        name: made_adapter(tmp_path / name, parse_contract({**contract_body, "task": table}))
        for name, table in tables.items()
    }
    models = {name: AdapterModel.load(path) for name, path in paths.items()}

    def expected(name: str, **columns: list[str]) -> list[Any]:
        rows = {key: pa.array(said, pa.large_string()) for key, said in columns.items()}
        said = models[name].answers(pa.table(rows))
        return [models[name].task.told(one.answer) for one in said]

    shelf = AdapterShelf.of(list(paths.items()))
    with made_server(shelf) as server, httpx2.Client(base_url=server.address, timeout=240) as http:
        tagged = http.post("/tag", json={"model": "spans", "input": TITLES}).json()["data"]
        assert [one["entities"] for one in tagged] == expected("spans", text=TITLES)
        assert any(one["entities"] for one in tagged)
        context = [
            {"device": "phone", "section": name} for name in ("news", "sport", "sport", "sport")
        ]
        shown = [{"text": title, **more} for title, more in zip(TITLES, context, strict=True)]
        clicked = http.post("/ads", json={"model": "ads", "input": shown}).json()["data"]
        columns = {name: [one[name] for one in context] for name in ("device", "section")}
        chances = [one["click_probability"] for one in clicked]
        assert chances == pytest.approx(expected("ads", text=TITLES, **columns), abs=1e-5)
        assert len(set(chances)) > 1
        strange = http.post("/ads", json={"model": "ads", "input": [{"text": "a", "device": "tv"}]})
        assert strange.status_code == 400
        assert "tv" not in strange.text
        words = [title.split() for title in TITLES]
        tagged = http.post("/tag", json={"model": "words", "input": words}).json()["data"]
        kept = [json.dumps(one) for one in words]
        assert [one["entities"] for one in tagged] == expected("words", tokens=kept)
        body = {"model": "feed", "query": ["rates bank"], "documents": TITLES}
        ranked = http.post("/rerank", json=body).json()["results"]
        history, titles = [json.dumps(["rates bank"])], [json.dumps(TITLES)]
        (wanted,) = expected("feed", history=history, candidates=titles)
        assert [one["document"]["text"] for one in ranked] == [one["title"] for one in wanted]
        assert [one["relevance_score"] for one in ranked] == [one["score"] for one in wanted]
        assert sorted(one["index"] for one in ranked) == [0, 1, 2, 3]
        best = http.post("/rerank", json={**body, "top_n": 1, "return_documents": False}).json()
        assert best["results"] == [
            {key: ranked[0][key] for key in ("index", "relevance_score")},
        ]
        many = http.post("/rerank", json={**body, "documents": TITLES * 2})
        assert many.status_code == 400
        assert "more than 5 candidates" in many.json()["error"]["message"]
        assert http.post("/tag", json={"model": "spans", "input": [["a"]]}).status_code == 400
