"""A real, headless Chromium for tests: Debian's, driven by Playwright.

Where the tests run as root on Debian and it is missing it is installed; elsewhere they skip, and
say why. Playwright's own browsers are not used.

Example: `with chromium() as browser: browser.new_page().goto(address)`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PROGRAM = Path("/usr/bin/chromium")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for as long as the block lasts, or a skip that says why there can be none."""
    pytest.importorskip("playwright", reason="no Playwright: install presspool[dev]")
    from playwright.sync_api import sync_playwright

    program = str(_program())
    with sync_playwright() as playwright:
        # Its sandbox needs rights that a container does not give; it loads our own pages only.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def _program() -> Path:
    if not PROGRAM.exists() and os.geteuid() == 0 and Path("/etc/debian_version").exists():
        subprocess.run(
            ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            timeout=600,
            check=False,
        )
    if not PROGRAM.exists():
        pytest.skip("no Chromium here: install Debian's package chromium")
    return PROGRAM
