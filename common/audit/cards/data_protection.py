"""The part of a privacy card that a data-protection officer asks for.

Where its questions come from, as facts; none of their text is here:

* GDPR: Articles 6 (legal basis), 7 and 8 (consent, children), 9 (special categories), 26 (joint
  controllers), 35 and 36 (impact assessment, advice, consultation).
* IAB Europe's Transparency and Consent Framework, version 2.2: the eleven purposes, by number and
  name.
* Directive (EU) 2019/790, Article 4(3): reservation of rights against text and data mining.
* EDPB Opinion 28/2024 of 17 December 2024, paragraph 55: the attacks that a model is tested with.
* NIST SP 800-226 of March 2025: the nine blocks of its pyramid (figure 1). Its hazards stand here
  by subject, in words of ours.
* Regulation (EU) 2024/1689 and the Commission's guidelines of 18 July 2025 on general-purpose
  models: whoever modifies a model with more than a third of its training compute becomes its
  provider.

Invariants:
    * "Not applicable" is an answer only with its reason.
    * A purpose has its number and its own name.

Example:
    >>> purpose("10")
    '10 Develop and improve services'
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field, StringConstraints

from presspool.common.audit.cards.registry_card import Part, Text

PURPOSES: Final = (
    "Store and/or access information on a device",
    "Use limited data to select advertising",
    "Create profiles for personalised advertising",
    "Use profiles to select personalised advertising",
    "Create profiles to personalise content",
    "Use profiles to select personalised content",
    "Measure advertising performance",
    "Measure content performance",
    "Understand audiences through statistics or combinations of data from different sources",
    "Develop and improve services",
    "Use limited data to select content",
)
"""Of IAB TCF 2.2, from number 1 on."""
NOT_APPLICABLE: Final = "not applicable, because "
_BARE = re.compile(r"(n/?a|none|not applicable)[\s.,:;–-]*(because)?[\s.]*", re.IGNORECASE)


def purpose(number: str) -> str:
    """A purpose's number and name; any other text as it is."""
    known = number.isdecimal() and 1 <= int(number) <= len(PURPOSES)
    return f"{int(number)} {PURPOSES[int(number) - 1]}" if known else number


def reasoned(text: str) -> str:
    """The same text; raises `ValueError` for a refusal to answer that gives no reason."""
    if _BARE.fullmatch(text.strip()):
        raise ValueError(f'an answer, or "{NOT_APPLICABLE}…"')
    return text


def _known(text: str) -> str:
    if text != purpose(text.partition(" ")[0]) and not text.startswith(NOT_APPLICABLE):
        raise ValueError(f'a purpose of IAB TCF 2.2, or "{NOT_APPLICABLE}…"')
    return text


Answer = Annotated[Text, AfterValidator(reasoned)]
Purpose = Annotated[Answer, AfterValidator(_known)]
DayOrWhy = Annotated[
    Answer,
    StringConstraints(pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2}|not applicable, because .*\S.*)$"),
]


class Lawfulness(Part):
    """By what right readers' records are used.

    Attributes:
        legal_basis: of GDPR Article 6(1).
        consent_source: where and when consent was got, and in which words.
        cmp_id: of the consent management platform, by IAB Europe's list.
        tcf_policy_version: that stood in the consent strings.
        tdm_opt_out: whether rightsholders reserved their texts, and how that was kept.
    """

    legal_basis: Answer
    consent_source: Answer
    tcf_purposes: Annotated[tuple[Purpose, ...], Field(min_length=1)]
    cmp_id: Answer
    tcf_policy_version: Answer
    special_categories: Answer
    children: Answer
    tdm_opt_out: Answer


class Controllers(Part):
    """Who answers to readers."""

    controller: Answer
    joint_controllers: Answer


class Assessment(Part):
    """The impact assessment, and what the data-protection officer said of it."""

    reference: Answer
    date: DayOrWhy
    author: Answer
    conclusion: Answer
    consultation: Answer
    dpo_advice: Answer
    dpo_advice_date: DayOrWhy


class AttackTests(Part):
    """What each attack that the EDPB lists was found to get out of the model."""

    membership_inference: Answer
    attribute_inference: Answer
    exfiltration: Answer
    regurgitation: Answer
    model_inversion: Answer
    reconstruction: Answer


class Pyramid(Part):
    """NIST's blocks, from the top down: what is above holds only as far as what is below."""

    privacy_parameters: Answer
    unit_of_privacy: Answer
    algorithms_and_correctness: Answer
    utility: Answer
    bias: Answer
    access_control: Answer
    trust_model: Answer
    side_channels: Answer
    data_collection_exposure: Answer


class Hazards(Part):
    """How promises of differential privacy go wrong, and what is done about each here."""

    large_parameters: Answer
    weak_unit: Answer
    unbounded_contributions: Answer
    data_dependent_choices: Answer
    composition_of_releases: Answer
    unprotected_releases: Answer
    floating_point: Answer
    randomness: Answer
    faulty_implementation: Answer


class Nist(Part):
    """NIST SP 800-226, question by question."""

    pyramid: Pyramid
    hazards: Hazards


class AiAct(Part):
    """Whoever fine-tunes modifies a model: whether that makes them its provider.

    Attributes:
        modifier: the operator's own statement.
        training_compute: by public numbers, and what it is of the base model's.
        coordinator_compute: processor time and energy, as measured.
        outlets_compute: as the outlets' operators state it; never measured by the pool.
    """

    modifier: Answer
    training_compute: Answer
    coordinator_compute: Answer
    outlets_compute: Answer


class DataProtection(Part):
    """All of it."""

    lawfulness: Lawfulness
    controllers: Controllers
    impact_assessment: Assessment
    attack_tests: AttackTests
    nist_sp_800_226: Nist
    ai_act: AiAct
