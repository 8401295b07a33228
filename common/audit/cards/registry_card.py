"""The part of a privacy card that a public registry asks for, and what all its parts are made of.

The fields, by their own names, are those of the Differential Privacy Deployments Registry's top
tier (registry.opendp.org, tier 3). A card of format 1 has those of the schema of July 2026; one of
format 2 also says of which kind each curator is, and how many privacy units there are (the
registry's pull requests 190 and 205 of July 2026).

Invariants:
    * No field may be blank: not missing, not null, not white space, not an empty list.
    * `Basic`, `PrivacyLoss` and `Registry` are what both formats share; a card has `…One` or
      `…Two`.

Example:
    >>> Parameters(epsilon=3.0, delta=1e-5).model_dump()
    {'epsilon': 3.0, 'delta': 1e-05}
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints


def _day(text: str) -> str:
    date.fromisoformat(text)
    return text


Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20_000, pattern=r"\S")
]


Texts = Annotated[tuple[Text, ...], Field(min_length=1)]


Day = Annotated[
    str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), AfterValidator(_day)
]


DataSource = Literal["Static", "Dynamic"]


CuratorType = Literal["Government", "Industry", "Nonprofit"]


Bound = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Part(BaseModel):
    """A part of the card: closed, and never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Curator(Part):
    """Who publishes it, and of which kind they are."""

    data_curator_name: Text
    data_curator_type: CuratorType


Curators = Annotated[tuple[Curator, ...], Field(min_length=1)]


class Basic(Part):
    """Tier 1: what it is and whose."""

    name: Text
    data_curators: Texts | Curators
    intended_use: Text
    data_product_type: Literal["Machine learning model"]
    data_product_region: Text
    description: Text
    publication_date: Day
    data_product_sector: Text


class BasicOne(Basic):
    """As format 1 has it."""

    data_curators: Texts


class BasicTwo(Basic):
    """As format 2 has it."""

    data_curators: Curators


class DpVariant(Part):
    """Which differential privacy, over which data."""

    variant_name: Literal["Approximate DP"]
    data_domain: Text
    unprotected_quantities: Text


class Parameters(Part):
    """ε and δ of the run."""

    epsilon: Bound
    delta: Bound


class PrivacyLoss(Part):
    """For whom, and how much."""

    privacy_unit: Text
    privacy_unit_details: Text
    privacy_parameters: Parameters
    privacy_parameters_details: Text


class PrivacyLossTwo(PrivacyLoss):
    """As format 2 has it.

    Attributes:
        number_of_privacy_units: as declared in the contract; nobody counted them.
    """

    number_of_privacy_units: Annotated[int, Field(ge=1)]


class DeploymentModel(Part):
    """Who trusts whom, and how often something is released."""

    model_name: Literal["Federated"]
    model_name_details: Text
    actors: Text
    release_type: Literal["One release", "Many releases"]
    release_type_details: Text
    data_source_type: DataSource
    data_source_type_details: Text
    access_type: Literal["Non-interactive"]
    access_type_details: Text


class Accounting(Part):
    """How losses add up."""

    post_processing: Text
    composition: Text


class Implementation(Part):
    """How it was built, and why so."""

    preprocessing_and_hyperparameter_tuning: Text
    mechanisms: Text
    justification: Text


class Administrative(Part):
    """Where more is written, and by whom."""

    sources: Text
    notes: Text
    registry_authors: Texts


class Registry(Part):
    """The registry's own fields, under its own names."""

    basic: Basic
    dp_variant: DpVariant
    privacy_loss: PrivacyLoss
    deployment_model: DeploymentModel
    accounting: Accounting
    implementation: Implementation
    administrative: Administrative


class RegistryOne(Registry):
    """As format 1 has it."""

    basic: BasicOne


class RegistryTwo(Registry):
    """As format 2 has it."""

    basic: BasicTwo
    privacy_loss: PrivacyLossTwo
