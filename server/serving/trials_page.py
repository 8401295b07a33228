"""The page of `/compare`: trials of adapters as a table.

Invariant: nothing but names of adapters and numbers is on it; it loads nothing and runs nothing.

Example: `comparison_page(trials.document())`.
"""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader

PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "referrer-policy": "no-referrer",
}
_PAGES = Environment(loader=PackageLoader("presspool.server.serving.page"), autoescape=True)
_PAGE = _PAGES.get_template("compare.html")


def comparison_page(document: dict[str, Any]) -> str:
    """HTML of what `Trials.document` tells."""
    return _PAGE.render(document)
