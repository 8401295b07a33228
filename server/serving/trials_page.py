"""The page of `/compare`: trials of adapters as a table.

Invariant: nothing but names of adapters and numbers is on it; it loads nothing and runs nothing.

Example: `comparison_page(trials.document())`.
"""

from __future__ import annotations

from typing import Any

from jinja2 import Environment

PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "referrer-policy": "no-referrer",
}
_PAGE = Environment(autoescape=True).from_string(
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Adapters compared</title>
<style>body{font:1rem system-ui;margin:2rem}td,th{padding:.3rem .8rem;text-align:left}</style>
</head><body><h1>Adapters compared</h1>
{% for one in trials %}<h2>{{ one.name }} and {{ one.other }}: {{ one.kind }}</h2>
<table>{% for key, value in one.items() if key not in ("name", "other", "kind", "milliseconds") %}
<tr><th scope="row">{{ key }}</th><td>{{ value }}</td></tr>{% endfor %}
{% for name, ms in one.milliseconds.items() %}<tr><th scope="row">{{ name }}, milliseconds</th>
<td>half within {{ ms.p50 }}, 95 % within {{ ms.p95 }}</td></tr>{% endfor %}</table>
{% else %}<p>None: see <code>--shadow</code> and <code>--split</code>.</p>{% endfor %}
</body></html>
"""
)


def comparison_page(document: dict[str, Any]) -> str:
    """HTML of what `Trials.document` tells."""
    return _PAGE.render(document)
