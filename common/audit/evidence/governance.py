"""`fields.toml`: what no log can know, in the operator's own words.

::

    [article30]                       # record of processing activities, GDPR Article 30(1)
    controller = "Daily Bugle, Main Street 1, privacy@bugle.example"
    [dpia]                            # data protection impact assessment, GDPR Article 35
    reference = "DPIA 2026-04"
    [card]                            # for `presspool audit card`; a card refuses blanks
    name = "Topics for newsrooms"

`presspool audit fields` writes a file with every key and what belongs there.

Invariants:
    * Everything here is free text of the operator's and shown as such, never as checked.
    * In a report a blank field is shown as not stated, never hidden; a card refuses it by name.
    * Unknown keys are errors: a misspelt field would be a blank one that nobody notices.

Example:
    >>> parse({"dpia": {"reference": "DPIA 2026-04"}}).dpia.reference
    'DPIA 2026-04'
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from presspool.common.base.errors import InputError
from presspool.common.base.toml_values import toml_value
from presspool.common.base.validation import validate
from presspool.common.runs.result_fields import shows_safely

LONGEST_FILE = 1 << 20


def _showable(text: str) -> str:
    if not all(shows_safely(line) for line in text.split("\n")):
        raise ValueError("text without control characters")
    return text.strip()


Words = Annotated[str, Field(max_length=10_000), AfterValidator(_showable)]
Lines = tuple[Annotated[str, Field(max_length=1000), AfterValidator(_showable)], ...]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Key, what belongs there, and what stands there ("" for a blank), in their order."""
        for key, field in type(self).model_fields.items():
            value = getattr(self, key)
            text = value if isinstance(value, str) else "; ".join(value)
            yield key, field.description or key, text


class Article30(_Table):
    """Record of processing activities: the items of GDPR Article 30(1), (a) to (g)."""

    controller: Words = Field(default="", description="Controller: name and contact details (a)")
    joint_controllers: Words = Field(default="", description="Joint controllers, if any (a)")
    representative: Words = Field(default="", description="Controller's representative, if any (a)")
    data_protection_officer: Words = Field(default="", description="Data protection officer (a)")
    purposes: Words = Field(default="", description="Purposes of the processing (b)")
    data_subjects: Words = Field(default="", description="Categories of data subjects (c)")
    personal_data: Words = Field(default="", description="Categories of personal data (c)")
    recipients: Words = Field(default="", description="Categories of recipients (d)")
    transfers: Words = Field(
        default="", description="Transfers to third countries, with safeguards (e)"
    )
    erasure: Words = Field(default="", description="Envisaged time limits for erasure (f)")
    security: Words = Field(default="", description="Technical and organisational measures (g)")


class Dpia(_Table):
    """Where the impact assessment lies and what it came to (GDPR Article 35)."""

    reference: Words = Field(default="", description="Reference of the assessment")
    date: Words = Field(default="", description="Date of the assessment")
    author: Words = Field(default="", description="Who made it")
    conclusion: Words = Field(default="", description="Its conclusion on the remaining risk")
    consultation: Words = Field(
        default="", description="Prior consultation of the authority (Article 36)"
    )


class CardFields(_Table):
    """What a privacy card needs and no file can know."""

    name: Words = Field(default="", description="Name of the released model")
    data_curators: Lines = Field(default=(), description="Who publishes it, one text each")
    description: Words = Field(default="", description="What it is, in a few sentences")
    intended_use: Words = Field(default="", description="What it is meant for")
    region: Words = Field(default="", description="Region of the data, and whose laws apply")
    sector: Words = Field(default="", description="Industry that the data describes")
    publication_date: Words = Field(default="", description="Date of publication, YYYY-MM-DD")
    records_since: Words = Field(
        default="", description="First day of the records covered, YYYY-MM-DD"
    )
    records_until: Words = Field(
        default="", description="Last day of the records covered, YYYY-MM-DD"
    )
    data_source: Words = Field(
        default="", description="Static or Dynamic: whether new records come in"
    )
    releases: Words = Field(
        default="", description="Plans for further releases from the same readers"
    )
    preprocessing: Words = Field(
        default="", description="What was done to the data, or looked at, before training"
    )
    hyperparameters: Words = Field(
        default="", description="How the contract's numbers were chosen, and on whose data"
    )
    justification: Words = Field(default="", description="Why these choices, and who decided")
    approver: Words = Field(default="", description="Who approved the release")
    retention: Words = Field(default="", description="How long model and logs are kept")
    erasure: Words = Field(default="", description="What happens when a reader asks for erasure")
    sources: Words = Field(default="", description="Where more is written about it")
    notes: Words = Field(default="", description="Anything else; say none if there is nothing")
    registry_authors: Lines = Field(
        default=(), description="Who filled in this card, one text each"
    )
    license: Words = Field(default="", description="Licence of the adapter, as an SPDX identifier")
    language: Words = Field(default="", description="Language of the records, as an ISO 639-1 code")


class Fields(_Table):
    """All tables of the file."""

    article30: Article30 = Article30()
    dpia: Dpia = Dpia()
    card: CardFields = CardFields()


def parse(body: Mapping[str, Any], *, where: str = "fields.toml") -> Fields:
    """Fields from TOML values.

    Raises:
        InputError: an unknown key, or a value that is no text; names table and key.
    """
    return validate(Fields, body, where=where, fault=InputError)


def read(path: Path | None) -> Fields:
    """The file's fields; all blank where there is no file.

    Raises:
        InputError: not readable, not TOML, or as `parse`.
    """
    if path is None:
        return Fields()
    try:
        with path.open("rb") as stream:
            data = stream.read(LONGEST_FILE)
        body = tomllib.loads(data.decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            "cannot read the fields",
            where=str(path),
            got=str(error),
            advice="`presspool audit fields` writes a file to fill in",
        ) from None
    return parse(body, where=str(path))


def template() -> str:
    """A `fields.toml` with every key blank and what belongs there."""
    parts = ["# What no log can know. A report shows blanks as not stated; a card refuses them."]
    for name in Fields.model_fields:
        table: _Table = getattr(Fields(), name)
        parts.append(f"\n[{name}]")
        for key, what, _ in table.rows():
            many = not isinstance(getattr(table, key), str)
            parts.append(f"# {what}\n{key} = {toml_value([] if many else '')}")
    return "\n".join(parts) + "\n"
