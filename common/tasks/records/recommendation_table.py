"""What a contract says of titles that are ranked: public caps on a record, and its negatives.

Invariant: how many tokens a record has at most follows from the caps alone.

Example:
    >>> RecommendationTable(history=2, candidates=3, title_length=8).max_length
    40
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from presspool.common.contract.contract_schema import TaskTable

MOST_TOKENS = 4096

Count = Annotated[int, Field(strict=True, ge=1, le=128)]


class RecommendationTable(TaskTable):
    """The contract's [task].

    Attributes:
        history: titles that a reader's history counts with, the last ones.
        candidates: most titles of an impression; one that shows more is left out.
        title_length: tokens that each title is truncated to.
        negatives: where unclicked titles come from; "impression": that very one.
    """

    kind: Literal["recommendation"] = "recommendation"
    history: Count = 8
    candidates: Annotated[Count, Field(ge=2)] = 8
    title_length: Annotated[int, Field(strict=True, ge=4, le=128)] = 24
    negatives: Literal["impression"] = "impression"

    @field_validator("negatives", mode="before")
    @classmethod
    def _own(cls, value: object) -> object:
        if value == "in-batch":
            raise ValueError(
                "in-batch negatives are other readers' candidates: one reader's loss, and "
                "gradient, would hang on who else was drawn, and clipping would bound nothing; "
                'use "impression"'
            )
        return value

    @model_validator(mode="after")
    def _not_too_long(self) -> RecommendationTable:
        if self.max_length > MOST_TOKENS:
            raise ValueError(
                f"(history + candidates) * title_length is {self.max_length} tokens: "
                f"at most {MOST_TOKENS}"
            )
        return self

    @property
    def titles(self) -> int:
        """Titles of a record, at most."""
        return self.history + self.candidates

    @property
    def max_length(self) -> int:
        """Tokens of a record, at most."""
        return self.titles * self.title_length

    @property
    def longest(self) -> tuple[str, int]:
        """A title."""
        return "title_length", self.title_length
