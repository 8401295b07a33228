"""The page of `/compare`: trials of adapters as a table.

Invariant: nothing but names of adapters and numbers is on it; it loads nothing and runs nothing.

Example: `comparison_page(trials.document())`.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from jinja2 import Environment

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
_PAGE = Environment(autoescape=True).from_string(
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Adapters compared · PressPool</title><style>{{ style|safe }}</style></head>
<body><header class="top"><p class="masthead"><b>PressPool</b><span>adapters on trial</span></p>
</header><main><h1>Adapters compared</h1>
{% for one in trials %}<section><h2>{{ one.name }} and {{ one.other }}: {{ one.kind }}</h2>
<table class="fit">{% for key, value in one.items() if key not in apart %}
<tr><th scope="row">{{ words.get(key, key) }}</th><td>{{ value }}</td></tr>{% endfor %}
{% for name, ms in one.milliseconds.items() %}<tr><th scope="row">{{ name }}, milliseconds</th>
<td>half within {{ ms.p50 }}, 95 % within {{ ms.p95 }}</td></tr>{% endfor %}</table></section>
{% else %}<p>None: see <code>--shadow</code> and <code>--split</code>.</p>{% endfor %}
</main><footer><p>Numbers since this server was started; no text is among them.</p>
</footer></body></html>
"""
)


def comparison_page(document: dict[str, Any]) -> str:
    """HTML of what `Trials.document` tells."""
    apart = ("name", "other", "kind", "milliseconds")
    return _PAGE.render(document, style=_STYLE.read_text("utf-8"), words=_WORDS, apart=apart)
