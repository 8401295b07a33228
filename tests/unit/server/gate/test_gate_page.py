"""The gate's page in a real browser: people read it on a telephone as well."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes.instruments.browser import LOOKS, chromium

from presspool.server.gate import gate_page
from presspool.server.gate.finding import Finding
from presspool.server.gate.gate_judging import FullReport

LONG = "entry 4: ε = 3.00 recomputed, 3.00 claimed, by two accountants of 2 runs"


@pytest.mark.parametrize("look", LOOKS)
def test_what_was_found_has_room_on_every_screen(tmp_path: Path, look: str) -> None:
    found = Finding(check="ledgers", what="north-post", verdict="passed", said=LONG)
    report = FullReport(
        entry="sha256:" + "1" * 64,
        passed=True,
        format="presspool-gate/1",
        title="topics@1",
        production=None,
        time="2026-11-30T08:00:00Z",
        versions={"python": "3.11"},
        findings=(found,),
    )
    file = tmp_path / "gate.html"
    file.write_text(gate_page.render(report), encoding="utf-8")
    with chromium() as browser:
        page = browser.new_context(**LOOKS[look]).new_page()
        page.goto(file.as_uri())
        cell = page.get_by_text(LONG).bounding_box()
        main = page.locator("main").bounding_box()
    assert cell is not None
    assert main is not None
    assert cell["width"] > main["width"] / 2
    assert cell["height"] < 120
