"""What is asked drifts: the server's log says so, `/drift` has figures, and neither has a text."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from prometheus_client import Gauge
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from tests.conftest import COMMON, WORDS
from tests.fakes.grids.grid_parts import wait_until
from tests.fakes.instruments.browser import LOOKS, Watched, chromium
from tests.fakes.served.made_adapters import made_adapter
from tests.fakes.served.made_servers import MadeServer, made_server

from presspool.common.base.errors import InputError
from presspool.common.contract.contract import parse_contract
from presspool.server.serving.access_keys import add_key
from presspool.server.serving.drift.drift_routes import is_here
from presspool.server.serving.drift.drift_watch import DriftWatch
from presspool.server.serving.serving_metrics import ServingMetrics
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CANARY = "zebra-canary-7731"
KNOWN = {
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "presspool_adapter_info",
    "vllm:prompt_tokens",
    "vllm:generation_tokens",
    "vllm:request_success",
    "vllm:e2e_request_latency_seconds",
    "presspool_records",
    "presspool_calls",
}


def texts(count: int, topics: tuple[str, ...], *, longest: int, seed: int) -> list[str]:
    """Made texts of some topics."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        words = [rng.choice(WORDS[rng.choice(topics)]) for _ in range(rng.randint(1, longest // 2))]
        made.append(" ".join(words + rng.choices(COMMON, k=rng.randint(1, longest // 2))))
    return made


def usual(count: int, seed: int) -> list[str]:
    return texts(count, tuple(WORDS), longest=6, seed=seed)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, contract_body: dict[str, Any]) -> Path:
    root = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(("north", "south")):
        made_adapter(root / name, parse_contract(contract_body), seed=seed)
    rows = [json.dumps({"text": text}) for text in usual(2000, seed=1)]
    (root / "public.jsonl").write_text("\n".join(rows))
    return root


@pytest.fixture
def server(folders: Path, tmp_path: Path) -> Iterator[MadeServer]:
    shelf = AdapterShelf.of([("north", folders / "north")])
    watch = DriftWatch.of(folders / "public.jsonl", shelf)
    with made_server(shelf, page=True, drift=watch, root=folders) as made:
        yield made


def ask(server: MadeServer, some: list[str], path: str = "/classify") -> None:
    for start in range(0, len(some), 64):
        body = {"model": "north", "input": some[start : start + 64]}
        found = httpx2.post(f"{server.address}{path}", json=body, timeout=240)
        assert found.status_code == 200, found.text
    # What was answered is watched after its answer, by the thread that is then at work no more.
    assert wait_until(lambda: not server.queue.running)


def levels(server: MadeServer) -> dict[tuple[str, int], str]:
    (found,) = httpx2.get(f"{server.address}/drift", timeout=240).json()["adapters"]
    return {(one["of"], one["half_life"]): one["level"] for one in found["figures"]}


def alerts(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [r for r in caplog.records if r.name.endswith("drift_watch")]


def test_a_stream_like_the_reference_raises_nothing(
    server: MadeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "presspool")
    assert set(levels(server).values()) == {"too few yet"}
    ask(server, usual(1536, seed=2))
    assert set(levels(server).values()) == {"stable"}
    assert alerts(caplog) == []


def test_another_stream_is_said_in_the_log_and_so_is_its_end(
    server: MadeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "presspool")
    ask(server, usual(640, seed=3))
    ask(server, texts(640, ("sport",), longest=40, seed=4))
    found = levels(server)
    assert found["lengths", 256] == found["states", 256] == found["lengths", 4096] == "drifted"
    said = [r.getMessage() for r in alerts(caplog)]
    assert any("lengths of what north is asked, half-life 256" in one for one in said)
    assert all(r.levelno == logging.WARNING for r in alerts(caplog))
    assert len(said) <= 12  # a line a change, and not one a call
    ask(server, usual(2560, seed=5))
    assert levels(server)["lengths", 256] == "stable"
    assert alerts(caplog)[-1].levelno == logging.INFO


def test_vectors_tell_of_states_and_lengths_alone(server: MadeServer) -> None:
    ask(server, usual(1536, seed=6), "/v1/embeddings")
    found = levels(server)
    assert found["states", 256] == found["lengths", 256] == "stable"
    assert found["labels", 256] == "too few yet"


def test_no_text_is_in_what_is_told(
    server: MadeServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG, "presspool")
    ask(server, [f"{CANARY} {text} {CANARY}" * 3 for text in usual(640, seed=7)])
    told = httpx2.get(f"{server.address}/drift", timeout=240).text
    metrics = httpx2.get(f"{server.address}/metrics", timeout=240).text
    assert alerts(caplog) != []
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith("http")]
    assert CANARY not in "\n".join([told, metrics, *ours, *capfd.readouterr()])
    assert json.loads(told)["adapters"][0]["adapter"].startswith("sha256:")


def unknown_metrics(server: MadeServer) -> set[str]:
    """Metrics that are none of those that a server has without a reference."""
    text = httpx2.get(f"{server.address}/metrics", timeout=240).text
    names = {family.name for family in text_string_to_metric_families(text)}
    return {name.removesuffix("_created") for name in names} - KNOWN


def test_prometheus_carries_no_figure_away(
    server: MadeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(server, usual(128, seed=8))
    assert unknown_metrics(server) == set()
    known = ServingMetrics.exposition

    def leaky(metrics: ServingMetrics) -> bytes:
        Gauge("presspool_psi", "How far.", registry=metrics._registry).set(0.3)
        return known(metrics)

    monkeypatch.setattr(ServingMetrics, "exposition", leaky)
    assert unknown_metrics(server) == {"presspool_psi"}


def call_of(client: tuple[str, int] | None, *headers: str) -> Request:
    sent = [(name.encode(), b"127.0.0.1") for name in headers]
    return Request({"type": "http", "client": client, "headers": sent})


@pytest.mark.parametrize(
    ("call", "here"),
    [
        (call_of(("127.0.0.1", 1)), True),
        (call_of(("::1", 1)), True),
        (call_of(("::ffff:127.0.0.1", 1)), True),
        (call_of(("192.0.2.7", 1)), False),
        (call_of(("::ffff:192.0.2.7", 1)), False),
        (call_of(("testclient", 1)), False),
        (call_of(None), False),
        (call_of(("127.0.0.1", 1), "x-forwarded-for"), False),
        (call_of(("127.0.0.1", 1), "via"), False),
        (call_of(("127.0.0.1", 1), "forwarded"), False),
    ],
)
def test_only_who_is_at_this_machine_is_here(call: Request, here: bool) -> None:
    assert is_here(call) is here


def test_who_comes_through_a_proxy_is_refused_with_the_reason(server: MadeServer) -> None:
    for headers in ({"x-forwarded-for": "192.0.2.7"}, {"x-forwarded-for": "127.0.0.1"}):
        found = httpx2.get(f"{server.address}/drift", headers=headers, timeout=240)
        assert found.status_code == 403
        assert "stay on this machine" in found.json()["error"]["message"]


def test_figures_ask_for_the_scope_of_metrics(folders: Path, tmp_path: Path) -> None:
    keys, shelf = tmp_path / "keys.json", AdapterShelf.of([("north", folders / "north")])
    secrets = {scope: add_key(keys, scope, (scope,), None) for scope in ("ask", "metrics")}
    with made_server(shelf, keys=keys) as made:
        for scope, status, word in (("ask", 403, "metrics"), ("metrics", 404, "--reference")):
            bearer = {"authorization": f"Bearer {secrets[scope]}"}
            found = httpx2.get(f"{made.address}/drift", headers=bearer, timeout=240)
            assert (found.status_code, word in found.text) == (status, True), found.text


def test_an_adapter_that_is_loaded_later_is_watched_too(server: MadeServer) -> None:
    body = {"lora_name": "south", "lora_path": "south"}
    httpx2.post(f"{server.address}/v1/load_lora_adapter", json=body, timeout=240).raise_for_status()
    found = httpx2.get(f"{server.address}/drift", timeout=240).json()["adapters"]
    assert [one["name"] for one in found] == ["north", "south"]
    assert len(found[1]["figures"]) == 6
    body = {"lora_name": "north"}
    httpx2.post(
        f"{server.address}/v1/unload_lora_adapter", json=body, timeout=240
    ).raise_for_status()
    found = httpx2.get(f"{server.address}/drift", timeout=240).json()["adapters"]
    assert [one["name"] for one in found] == ["south"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (lambda: [{"text": text} for text in usual(99, seed=1)], "too small a reference"),
        (lambda: [{"title": "goal"}] * 200, "text"),
    ],
)
def test_a_reference_that_says_too_little_is_refused(
    folders: Path, tmp_path: Path, rows: Callable[[], list[dict[str, str]]], words: str
) -> None:
    file = tmp_path / "public.jsonl"
    file.write_text("\n".join(map(json.dumps, rows())))
    with pytest.raises(InputError, match=words):
        DriftWatch.of(file, AdapterShelf.of([("north", folders / "north")]))


@pytest.mark.parametrize("look", LOOKS)
def test_the_page_shows_the_figures_to_who_opens_them(server: MadeServer, look: str) -> None:
    with chromium() as browser:
        _look(browser, server, look)


def _look(browser: Browser, server: MadeServer, look: str) -> None:
    ask(server, usual(640, seed=9))
    tab = Watched(browser, server.address, **LOOKS[look], bypass_csp=True)
    tab.go("/")
    tab.page.wait_for_selector("fieldset label")
    assert not [url for url in tab.asked if "drift" in url]
    tab.page.click("#drift summary")
    tab.page.wait_for_selector("#drifted tbody tr >> nth=5")
    row = tab.page.locator("#drifted tbody tr").first.inner_text().split()
    assert row[:3] == ["labels", "stable", "256"]
    height = tab.page.locator("#drifted tbody tr").first.bounding_box()
    assert height
    assert height["height"] < 60  # one line each, also on a phone
    assert tab.barriers == []
    assert tab.complaints == []
    tab.close()
