r"""What a contract says of adverts that are shown, and what is wrong with one showing.

A record is one showing of an advert to a reader: its `text`, the columns of context that the
contract names, and `clicked`, 1 or 0. Where those who made the file kept only some of the showings
that nobody clicked, the contract says how many: `kept_unclicked`.

Invariants:
    * Columns of context are among `CONTEXT`, so that an outlet can import its data before it knows
      of a run; which values they may have is the contract's and public.
    * A record is judged alone, and a reason never quotes it.

Example:
    >>> table = AdTable(context={"device": ("phone", "desktop"), "section": ("news", "sport")})
    >>> list(table.context.values), table.model_dump()["context"]
    (['section', 'device'], {'section': ('news', 'sport'), 'device': ('phone', 'desktop')})
    >>> fault_of_click("maybe"), unknown_category("device")
    ('clicked that is neither 0 nor 1', 'unknown category of device')
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from presspool.common.contract.contract_schema import Fraction, Table, TaskTable
from presspool.common.tasks.task import MaxLength

CONTEXT = ("section", "device", "hour", "weekday", "region", "placement", "position", "campaign")
"""Columns that a showing's context may have."""
CLICKED = "clicked"
NO_CLICK = "clicked that is neither 0 nor 1"
BITS = {"0": 0, "1": 1, "false": 0, "true": 1}
"""How files spell whether somebody clicked."""


def _different(values: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if values and (len({*values}) < len(values) or any(v != v.strip() or not v for v in values)):
        raise ValueError("different, non-empty values without spaces around them")
    return values


Values = Annotated[
    Annotated[tuple[str, ...], Field(min_length=2, max_length=1000)] | None,
    AfterValidator(_different),
    Field(exclude_if=lambda there: there is None),
]


class Context(Table):
    """The values that each column may have; one that is not named is not read.

    Attributes:
        section: of the page beside the advert.
        device: that it is read on.
        hour, weekday: when.
        region: where.
        placement, position: of the advert on the page.
        campaign: that the advert is of.
    """

    section: Values = None
    device: Values = None
    hour: Values = None
    weekday: Values = None
    region: Values = None
    placement: Values = None
    position: Values = None
    campaign: Values = None

    @property
    def values(self) -> dict[str, tuple[str, ...]]:
        """Of each named column, in the order of `CONTEXT`, whatever the file's is."""
        return {name: there for name in CONTEXT if (there := getattr(self, name)) is not None}

    @model_validator(mode="after")
    def _some(self) -> Context:
        if not self.values:
            raise ValueError(f"name a column or more of {', '.join(CONTEXT)}, and its values")
        return self


class AdTable(TaskTable):
    """The contract's [task].

    Attributes:
        context: columns beside the text, and their values.
        max_length: tokens that a text is truncated to.
        kept_unclicked: share of the showings without a click that outlets' files have; each was
            kept or not by itself, before it was imported, and every click is there.
    """

    kind: Literal["ad-response"] = "ad-response"
    context: Context
    max_length: MaxLength = 32
    kept_unclicked: Annotated[Fraction, Field(exclude_if=lambda share: share == 1)] = 1.0


def fault_of_click(said: str) -> str | None:
    """Why a value of `clicked` says nothing, or None."""
    return None if said.strip().lower() in BITS else NO_CLICK


def unknown_category(name: str) -> str:
    """The reason for which a record has a value that a column of context may not have."""
    return f"unknown category of {name}"
