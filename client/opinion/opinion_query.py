"""A question to all readers of an outlet: how many hold which label in which period.

::

    name = "mood-spring"              # asked once in the ledger's lifetime, whatever else it says
    labels = ["negative", "neutral", "positive"]
    first = 2026-01-01                # of the first period
    periods = 6
    by = "month"                      # "day", "week" or "month"
    share = 0.02                      # of the lifetime budget that it may cost

A reader is in at most one count of a period, so that all counts of a period together change by 1 in
L2 norm when a reader comes or goes. A period is one Gaussian of multiplier σ, a query as many of
them as it has periods; σ is what makes their Rényi cost at the ledger's order the share asked for.

Invariants:
    * Everything here is the operator's own choice, made before a record is read.
    * Nothing in a query depends on data: labels, periods and σ are public.

Example:
    >>> query = OpinionQuery(name="mood", labels=("bad", "good"), first=date(2026, 1, 1), periods=6,
    ...                      by="month", share=0.02)
    >>> event = query.event(order=6, room=5.0)
    >>> round(event.event.noise_multiplier, 3), event.count
    (13.416, 6)
"""

from __future__ import annotations

import hashlib
import math
from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from presspool.common.accounting import events
from presspool.common.base.errors import InputError
from presspool.common.base.toml_values import read_toml
from presspool.common.base.validation import validate
from presspool.common.contract.contract_schema import Name
from presspool.common.released.opinion_series import By, Periods

_RUN = b"presspool/reader-counts/v1\0"
LARGEST_QUERY = 1 << 16  # bytes


class OpinionQuery(BaseModel):
    """One question.

    Attributes:
        name: of it; the ledger answers a name once.
        labels: what is counted; readers with other labels are in no count.
        first: the first day of the first period.
        periods: how many.
        by: what a period is.
        share: the part of the lifetime filter that the answer costs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    labels: Annotated[tuple[str, ...], Field(min_length=2, max_length=64)]
    first: date
    periods: Annotated[int, Field(ge=1, le=366, strict=True)]
    by: By
    share: Annotated[float, Field(gt=0, le=1, strict=True)]

    @field_validator("labels")
    @classmethod
    def _once(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(labels)) < len(labels) or not all(label.strip() for label in labels):
            raise ValueError("expected different labels, none of them blank")
        return labels

    @model_validator(mode="after")
    def _every_month_has_it(self) -> OpinionQuery:
        if self.by == "month" and self.first.day > 28:
            raise ValueError("first: expected a day of the month up to 28, which every month has")
        if self.first.year + self.periods // 12 > 9000:
            raise ValueError("first: expected a day before the year 9000")
        return self

    @property
    def run(self) -> str:
        """What the ledger calls it: a digest of the name alone, so that a name is asked once."""
        return "sha256:" + hashlib.sha256(_RUN + self.name.encode()).hexdigest()

    @property
    def grid(self) -> Periods:
        """Its periods."""
        return Periods(first=self.first, count=self.periods, by=self.by)

    def event(self, *, order: int, room: float) -> events.SelfComposed:
        """What the answer does to readers: a Gaussian for each period.

        σ = √(T·α / (2·share·room)): T Gaussians cost T·α/(2σ²) at order α (Mironov 2017).

        Args:
            order: α of the ledger.
            room: nats that its lifetime filter holds in all.

        Raises:
            LedgerError: less noise than any budget could pay for.
        """
        sigma = math.sqrt(self.periods * order / (2 * self.share * room))
        gaussian = events.build(events.Gaussian, noise_multiplier=sigma)
        return events.SelfComposed(event=gaussian, count=self.periods)


def read_query(path: Path) -> OpinionQuery:
    """Read a query's file.

    Raises:
        InputError: missing, not TOML, or a wrong or unknown key.
    """
    body = read_toml(
        path,
        what="cannot read the query",
        advice="docs/guides/outlet.md shows one",
        most=LARGEST_QUERY,
    )
    return validate(OpinionQuery, body, where=str(path), fault=InputError)
