"""Columns of three widely used trackers, as the reader, text, label and time that a task knows.

A page view is a record: its title is the text, its section the label. Who is logged in is one
reader wherever that is known, else the tracker's own cookie is.

* Snowplow, `atomic.events`: https://docs.snowplow.io/docs/fundamentals/canonical-event/
* GA4's export to BigQuery, as Parquet: https://support.google.com/analytics/answer/7029846
* Parse.ly's Data Pipeline: https://docs.parse.ly/data-pipeline-schema/

Invariants:
    * No expression fails over a record, whatever it holds: what does not parse is NULL there.
    * Only GA4 documents a consent of its own; for the others it is the operator's to name.

Example:
    >>> PRESETS["snowplow"].columns["text"]
    'page_title'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Preset:
    """SQL over a tracker's documented columns.

    Attributes:
        columns: what a task calls a column, and the expression that makes it.
        time: when it happened.
        events: which rows are page views.
        consent: the tracker's own predicate; "" where it documents none.
    """

    columns: Mapping[str, str]
    time: str
    events: str
    consent: str = ""


def _parameter(key: str) -> str:
    """A text of GA4's repeated `event_params`."""
    return f"[p.value.string_value FOR p IN event_params IF p.key = '{key}'][1]"


PRESETS: Final[Mapping[str, Preset]] = {
    "snowplow": Preset(
        columns={
            "reader": "coalesce(nullif(user_id, ''), domain_userid)",
            "text": "page_title",
            "label": "nullif(split_part(page_urlpath, '/', 2), '')",
        },
        time="collector_tstamp",
        events="event = 'page_view'",
    ),
    "ga4": Preset(
        columns={
            "reader": "coalesce(nullif(user_id, ''), user_pseudo_id)",
            "text": _parameter("page_title"),
            "label": f"nullif(split_part(split_part({_parameter('page_location')}, '/', 4), "
            "'?', 1), '')",
        },
        time="TRY(make_timestamp(event_timestamp))",  # microseconds, UTC
        events="event_name = 'page_view'",
        consent="privacy_info.analytics_storage = 'Yes'",
    ),
    "parsely": Preset(
        columns={
            "reader": "visitor_site_id",
            "text": "metadata_title",
            "label": "metadata_section",
        },
        time="TRY_CAST(ts_action AS TIMESTAMP)",  # text in JSON lines, UTC
        events="action = 'pageview'",
    ),
}
