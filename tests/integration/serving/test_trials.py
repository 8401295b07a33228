"""One adapter in another's shadow, and one for a share of the callers."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.fakes.served.made_adapters import made_adapter
from tests.fakes.served.made_servers import made_server

import presspool
from presspool.common.base.errors import InputError
from presspool.common.contract.contract import parse_contract
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf
from presspool.server.serving.shelf.served_adapter import ServedAdapter
from presspool.server.serving.trials import AdapterTrial

CANARY = "zebra-canary-9917"
TEXTS = ["minister says treaty", "goal in final", "the bank", f"profit {CANARY}"]


@pytest.fixture
def paths(tmp_path: Path, contract_body: dict[str, Any]) -> list[tuple[str, Path]]:
    labels = {**contract_body["task"], "labels": ["yes", "no"]}
    bodies = {
        "now": contract_body,
        "next": contract_body,
        "else": {**contract_body, "task": labels},
    }
    made = [
        (name, made_adapter(tmp_path / name, parse_contract(body), seed=seed))
        for seed, (name, body) in enumerate(bodies.items())
    ]
    return [*made, ("again", made[1][1])]


def test_a_shadow_is_compared_and_never_shown(paths: list[tuple[str, Path]]) -> None:
    shelf, folders = AdapterShelf.of(paths), dict(paths)
    now, other = (
        [one.answer for one in presspool.load(folders[name]).predict(TEXTS)]
        for name in ("now", "next")
    )
    with (
        made_server(
            shelf, trials=[AdapterTrial.shadow("now=next"), AdapterTrial.shadow("next=again")]
        ) as server,
        httpx2.Client(base_url=server.address, timeout=240) as http,
    ):

        def compared(at: int) -> dict[str, Any]:
            while "records" not in (told := http.get("/compare").json()["trials"][at]):
                time.sleep(0.05)
            return dict(told)

        answer = http.post("/classify", json={"model": "now", "input": TEXTS})
        assert [one["label"] for one in answer.json()["data"]] == now
        assert answer.headers["x-presspool-model"] == "now"
        found = compared(0)
        http.post("/classify", json={"model": "next", "input": TEXTS})
        assert compared(1)["agreement"] == 1
        assert (found["records"], found["compared"], found["calls of now"]) == (4, 1, 1)
        assert found["agreed"] == sum(a == b for a, b in zip(now, other, strict=True))
        assert set(found["milliseconds"]) == {"now", "next"}
        page = http.get("/compare", headers={"accept": "text/html"})
        assert "now and next: shadow" in page.text
        assert CANARY not in page.text + str(found)
        refused = http.post("/classify", json={"model": "now", "input": ""})
        assert http.get("/compare").json()["trials"][0]["calls of now"] == 1 + refused.is_success


def test_a_broken_shadow_hurts_nobody_and_is_asked_no_more(
    paths: list[tuple[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf, answers = AdapterShelf.of(paths), ServedAdapter.answers

    def broken(adapter: ServedAdapter, *asked: Any) -> Any:
        assert adapter.name != "next"
        return answers(adapter, *asked)

    monkeypatch.setattr(ServedAdapter, "answers", broken)
    with (
        made_server(shelf, trials=[AdapterTrial.shadow("now=next")]) as server,
        httpx2.Client(base_url=server.address, timeout=240) as http,
    ):
        for number in range(1, 14):
            assert http.post("/classify", json={"model": "now", "input": TEXTS}).is_success
            while (found := _shaded(http))[0] < number:
                time.sleep(0.01)
    assert found == (13, 10)


def _shaded(http: httpx2.Client) -> tuple[int, int]:
    """How many calls a shadow is done with, and how many of them failed."""
    told = http.get("/compare").json()["trials"][0]
    done = (told.get(key, 0) for key in ("failed", "left out", "compared", "broken off"))
    return sum(done), told.get("failed", 0)


def test_a_shadow_reads_the_first_records_of_a_large_call(paths: list[tuple[str, Path]]) -> None:
    with (
        made_server(AdapterShelf.of(paths), trials=[AdapterTrial.shadow("now=next")]) as server,
        httpx2.Client(base_url=server.address, timeout=240) as http,
    ):
        answer = http.post("/classify", json={"model": "now", "input": TEXTS * 5})
        assert len(answer.json()["data"]) == 20
        while not _shaded(http)[0]:
            time.sleep(0.01)
        assert http.get("/compare").json()["trials"][0]["records"] == 16


def test_a_split_keeps_each_caller_with_one_adapter(paths: list[tuple[str, Path]]) -> None:
    with (
        made_server(AdapterShelf.of(paths), trials=[AdapterTrial.split("now=next:30%")]) as server,
        httpx2.Client(base_url=server.address, timeout=240) as http,
    ):

        def ask(user: str | None) -> str:
            asked = {"model": "now", "input": "goal", "user": user}
            answer = http.post("/classify", json=asked)
            by = answer.headers["x-presspool-model"]
            digest = server.shelf.get(by).provenance.adapter
            assert answer.headers["x-presspool-adapter"] == digest
            return by

        first = {f"reader-{n}": ask(f"reader-{n}") for n in range(40)}
        assert {user: ask(user) for user in first} == first
        assert 4 < Counter(first.values())["next"] < 22  # of 40 at 30 %
        assert http.post("/classify", json={"model": "next", "input": "goal"}).is_success
        found = http.get("/compare").json()["trials"][0]
        assert found["calls of now"] + found["calls of next"] == 80


@pytest.mark.parametrize(
    ("trials", "words"),
    [
        (["now=nobody"], "are served"),
        (["now=now"], "are served"),
        (["now=else"], "cannot be compared"),
        (["now=next", "now=next"], "two trials"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    paths: list[tuple[str, Path]], trials: list[str], words: str
) -> None:
    shelf = AdapterShelf.of(paths)
    with (
        pytest.raises(InputError, match=words),
        made_server(shelf, trials=[AdapterTrial.shadow(one) for one in trials]),
    ):
        pass


@pytest.mark.parametrize("typed", ["a", "a=b", "a=b:0%", "a=b:100%", "a=b:5", "a=b=c:5%"])
def test_a_split_that_is_none_is_refused(typed: str) -> None:
    with pytest.raises(InputError, match="NAME=OTHER:5%"):
        AdapterTrial.split(typed)
