"""What a card answers a data-protection officer: the operator's words, and what the program knows.

Invariants:
    * What the program knows is not asked for, and what only people know is never made up: a blank
      stays blank, so that the card is refused by the field's name.
    * No figure here is measured at an outlet. Where outlets computed on the coordinator's own
      machine (a simulation), that machine's time and energy are theirs too, and stay off the card.

Example: `answers(run, fields, measured)["attack_tests"]["membership_inference"]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from presspool.common.audit.cards.data_protection import (
    Assessment,
    AttackTests,
    Lawfulness,
    purpose,
)
from presspool.common.audit.evidence.evidence import RunReading
from presspool.common.audit.evidence.governance import DataProtectionFields, Fields
from presspool.common.base.numbers import bound
from presspool.common.contract.contract import Contract
from presspool.common.contract.statement import all_of
from presspool.common.runs.compute_file import COMPUTE_FILE, RunCompute, read_compute

Part = dict[str, Any]
UNSTATED_FLOP = 1e23
"""Taken for the base model's training where nobody states it: guidelines of 18 July 2025, on
modifiers; the guidelines' mark of a general-purpose model."""


def answers(run: RunReading, fields: Fields, measured: Mapping[str, Any]) -> Part:
    """The card's `data_protection`, blank where nobody answered.

    Args:
        run: the run.
        fields: the operator's words.
        measured: the card's `governance.empirical_epsilon`.

    Raises:
        InputError: the run's `compute.json` is damaged.
    """
    said = fields.data_protection
    return {
        "lawfulness": _own(said, Lawfulness)
        | {"tcf_purposes": [purpose(number) for number in said.tcf_purposes]},
        "controllers": {
            "controller": fields.article30.controller,
            "joint_controllers": fields.article30.joint_controllers,
        },
        "impact_assessment": _own(said, Assessment) | _own(fields.dpia, Assessment),
        "attack_tests": _own(said, AttackTests) | {"membership_inference": _membership(measured)},
        "nist_sp_800_226": {
            "pyramid": _pyramid(run.contract, said),
            "hazards": _hazards(run.contract, fields),
        },
        "ai_act": _ai_act(said, read_compute(run.path)),
    }


def _own(table: Any, part: Any) -> Part:
    """The fields of a part that stand in a table under the same names."""
    return {key: getattr(table, key) for key in part.model_fields if hasattr(table, key)}


def _membership(measured: Mapping[str, Any]) -> str:
    if measured["status"] == "not measured":
        return f"not tested: {measured['why']}"
    return f"{measured['attack']}: {measured['sentence']}"


def _pyramid(contract: Contract, said: DataProtectionFields) -> Part:
    words = contract.trust.words_of(contract.body())
    epsilon, delta = contract.trust.epsilon(contract), contract.plan.delta
    return {
        "privacy_parameters": f"ε = {bound(epsilon)}, δ = {bound(delta)} for this run at one "
        "outlet; over all runs the outlet's ledger holds its own limit (governance.outlets).",
        "unit_of_privacy": f"{all_of(contract.plan.unit).capitalize()} at one outlet, added or "
        "removed.",
        "algorithms_and_correctness": f"{contract.trust.accountant()}; each ledger is computed "
        "again by a second accountant, and the noise is on a grid (registry.implementation).",
        "utility": said.utility,
        "bias": said.bias,
        "access_control": said.access_control,
        "trust_model": f"{contract.federation.trust}: {words.curator}",
        "side_channels": "How long an outlet takes to answer is not protected. Which outlets "
        "answer is never decided by their data.",
        "data_collection_exposure": said.data_collection_exposure,
    }


def _hazards(contract: Contract, fields: Fields) -> Part:
    plan, unit = contract.plan, contract.plan.unit
    return {
        "large_parameters": f"ε = {bound(contract.trust.epsilon(contract))}, "
        f"δ = {bound(plan.delta)}: both are stated exactly, with the sum over all outlets.",
        "weak_unit": f"The unit is {all_of(unit)}"
        + ("." if unit == "reader" else ", which is weaker than all records of one reader."),
        "unbounded_contributions": f"At most {plan.records_per_reader} records of a {unit} in a "
        "step, their mean gradient clipped before noise is added.",
        "data_dependent_choices": fields.card.hyperparameters,
        "composition_of_releases": "Every run is reserved in the outlet's ledger before it starts; "
        "a lifetime filter that never resets refuses what does not fit.",
        "unprotected_releases": "One module of the outlet's decides what leaves it: noisy updates "
        "alone. What else the outlet publishes of its readers is not covered.",
        "floating_point": "Clipped gradients are whole numbers before they are summed, and the "
        "noise lies on the same grid (registry.implementation.mechanisms).",
        "randomness": "ChaCha20, keyed at the outlet by its operating system; a run whose noise "
        "can be drawn again gets no card.",
        "faulty_implementation": "A ledger proves what was declared, not that noise was drawn: "
        "that rests on the outlet's own installation and self-test, and on attack_tests.",
    }


def _ai_act(said: DataProtectionFields, spent: RunCompute | None) -> Part:
    return {
        "modifier": said.ai_act_modifier,
        "training_compute": _training(said.base_model_flop, spent),
        "coordinator_compute": _coordinator(spent),
        "outlets_compute": said.outlets_compute
        and f"{said.outlets_compute} (their operators' statement: not measured at outlets, "
        "because how long an outlet takes is not protected)",
    }


def _training(base: str, spent: RunCompute | None) -> str:
    """What the training took, and whether that is a third of the base model's."""
    if spent is None:
        return _unmeasured() if base else ""
    took = f"at most {spent.training_flop:.2g} operations in expectation, by public numbers"
    flop = flop_of(base)
    if not base or (flop is None and base[:1].isdecimal()):
        return ""
    original = flop or UNSTATED_FLOP
    verdict = "more" if spent.training_flop > original / 3 else "no more"
    known = "as its provider states" if flop else f"taken as nobody states it ({base})"
    return f"{took}; {verdict} than a third of the base model's {original:.2g}, {known}"


def flop_of(text: str) -> float | None:
    """A positive number of operations; None for words.

    Example:
        >>> flop_of("2.4e21"), flop_of("not applicable, because its provider is silent")
        (2.4e+21, None)
    """
    try:
        found = float(text)
    except ValueError:
        return None
    return found if 0 < found < float("inf") else None


def _coordinator(spent: RunCompute | None) -> str:
    if spent is None:
        return _unmeasured()
    if spent.outlets == "here":
        return (
            f"kept beside the run ({COMPUTE_FILE}) and not stated here, because the outlets "
            "computed on the same machine, and how long an outlet takes is not protected"
        )
    joules = spent.energy_joules
    energy = "energy not measured, because the machine has no counter that may be read"
    if joules is not None:
        energy = f"{joules / 3.6e6:.3g} kWh of its machine's processors"
    return f"{spent.processor_seconds:.3g} processor seconds of the coordinator; {energy}"


def _unmeasured() -> str:
    return f"not measured, because the run's folder has no {COMPUTE_FILE}"
