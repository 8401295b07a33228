"""The page of `presspool serve --ui` in a real browser: asked, answered, and asking nobody else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from tests.fakes.instruments.browser import LOOKS, Watched, chromium
from tests.fakes.served.made_adapters import made_adapter
from tests.fakes.served.made_servers import MadeServer, made_server

import presspool
from presspool.common.contract.contract import parse_contract
from presspool.common.released.explained_answers import explain
from presspool.common.released.gate_overrides import Override, write_overrides
from presspool.server.serving.access_keys import add_key
from presspool.server.serving.masking import Masking
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TEXT = "zebra <b>minister</b> says treaty"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, contract_body: dict[str, Any]) -> Path:
    root = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(("north", "south")):
        made_adapter(root / name, parse_contract(contract_body), seed=seed)
    return root


@pytest.fixture(scope="module")
def server(folders: Path) -> Iterator[MadeServer]:
    shelf = AdapterShelf.of([("north", folders / "north"), ("south", folders / "south")])
    with made_server(shelf, page=True) as made:
        yield made


@pytest.mark.parametrize("look", LOOKS)
def test_somebody_pastes_a_text_and_sees_answers_reasons_and_where_from(
    browser: Browser, server: MadeServer, folders: Path, look: str
) -> None:
    tab = Watched(browser, server.address, **LOOKS[look], bypass_csp=True)
    tab.go("/")
    page = tab.page
    page.wait_for_selector("fieldset label")
    assert tab.barriers == []
    page.fill("#text", TEXT)
    page.click("#ask")
    page.wait_for_selector("article >> nth=1")
    for place, name in enumerate(("north", "south")):
        model = presspool.load(folders / name)
        (expected,) = model.predict([TEXT])
        article = page.locator("article").nth(place)
        assert article.locator(".answer").inner_text() == (expected.answer or "unsure")
        article.locator("mark").first.wait_for()  # each asks for its own reasons
        assert article.locator("mark").all_inner_texts() == [
            word for word, _ in explain(model, TEXT)[0].words
        ]
        article.locator("summary").click()
        article.get_by_text(model.statement).wait_for()
    assert page.locator("article b").count() == 0  # what is pasted stays text
    assert tab.barriers == []
    assert tab.foreign == []
    assert tab.complaints == []
    assert not [url for url in tab.asked if "zebra" in url]
    tab.close()


def test_a_page_may_load_from_this_port_alone_and_only_where_it_was_asked_for(
    server: MadeServer, folders: Path
) -> None:
    found = httpx2.get(f"{server.address}/", timeout=240)
    assert found.status_code == 200
    assert "default-src 'none'" in found.headers["content-security-policy"]
    assert "north" not in found.text
    with made_server(AdapterShelf.of([("north", folders / "north")])) as plain:
        assert httpx2.get(f"{plain.address}/", timeout=240).status_code == 404


@pytest.mark.parametrize(
    ("log", "off", "promise"),
    [
        (False, False, "is answered and is not kept."),
        (True, False, "with personal data masked."),
        (True, None, "with numbers and addresses, but no names, masked."),
        (True, True, "as it came."),
    ],
)
def test_the_page_says_whether_texts_are_kept(
    folders: Path,
    tmp_path: Path,
    log: bool,
    off: bool | None,
    promise: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if log and not off:
        pytest.importorskip("presidio_analyzer", reason="no presidio: install presspool[redact]")
    if off is None:  # the extra alone, without a model that knows names
        monkeypatch.setattr("presspool.server.serving.masking.MODELS", ("no_such_model",))
    log_file = tmp_path / "inputs.log" if log else None
    masking = Masking.asked(model=None, log=log_file, off=bool(off))
    shelf = AdapterShelf.of([("north", folders / "north")])
    with made_server(shelf, masking=masking, page=True) as made:
        page = httpx2.get(f"{made.address}/", timeout=240).text
    assert f"{promise}</span>" in page
    assert ("not kept" in page) == (not log)


def test_a_text_longer_than_what_is_read_is_told_to_be_cut(
    browser: Browser, server: MadeServer
) -> None:
    tab = Watched(browser, server.address)
    tab.go("/")
    tab.page.wait_for_selector("fieldset label")
    cut = tab.page.get_by_text("Read: the first 12 tokens")
    for times, told in ((1, 0), (20, 2)):  # two adapters
        tab.page.fill("#text", "goal final " * times)
        tab.page.click("#ask")
        tab.page.wait_for_selector("#ask:not([disabled])")
        tab.page.wait_for_selector("article >> nth=1 >> mark")
        assert cut.count() == told
    tab.close()


def test_the_page_names_who_let_an_adapter_into_use_without_its_gate(
    browser: Browser, folders: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "north"
    shutil.copytree(folders / "north", copied)
    chief = Override(time="2026-11-30T09:00:00Z", by="B. Chief", reason="election night")
    write_overrides(copied, [chief])
    with made_server(AdapterShelf.of([("north", copied)]), page=True) as made:
        tab = Watched(browser, made.address)
        tab.go("/")
        tab.page.wait_for_selector("fieldset label")
        tab.page.fill("#text", TEXT)
        tab.page.click("#ask")
        tab.page.click("article summary")
        tab.page.get_by_text(chief.sentence).wait_for()
        tab.close()


def test_with_keys_the_page_asks_for_one_and_shows_nothing_before(
    browser: Browser, folders: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    secret = add_key(keys, "desk", ("ask",), None)
    shelf = AdapterShelf.of([("north", folders / "north")])
    with made_server(shelf, keys=keys, page=True) as made:
        tab = Watched(browser, made.address)
        tab.go("/")
        tab.page.wait_for_selector("#key", state="visible")
        assert "north" not in tab.page.content()
        tab.page.fill("#key", secret)
        tab.page.press("#key", "Tab")
        tab.page.wait_for_selector("fieldset label")
        assert "north" in tab.page.content()
        tab.close()


def test_reasons_are_those_of_the_adapter_and_bad_asks_are_refused(
    server: MadeServer, folders: Path
) -> None:
    model = presspool.load(folders / "north")
    label = model.task.options[1]
    body = {"model": "north", "input": TEXT, "label": label}
    said = httpx2.post(f"{server.address}/explain", json=body, timeout=240).json()
    (expected,) = explain(model, TEXT, [label])
    assert [one["word"] for one in said["words"]] == [word for word, _ in expected.words]
    assert [one["adds"] for one in said["words"]] == pytest.approx(
        [adds for _, adds in expected.words], abs=1e-5
    )
    for change, status, word in (
        ({"label": "no such"}, 400, label),
        ({"model": "east"}, 404, "north"),
        ({"input": [TEXT]}, 400, "input"),
    ):
        answer = httpx2.post(f"{server.address}/explain", json=body | change, timeout=240)
        assert answer.status_code == status, answer.text
        assert word in answer.json()["error"]["message"]
