"""`fields.toml`: what no log can know, in the operator's own words.

::

    [article30]                       # record of processing activities, GDPR Article 30(1)
    controller = "Daily Bugle, Main Street 1, privacy@bugle.example"
    [dpia]                            # data protection impact assessment, GDPR Article 35
    reference = "DPIA 2026-04"
    [card]                            # for `presspool audit card`; a card refuses blanks
    name = "Topics for newsrooms"
    [data_protection]                 # for the same; "not applicable, because …" is an answer
    legal_basis = "Consent, Article 6(1)(a)"

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

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from presspool.common.base.errors import CardError, InputError
from presspool.common.base.toml_values import read_toml, toml_value
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
    date: Words = Field(default="", description="Date of the assessment, YYYY-MM-DD")
    author: Words = Field(default="", description="Who made it")
    conclusion: Words = Field(default="", description="Its conclusion on the remaining risk")
    consultation: Words = Field(
        default="", description="Prior consultation of the authority (Article 36)"
    )


class CardFields(_Table):
    """What a privacy card needs and no file can know."""

    name: Words = Field(default="", description="Name of the released model")
    data_curators: Lines = Field(
        default=(),
        description="Who publishes it, one text each, with its kind: Daily Bugle (Industry); "
        "kinds: Government, Industry, Nonprofit",
    )
    description: Words = Field(default="", description="What it is, in a few sentences")
    intended_use: Words = Field(default="", description="What it is meant for")
    region: Words = Field(default="", description="Region of the data, and whose laws apply")
    sector: Words = Field(
        default="",
        description="Industry that the data describes; the registry knows Technology, Healthcare, "
        "Education, Government, Energy, Finance, and takes others",
    )
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


_OR_WHY = '; or "not applicable, because …"'


class DataProtectionFields(_Table):
    """What a data-protection officer asks for; `cards/data_protection` says by which rules."""

    legal_basis: Words = Field(
        default="", description="Legal basis of the training: point of GDPR Article 6(1), and why"
    )
    consent_source: Words = Field(
        default="", description=f"Where and when readers consented, and to which words{_OR_WHY}"
    )
    tcf_purposes: Lines = Field(
        default=(),
        description="Purposes of IAB TCF 2.2 that readers consented to, by number 1 to 11, one "
        f"text each{_OR_WHY}",
    )
    cmp_id: Words = Field(
        default="", description=f"Consent management platform: its number at IAB Europe{_OR_WHY}"
    )
    tcf_policy_version: Words = Field(
        default="", description=f"TCF policy version in the consent strings{_OR_WHY}"
    )
    special_categories: Words = Field(
        default="", description="Special categories of data (Article 9) in the records, and why"
    )
    children: Words = Field(
        default="", description="Whether children's records are in, and how they are kept out"
    )
    tdm_opt_out: Words = Field(
        default="",
        description="Texts reserved against text and data mining (Directive 2019/790 Article 4): "
        "how that was kept",
    )
    dpo_advice: Words = Field(
        default="", description=f"What the data protection officer advised{_OR_WHY}"
    )
    dpo_advice_date: Words = Field(
        default="", description=f"Date of that advice, YYYY-MM-DD{_OR_WHY}"
    )
    attribute_inference: Words = Field(
        default="", description=f"Test by attribute inference: result and date{_OR_WHY}"
    )
    exfiltration: Words = Field(
        default="", description=f"Test by exfiltration of the model: result and date{_OR_WHY}"
    )
    regurgitation: Words = Field(
        default="", description=f"Test for regurgitated training data: result and date{_OR_WHY}"
    )
    model_inversion: Words = Field(
        default="", description=f"Test by model inversion: result and date{_OR_WHY}"
    )
    reconstruction: Words = Field(
        default="", description=f"Test by reconstruction: result and date{_OR_WHY}"
    )
    utility: Words = Field(
        default="", description="How useful the model is, measured how and on whose data"
    )
    bias: Words = Field(
        default="", description="For whom it is worse: small groups, languages, regions"
    )
    access_control: Words = Field(
        default="", description="Who gets at the records and at the model, and how that is held"
    )
    data_collection_exposure: Words = Field(
        default="", description="Where records lie before training, how long, and who sees them"
    )
    ai_act_modifier: Words = Field(
        default="",
        description="Whether you are, by this training, a provider under the AI Act, and why",
    )
    base_model_flop: Words = Field(
        default="",
        description="Operations that training the base model took, as its provider states them, "
        f"as 2.4e21{_OR_WHY}",
    )
    outlets_compute: Words = Field(
        default="",
        description="Processor time and energy at the outlets, as their operators state them: the "
        f"pool measures none there{_OR_WHY}",
    )


class Fields(_Table):
    """All tables of the file."""

    article30: Article30 = Article30()
    dpia: Dpia = Dpia()
    card: CardFields = CardFields()
    data_protection: DataProtectionFields = DataProtectionFields()


_OF_A_CARD = ("controller", "joint_controllers")  # of Article 30, what a card says as well


def needed(fields: Fields, *, record: bool = False) -> Iterator[tuple[str, str, str]]:
    """Table, key and what belongs there of each blank that a card refuses.

    Args:
        fields: as far as they are filled in.
        record: the row of the record of processing is wanted too, so all of Article 30.
    """
    for name in ("card", "data_protection", "dpia", "article30"):
        table: _Table = getattr(fields, name)
        for key, what, text in table.rows():
            if not text and (name != "article30" or record or key in _OF_A_CARD):
                yield name, key, what


def curator(text: str) -> dict[str, str]:
    """A curator's name and kind, as the registry has them; the kind is blank where none is said.

    Example:
        >>> curator("Daily Bugle (Industry)")
        {'data_curator_name': 'Daily Bugle', 'data_curator_type': 'Industry'}
    """
    found = re.fullmatch(r"(.*\S)\s*\((\w+)\)", text)
    name, kind = found.groups() if found else (text, "")
    return {"data_curator_name": name, "data_curator_type": kind}


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
    body = read_toml(
        path,
        what="cannot read the fields",
        advice="`presspool audit fields` writes a file to fill in",
        most=LONGEST_FILE,
    )
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


def require_filled(blank: Sequence[str], *, where: str, advice: str = "") -> None:
    """Raise `CardError` for fields that are blank where a paper must say something.

    Args:
        blank: table and key of each.
        where: the paper.
        advice: what to do.
    """
    if blank:
        raise CardError(
            "blank fields",
            where=where,
            fields=tuple(blank),
            got="; ".join(blank),
            expected="something in every field",
            advice=advice,
        )
