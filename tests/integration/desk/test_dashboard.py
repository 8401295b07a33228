"""The dashboard in a real browser: asks nobody else, complains of nothing, can be used by all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.fakes.instruments.browser import LOOKS, Watched, chromium
from tests.fakes.made_dashboard import At, serving
from tests.fakes.made_evidence import ADAPTER, FIELDS, OTHER_RUN, Desk, change_result, make_desk
from tests.fakes.made_looks import made_pool
from tests.fakes.made_results import measured

from presspool.common.audit.cards import card_making, model_card
from presspool.common.audit.evidence import governance, sources
from presspool.common.runs.result_file import read_result

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    made = make_desk(tmp_path_factory.mktemp("desk"))
    rounds = [
        dataclasses.replace(
            entry, metrics=measured(accuracy=0.3 + 0.1 * entry.round, macro_f1=0.2, loss=1.0)
        )
        for entry in read_result(made.run).rounds
    ]
    rounds[2] = dataclasses.replace(
        rounds[2], outlets=("north-post",), refused={"south-echo": "norm-cap"}
    )
    change_result(made, rounds=tuple(rounds))
    ledgers = [sources.read_outlet(path) for path in made.exports]
    card = card_making.make(
        sources.read_run(made.run), ledgers, governance.parse(FIELDS), covers=()
    )
    (made.adapter / model_card.CARD_FILE).write_text(card.model_dump_json(), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def at(desk: Desk) -> Iterator[At]:
    with serving([*desk.exports, desk.run]) as found:
        yield found


def pages(desk: Desk) -> list[str]:
    return [
        "/",
        "/runs",
        "/alerts",
        f"/runs/{desk.contract.digest[7:]}",
        f"/runs/{OTHER_RUN[7:]}",
        f"/adapters/{ADAPTER}",
        "/outlets/presspool~north-post",
        "/ledgers/presspool~north-post",
        "/ledgers/presspool~north-post/1",
        "/nothing-here",
    ]


@pytest.fixture
def tab(browser: Browser, at: At) -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def open_tab(address: str = at.address, **look: Any) -> Watched:
        made.append(Watched(browser, address, **look))
        return made[-1]

    yield open_tab
    for one in made:
        one.close()


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_accessible_and_asks_nobody_else(
    tab: Callable[..., Watched], desk: Desk, look: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    watched = tab(**LOOKS[look], bypass_csp=True)  # for axe's own script, which is injected
    for path in pages(desk):
        watched.go(path)
        found = Axe().run(watched.page).response["violations"]
        assert [
            (path, rule["id"], node["target"])
            for rule in found
            for node in rule["nodes"]
            if rule["impact"] in ("serious", "critical")
        ] == []
    assert watched.foreign == []


@pytest.mark.parametrize("look", LOOKS)
def test_empty_pages_and_pages_of_trouble_are_accessible_too(
    tab: Callable[..., Watched], desk: Desk, tmp_path: Path, look: str
) -> None:
    """Nothing given; a pool without ledgers; a failed and an open run; sources that do not hold."""
    from axe_playwright_python.sync_playwright import Axe

    torn = tmp_path / "torn.export"
    torn.write_bytes(desk.exports[0].read_bytes()[:-200])
    trouble = [torn, tmp_path / "gone", desk.exports[1], desk.run]
    for paths, pool in (([], None), ([], made_pool), (trouble, made_pool)):
        with serving(paths, pool=pool) as at:
            watched = tab(at.address, **LOOKS[look], bypass_csp=True)
            for path in (
                "/",
                "/runs",
                "/alerts",
                f"/runs/{8:064x}",
                f"/runs/{'8' * 64}",
                f"/runs/{'9' * 64}",
            ):
                watched.go(path)
                found = Axe().run(watched.page).response["violations"]
                assert [
                    (path, r["id"]) for r in found if r["impact"] in ("serious", "critical")
                ] == []
                wide = watched.page.evaluate("document.documentElement.scrollWidth")
                assert wide <= LOOKS[look]["viewport"]["width"], path
            assert watched.foreign == []


@pytest.mark.parametrize("look", LOOKS)
def test_no_page_breaks_its_own_policy_or_is_wider_than_the_screen(
    tab: Callable[..., Watched], desk: Desk, look: str
) -> None:
    watched = tab(**LOOKS[look])
    for path in pages(desk):
        watched.go(path)
        wide = watched.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= LOOKS[look]["viewport"]["width"], path
    # Chromium reports the error page's status itself.
    said = [text for text in watched.complaints if "404" not in text]
    assert (said, watched.foreign) == ([], [])
    assert any("style.css" in url for url in watched.asked)


def test_the_sheet_is_applied_in_light_and_dark(tab: Callable[..., Watched]) -> None:
    papers = set()
    for look in ("light", "dark"):
        watched = tab(**LOOKS[look])
        watched.go("/")
        papers.add(watched.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert papers == {"rgb(251, 250, 247)", "rgb(22, 22, 21)"}


def test_everything_can_be_reached_by_keyboard_and_the_focus_is_seen(
    tab: Callable[..., Watched],
) -> None:
    watched = tab(**LOOKS["light"])
    watched.go("/outlets/presspool~north-post")
    page = watched.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") > 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.getElementById('content').contains(document.activeElement)")
    seen = set()
    for _ in range(60):
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid" or page.evaluate("document.activeElement === document.body")
        seen.add(page.evaluate("document.activeElement.getAttribute('href')"))
        page.keyboard.press("Tab")
    links = page.evaluate(
        "Array.from(document.querySelectorAll('main a'), a => a.getAttribute('href'))"
    )
    assert set(links) <= seen


def test_a_live_run_refreshes_itself_and_keeps_focus_and_place(
    browser: Browser, tmp_path: Path
) -> None:
    desk = make_desk(tmp_path)
    rounds = read_result(desk.run).rounds
    change_result(desk, status="running", rounds=rounds[:2])
    with serving([*desk.exports, desk.run]) as at:
        watched = Watched(browser, at.address, viewport={"width": 800, "height": 300})
        page = watched.page
        watched.go(f"/runs/{desk.contract.digest[7:]}")
        page.evaluate("window.same = true")
        page.evaluate("document.querySelector('#spent ~ .scroll a').focus()")
        focused = page.evaluate("document.activeElement.getAttribute('href')")
        place = page.evaluate("window.scrollY")
        assert place > 0
        rows = "document.querySelectorAll('#rounds ~ .scroll tbody tr').length"
        assert page.evaluate(rows) == 2
        refused = dataclasses.replace(
            rounds[2], outlets=("north-post",), refused={"south-echo": "norm-cap"}
        )
        marked = page.locator(".count").all_inner_texts()
        change_result(desk, status="complete", rounds=(*rounds[:2], refused))
        page.wait_for_selector("#rounds ~ .scroll tbody tr:nth-child(3)", timeout=60_000)
        assert page.evaluate("window.same")  # the page was not loaded again
        assert page.evaluate("document.activeElement.getAttribute('href')") == focused
        assert page.evaluate("window.scrollY") == place
        assert page.locator(".count").all_inner_texts() == [
            str(int(marked[0] if marked else 0) + 1)
        ]
        assert (watched.complaints, watched.foreign) == ([], [])
        watched.close()


def test_a_live_page_says_when_it_is_stale(browser: Browser, tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    change_result(desk, status="running")
    with serving([desk.run]) as at:
        watched = Watched(browser, at.address)
        watched.go("/")
        assert not watched.page.is_visible("#stale")
    watched.page.wait_for_selector("#stale", state="visible", timeout=60_000)
    watched.close()


def test_a_live_run_refreshes_itself_without_scripts(browser: Browser, tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    change_result(desk, status="running")
    with serving([desk.run]) as at:
        watched = Watched(browser, at.address, java_script_enabled=False)
        watched.go("/")
        meta = watched.page.locator("meta[http-equiv=refresh]")
        assert meta.get_attribute("content") == "15"
        watched.close()
