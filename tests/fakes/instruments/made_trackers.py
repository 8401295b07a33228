"""Made rows in the documented columns of three trackers, and homes that read them.

Each has four readers: ann and bob with consent and page views; cat without consent; dan whose only
page view is outside of the window of 2026. One row of each is no page view.

Example: `write_parquet(folder / "ga4.parquet", "ga4")`.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as paj
import pyarrow.parquet as pq
from tests.fakes.made_outlets import new_ledger

WINDOW = ["2026-01-01", "2026-07-01"]
# reader, text, label, when, consent, page view
VISITS = (
    ("ann", "Cup final", "sport", datetime(2026, 1, 1, tzinfo=UTC), True, True),
    ("ann", "Gold for all", "sport", datetime(2026, 2, 1, 8, tzinfo=UTC), True, True),
    ("ann", "Vote today", "world", datetime(2026, 6, 30, 23, 59, 59, tzinfo=UTC), True, True),
    ("bob", "Vote today", "world", datetime(2026, 3, 1, tzinfo=UTC), True, True),
    ("bob", "Leaving", "world", datetime(2026, 3, 1, 0, 1, tzinfo=UTC), True, False),
    ("bob", "Secret", "world", datetime(2026, 3, 2, tzinfo=UTC), False, True),
    ("cat", "Cup final", "sport", datetime(2026, 3, 1, tzinfo=UTC), None, True),
    ("dan", "Cup final", "sport", datetime(2026, 7, 1, tzinfo=UTC), True, True),
)
KEPT = [
    ("ann", "Vote today", "world"),
    ("ann", "Gold for all", "sport"),
    ("ann", "Cup final", "sport"),
    ("bob", "Vote today", "world"),
]
"""What an import keeps: a reader's newest first."""
CONSENT = {"snowplow": "agreed", "ga4": None, "parsely": "extra_data.agreed"}


def _snowplow(row: tuple[Any, ...]) -> dict[str, Any]:
    reader, text, label, when, agreed, view = row
    return {
        "app_id": "bugle",
        "collector_tstamp": when,
        "event": "page_view" if view else "page_ping",
        "event_id": f"{reader}-{when:%s}",
        "user_id": reader if reader == "bob" else "",
        "domain_userid": f"cookie-{when:%s}" if reader == "bob" else reader,
        "page_title": text,
        "page_urlpath": f"/{label}/2026/{reader}",
        "agreed": agreed,  # of a context of the outlet's own
    }


def _ga4(row: tuple[Any, ...]) -> dict[str, Any]:
    reader, text, label, when, agreed, view = row

    def parameter(key: str, value: str | None, number: int | None = None) -> dict[str, Any]:
        return {"key": key, "value": {"string_value": value, "int_value": number}}

    return {
        "event_date": f"{when:%Y%m%d}",
        "event_timestamp": int(when.timestamp()) * 1_000_000,
        "event_name": "page_view" if view else "scroll",
        "event_params": [
            parameter("ga_session_id", None, 7),
            parameter("page_location", f"https://bugle.example/{label}?utm=1"),
            parameter("page_title", text),
        ],
        "user_id": None,
        "user_pseudo_id": reader,
        "privacy_info": {"analytics_storage": {True: "Yes", False: "No", None: None}[agreed]},
    }


def _parsely(row: tuple[Any, ...]) -> dict[str, Any]:
    reader, text, label, when, agreed, view = row
    return {
        "action": "pageview" if view else "heartbeat",
        "apikey": "bugle.example",
        "extra_data": {"agreed": agreed},
        "metadata_section": label,
        "metadata_tags": ["x", "y"],
        "metadata_title": text,
        "ts_action": f"{when:%Y-%m-%d %H:%M:%S}",
        "visitor_ip": "192.0.2.7",
        "visitor_site_id": reader,
    }


def rows_of_tracker(preset: str) -> list[dict[str, Any]]:
    """All visits, as a tracker writes them."""
    made = {"snowplow": _snowplow, "ga4": _ga4, "parsely": _parsely}[preset]
    return [made(row) for row in VISITS]


def write_parquet(path: Path, preset: str) -> Path:
    """The visits as Parquet; what trackers deliver as JSON lines goes through Arrow's reader."""
    rows = rows_of_tracker(preset)
    if preset == "snowplow":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    lines = path.with_suffix(".jsonl")
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = {"ts_action": pa.string(), "event_date": pa.string()}
    schema = pa.schema([(n, kind) for n, kind in text.items() if n in rows[0]])
    pq.write_table(
        paj.read_json(lines, parse_options=paj.ParseOptions(explicit_schema=schema)), path
    )
    return path


def home_with(folder: Path, table: str, *, columns: str = "", name: str = "daily-bugle") -> Path:
    """A home whose `outlet.toml` has this `[data]` table, and a ledger."""
    folder.mkdir(exist_ok=True)
    lines = [f'name = "{name}"', 'policy = "policy.toml"', 'ledger = "ledger.db"']
    text = "\n".join([*lines, "[data]", table, "[columns]", columns, ""])
    (folder / "outlet.toml").write_text(text, encoding="utf-8")
    if not (folder / "ledger.db").exists():
        new_ledger(folder / "ledger.db")
    return folder
