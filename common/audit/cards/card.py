"""The privacy card: everything that somebody must know before they rely on an adapter's privacy.

`registry` has the fields, by their own names, of the Differential Privacy Deployments Registry's
top tier (registry.opendp.org, tier 3); `training` what decides how private the training was;
`governance` who answers for it and where it can be checked; `data_protection` what a
data-protection officer asks for, which a card of format 1 does not have.

Invariants:
    * Every card that is made is of format 2; those of format 1 stay readable, and stay as they are.
    * No field may be blank: not missing, not null, not white space, not an empty list. What was not
      done says so and why (`NotMeasured`, `Cosignatures.note`).
    * Every fault is named by the path of its field, all of them at once.
    * Maps by outlet have exactly the outlets that the card covers.
    * The JSON Schema of these classes is `docs/privacy-card.schema.json`.

An attack's result gets onto the card through a file `empirical.json` in the run folder, which holds
one `Measured` (`Measured.model_validate_json`); only canary statistics, never readers' own.

Example:
    >>> parse({"format": "presspool-privacy-card/1", "statement": " "})
    Traceback (most recent call last):
    ...
    presspool.common.base.errors.CardError: privacy card: 5 fields are blank or wrong:
      expected something in every field
      got      governance: missing; outlets_covered: missing; registry: missing; ...
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import (
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from presspool.common.audit.cards.data_protection import DataProtection
from presspool.common.audit.cards.registry_card import (
    Bound,
    Part,
    Registry,
    RegistryOne,
    RegistryTwo,
    Text,
    Texts,
)
from presspool.common.base.errors import CardError
from presspool.common.base.validation import expected

FIRST_FORMAT: Final = "presspool-privacy-card/1"
FORMAT: Final = "presspool-privacy-card/2"
EMPIRICAL_FILE = "empirical.json"
PACKAGES = (
    "python",
    "presspool",
    "torch",
    "transformers",
    "peft",
    "opacus",
    "dp-accounting",
    "flwr",
)
"""Whose versions a run's result states."""


Sha256 = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Decimal = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(E[+-]?[0-9]+)?$")]


C = TypeVar("C", bound="Card")


class Training(Part):
    """What decides how private the training was.

    Attributes:
        clip: C by parameter group.
        joint_sensitivity: √(ΣC²), which the noise is scaled to.
        noise_multiplier: σ.
        sampling_rate: q.
        rounds: in which an outlet trained, at most.
        steps: T = rounds · local steps.
        records_per_reader: k.
        expected_batch: b by outlet, a public constant q·n.
        collusion_threshold: how many other outlets may collude, with the coordinator, at most.
        dropout_threshold: how many outlets may drop out, at most, before the claim is weaker.
    """

    accesses_covered: Text
    accesses_excluded: Text
    outputs_covered: Text
    outputs_excluded: Text
    adjacency: Text
    clip: Annotated[dict[Text, Bound], Field(min_length=1)]
    joint_sensitivity: Bound
    noise_multiplier: Bound
    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    rounds: Annotated[int, Field(ge=1)]
    local_steps: Annotated[int, Field(ge=1)]
    steps: Annotated[int, Field(ge=1)]
    records_per_reader: Annotated[int, Field(ge=1)]
    population: dict[Text, Annotated[int, Field(ge=1)]]
    expected_batch: dict[Text, Bound]
    sampling_assumed: Text
    sampling_implemented: Text
    accountant: Text
    accountant_version: Text
    random_generator: Text
    noise_added_by: Text
    collusion_threshold: Count
    collusion_details: Text
    dropout_threshold: Count
    dropout_details: Text

    @model_validator(mode="after")
    def _agree(self) -> Self:
        joint = math.sqrt(sum(c * c for c in self.clip.values()))
        if not math.isclose(joint, self.joint_sensitivity, rel_tol=1e-9):
            raise ValueError("clip: every group, so that √(ΣC²) is joint_sensitivity")
        if self.steps != self.rounds * self.local_steps:
            raise ValueError("steps: rounds times local_steps")
        return self


class Checkpoint(Part):
    """The signed head that covers the run's entries."""

    entries: Annotated[int, Field(ge=1)]
    root: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Cosignatures(Part):
    """Who else signed that they saw the log."""

    count: Count
    by: dict[Text, Annotated[int, Field(ge=1)]]
    note: Text

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.count != len(self.by):
            raise ValueError("by: one witness for each of count")
        return self


class OutletGovernance(Part):
    """One outlet's ledger, as far as it concerns this adapter.

    Attributes:
        claim_epsilon: (with `claim_delta`) covers everything that the outlet ever released.
        budget_used: share of the lifetime filter that is used.
        budget_left: the rest.
        runs_composed: runs under that claim so far.
        ledger_index: entry of this run's reservation.
        approved: by whom the outlet's people approved the run, or where that is written.
    """

    ledger: Text
    ledger_index: Count
    claim_epsilon: Bound
    claim_delta: Bound
    budget_used: Share
    budget_left: Share
    runs_composed: Annotated[int, Field(ge=1)]
    checkpoint: Checkpoint
    cosignatures: Cosignatures
    approved: Text


class Measured(Part):
    """An attack's lower bound on ε, with its interval.

    Attributes:
        contract: what was attacked; the adapter's own.
        interval: lower and upper end at `confidence`; the lower end is the bound.
        claimed: the ε that it was held against.
        control: what the same attack found where no noise was added.
    """

    status: Literal["measured"]
    contract: Sha256
    attack: Text
    confidence: Annotated[float, Field(gt=0, lt=1)]
    interval: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]
    claimed: Bound
    control: Text
    sentence: Text


class NotMeasured(Part):
    """No attack was run, and why."""

    status: Literal["not measured"]
    why: Text


class Hashes(Part):
    """What exactly was used and made.

    Attributes:
        code: of the package that made this card, over its files in sorted order.
    """

    base_model: Sha256
    tokenizer: Sha256
    adapter: Sha256
    code: Sha256
    contract: Sha256


class WorstCase(Part):
    """A reader of every outlet that the card covers; exact decimal sums."""

    epsilon: Decimal
    delta: Decimal


class Governance(Part):
    """Who answers for it, and where it can be checked."""

    approver: Text
    retention: Text
    erasure: Text
    outlets: dict[Text, OutletGovernance]
    reader_of_every_outlet: WorstCase
    empirical_epsilon: Annotated[Measured | NotMeasured, Field(discriminator="status")]
    hashes: Hashes
    versions: Annotated[dict[Text, Text], Field(min_length=1)]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        missing = [name for name in PACKAGES if name not in self.versions]
        if missing:
            raise ValueError(f"versions.{missing[0]}: blank")
        return self


class Card(Part):
    """A whole card of either format; see the module for its invariants."""

    format: Literal["presspool-privacy-card/1", "presspool-privacy-card/2"]
    statement: Text
    outlets_covered: Texts
    registry: Registry
    training: Training
    governance: Governance

    @model_validator(mode="after")
    def _agree(self) -> Self:
        covered = set(self.outlets_covered)
        for path, found in (
            ("governance.outlets", self.governance.outlets),
            ("training.population", self.training.population),
            ("training.expected_batch", self.training.expected_batch),
        ):
            if found.keys() != covered:
                missing = ", ".join(sorted(covered ^ found.keys()))
                raise ValueError(f"{path}.{missing}: exactly the outlets that the card covers")
        if self.governance.hashes.adapter not in self.statement:
            raise ValueError("statement: names the adapter by its hash")
        return self


class CardOne(Card):
    """As cards were until there was format 2."""

    format: Literal["presspool-privacy-card/1"]
    registry: RegistryOne


class CardTwo(Card):
    """As cards are made."""

    format: Literal["presspool-privacy-card/2"]
    registry: RegistryTwo
    data_protection: DataProtection


CARDS: TypeAdapter[CardOne | CardTwo] = TypeAdapter(
    Annotated[CardOne | CardTwo, Field(discriminator="format")]
)
"""Of any format: what `docs/privacy-card.schema.json` is the JSON Schema of."""


def parse(body: Mapping[str, Any]) -> Card:
    """A card from JSON values, of the format that it says.

    Raises:
        CardError: names every field that is blank or wrong.
    """
    return parse_as(CardOne if body.get("format") == FIRST_FORMAT else CardTwo, body)


def parse_as(kind: type[C], body: Mapping[str, Any]) -> C:
    """A card of one format; raises as `parse`."""
    try:
        return kind.model_validate(dict(body))
    except ValidationError as error:
        raise _named(error) from None


def _named(error: ValidationError) -> CardError:
    faults = {}
    for fault in error.errors(include_url=False):
        path = [str(part) for part in fault["loc"] if part not in ("measured", "not measured")]
        blank = fault["type"] == "missing" or fault["input"] in (None, "", (), [])
        what = "blank" if blank else expected(fault)
        if fault["type"] == "missing":
            what = "missing"
        faults[".".join(path)] = what
    return CardError(
        f"{len(faults)} field{'s are' if len(faults) != 1 else ' is'} blank or wrong",
        where="privacy card",
        expected="something in every field",
        fields=tuple(faults),
        got="; ".join(f"{path}: {what}" if path else what for path, what in sorted(faults.items())),
    )
