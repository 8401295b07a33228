"""The page of `/compare`: trials of adapters as a table.

Invariant: nothing but names of adapters and numbers is on it; it loads nothing and runs nothing.

Example: `comparison_page(trials.document())`.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader

PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "referrer-policy": "no-referrer",
}
_STYLE = resources.files("presspool.common.audit") / "pages" / "templates" / "style.css"
_WORDS = {
    "agreement": "share of records answered alike",
    "compared": "calls of which both answers were compared",
    "failed": "calls at which the other one failed",
    "agreed": "records answered alike",
    "records": "records that both answered",
    "left out": "calls that the other one was not asked, for others waited",
    "broken off": "calls at which the other one made way",
}
_PAGES = Environment(loader=PackageLoader("presspool.server.serving.page"), autoescape=True)
_PAGE = _PAGES.get_template("compare.html")


def comparison_page(document: dict[str, Any]) -> str:
    """HTML of what `Trials.document` tells."""
    apart = ("name", "other", "kind", "milliseconds")
    return _PAGE.render(document, style=_STYLE.read_text("utf-8"), words=_WORDS, apart=apart)
