"""`[data]` in `outlet.toml`: readers' records that stay where they lie until they are imported.

::

    [data]
    source = "postgres"               # or "duckdb", "parquet"
    location = "service=warehouse"    # parquet, duckdb: a path; relative to this file
    query = "SELECT reader, title AS text, section AS label, seen FROM visits"
    time = "seen"                     # its column of times; a preset brings its own
    window = [2026-01-01, 2026-07-01] # the first day, and the day after the last
    consent = "ads_consent = 'yes'"   # a predicate over the source's columns; NULL is no consent
    most_records = 50                 # of each reader the newest

Invariant: no password stands here, so that every field may be shown and kept.

Example:
    >>> DataTable(source="postgres", location="postgresql://ann:x@db/news", query="TABLE visits")
    Traceback (most recent call last):
    ...
    pydantic_core._pydantic_core.ValidationError: 1 validation error for DataTable
    ...
"""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Text = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*\z")]
DUCKDB_ONLY: Final = ("ga4", "parsely")  # presets for nested columns, or for times that are text


class DataTable(BaseModel):
    """Where an outlet's records lie, and which of them are imported.

    Attributes:
        source: what reads them.
        location: a Parquet file or a glob of them, a DuckDB file, or how libpq finds a PostgreSQL.
        query: one SELECT; for Parquet over the view `data`, which is also the default.
        preset: whose documented columns they have; with a query, what that gives.
        time: the query's column of times, as days or timestamps.
        window: the days from the first to the one before the second, in UTC.
        consent: an SQL predicate; a record of which it is not true is never imported.
        most_records: of a reader; the newest by `time`, equal ones in the order of their hashes.
        password_file: in libpq's form, for its owner alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    source: Literal["duckdb", "parquet", "postgres"]
    location: Text
    query: Text | None = None
    preset: Literal["ga4", "parsely", "snowplow"] | None = None
    time: Text | None = None
    window: tuple[date, date] | None = None
    consent: Text | None = None
    most_records: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | None = None
    password_file: Text | None = None

    def __str__(self) -> str:
        """For messages."""
        return f"{self.source} {self.location}"

    @field_validator("window")
    @classmethod
    def _ordered(cls, window: tuple[date, date] | None) -> tuple[date, date] | None:
        if window and window[0] >= window[1]:
            raise ValueError("window: the second day, which is outside, comes after the first")
        return window

    @model_validator(mode="after")
    def _whole(self) -> DataTable:
        for wrong, words in (
            (
                _has_password(self.location),
                "location holds a password: put it into a file that libpq knows (PGPASSFILE, "
                "PGSERVICEFILE), or that password_file names",
            ),
            (
                self.password_file is not None and self.source != "postgres",
                'password_file is for source = "postgres"',
            ),
            (
                self.preset in DUCKDB_ONLY and self.source == "postgres",
                f'preset "{self.preset}" reads source "parquet" or "duckdb"',
            ),
            (
                self.source != "parquet" and not self.query and self.preset != "snowplow",
                "give a query that says which records are meant",
            ),
            (
                self.preset is not None and self.time is not None,
                "a preset brings its own time: remove one of the two",
            ),
            (
                not (self.preset or self.time) and bool(self.window or self.most_records),
                "window and most_records need time, the name of the query's column of times",
            ),
        ):
            if wrong:
                raise ValueError(words)
        return self


def _has_password(location: str) -> bool:
    named = re.search(r"password\s*=", unquote(location), re.IGNORECASE)
    return bool(named) or ("://" in location and urlsplit(location).password is not None)
