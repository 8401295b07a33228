"""Pages as HTML and the two files that they load, printed from `views`.

Invariants:
    * Autoescape is on; no inline script and no inline style, so that the policy can forbid both.
    * A page loads its style sheet, and while a run goes on one script, from this port alone.
    * Numbers stand in `<data>` elements with their exact value and source, as in the report.

Example:
    >>> from presspool.common.audit.evidence.evidence import Evidence
    >>> page = Pages().overview(Snapshot(evidence=Evidence(outlets=(), runs=()), now=0.0))
    >>> "<script" in page, "<style" in page
    (False, False)
"""

from __future__ import annotations

import hashlib
import time
from importlib import resources
from typing import Any

from markupsafe import Markup, escape

from presspool import __version__
from presspool.common.audit.dashboard import ledger_views, views
from presspool.common.audit.dashboard.alerts import alerts
from presspool.common.audit.dashboard.snapshot import Snapshot
from presspool.common.audit.pages import phrases
from presspool.common.audit.pages import report_page as audit_page

SECONDS = 5  # between two looks of a page that refreshes itself
_AUDIT = resources.files("presspool.common.audit")
_TEMPLATES = _AUDIT / "dashboard" / "templates"
_STYLE = _AUDIT / "pages" / "templates" / "style.css"


def asset(name: str) -> bytes:
    """A file that pages load."""
    parts = {
        "style.css": (_STYLE, _TEMPLATES / "dashboard.css"),
        "live.js": (_TEMPLATES / "live.js",),
    }
    return b"".join(part.read_bytes() for part in parts[name])


def _versioned(name: str) -> str:
    return f"/assets/{name}?{hashlib.sha256(asset(name)).hexdigest()[:12]}"


class Pages:
    """Prints pages."""

    def __init__(self) -> None:
        self._templates = audit_page.environment("presspool.common.audit.dashboard")
        self._templates.filters |= {
            "key": views.key,
            "date": _date,
            "marked": _marked,
        }
        self._templates.globals |= {
            "style": _versioned("style.css"),
            "script": _versioned("live.js"),
            "seconds": SECONDS,
            "version": __version__,
            "refusal_words": phrases.reason,
            "composition": phrases.COMPOSITION,
        }

    def overview(self, look: Snapshot) -> str:
        """The first page."""
        return self._page("overview", look, views.overview(look))

    def runs(self, look: Snapshot) -> str:
        """All runs."""
        lines = views.run_lines(look)
        return self._page("runs", look, {"runs": lines, "live": any(x.live for x in lines)})

    def outlet(self, look: Snapshot, part: str) -> str:
        """One outlet."""
        return self._page("outlet", look, views.outlet(look, part))

    def ledger(self, look: Snapshot, part: str, page: int) -> str:
        """A page of a ledger."""
        return self._page("ledger", look, ledger_views.ledger(look, part, page))

    def entry(self, look: Snapshot, part: str, index: int) -> str:
        """One entry with its proof."""
        return self._page("entry", look, ledger_views.entry(look, part, index))

    def run(self, look: Snapshot, digest: str) -> str:
        """One run."""
        return self._page("run", look, views.run(look, f"sha256:{digest}"))

    def adapter(self, look: Snapshot, sha: str) -> str:
        """One adapter."""
        return self._page("adapter", look, views.adapter(look, sha))

    def alerts(self, look: Snapshot) -> str:
        """What somebody should look at."""
        return self._page("alerts", look, views.alert_page(look))

    def error(self, heading: str, sentence: str, look: Snapshot | None = None) -> str:
        """A page that says what went wrong."""
        return self._page("error", look, {"heading": heading, "sentence": sentence, "live": False})

    def _page(self, name: str, look: Snapshot | None, values: dict[str, Any]) -> str:
        shown = {"look": look, "alerts_now": alerts(look) if look else (), "here": name}
        return self._templates.get_template(f"{name}.html").render(**shown, **values)


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _marked(text: str) -> Markup:
    """Words between backticks as code."""
    plain, *rest = text.split("`")
    parts = [escape(plain)]
    for at, part in enumerate(rest):
        parts.append(Markup("<code>{}</code>").format(part) if at % 2 == 0 else escape(part))
    return Markup("").join(parts)
