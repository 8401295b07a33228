"""A real, headless Chromium for tests: Debian's, driven by Playwright.

Where the tests run as root on Debian and it is missing it is installed; elsewhere they skip, and
say why. Playwright's own browsers are not used.

Example: `with chromium() as browser: browser.new_page().goto(address)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.fakes.debian.debian_packages import install

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAM = Path("/usr/bin/chromium")
PATIENCE = 120_000  # milliseconds: machines are shared and noisy
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}, "has_touch": True},
}


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for as long as the block lasts, or a skip that says why there can be none."""
    pytest.importorskip("playwright", reason="no Playwright: install presspool[dev]")
    from playwright.sync_api import sync_playwright

    program = str(_program())
    with sync_playwright() as playwright:
        # Its sandbox needs rights that a container does not give; it loads our own pages only.
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox"], timeout=PATIENCE
        )
        try:
            yield browser
        finally:
            browser.close()


def _program() -> Path:
    install("chromium", unless=PROGRAM.exists)
    if not PROGRAM.exists():
        pytest.skip("no Chromium here: install Debian's package chromium")
    return PROGRAM


class Watched:
    """A tab, everything that it asks for, and everything that it complains of."""

    def __init__(self, browser: Browser, address: str, **look: Any) -> None:
        self._address = address
        self._context = browser.new_context(**look)
        self._context.set_default_timeout(PATIENCE)
        self.page: Page = self._context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda said: self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def go(self, path: str) -> None:
        self.page.goto(f"{self._address}{path}")

    @property
    def foreign(self) -> list[str]:
        own = (f"{self._address}/", "data:")
        return [url for url in self.asked if not url.startswith(own)]

    def close(self) -> None:
        self._context.close()

    @property
    def barriers(self) -> list[tuple[str, list[str]]]:
        """What keeps people from using the page: axe's serious findings."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            (rule["id"], node["target"])
            for rule in found
            for node in rule["nodes"]
            if rule["impact"] in ("serious", "critical")
        ]
