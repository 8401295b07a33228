"""The outlet's decision: a contract is held against its own policy, first of all.

Pure decisions: nothing is read, written or trained here. What comes in with a round is held against
the policy in `presspool.client.consent.received_adapter`. A refusal names the field of the
contract, what was asked, what is allowed and what to do, in words for the outlet's lawyer; only its
code travels.

Invariants:
    * Everything is verified before anything is done, cheap rules before dear ones.
    * Nothing here sees readers' data, so no refusal can depend on it.
    * "Not now" (quiet hours, a missing approval) is no refusal: the run may be asked for again.

Example:
    >>> import json
    >>> from presspool.client.consent.policy import Policy
    >>> from presspool.common.contract.contract import EXAMPLE, parse_contract
    >>> rules = list(findings(parse_contract(json.loads(EXAMPLE)), Policy(max_rounds=2)))
    >>> [rule.key for rule in rules if not rule.holds]
    ['base_models', 'max_rounds', 'min_outlets']
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING

from presspool.client.consent.held_rule import HeldRule, at_least, at_most, one_of
from presspool.client.consent.pooled_rules import pooled_findings
from presspool.common.base.errors import GuardError, NotNowError
from presspool.common.contract.contract import Contract

if TYPE_CHECKING:
    from presspool.client.consent.policy import Policy


def check_policy(contract: Contract, policy: Policy, *, peers: Collection[str] = ()) -> None:
    """Return if the policy allows this contract; arguments as for `findings`.

    Raises:
        GuardError: the first rule that it breaks.
    """
    for found in findings(contract, policy, peers=peers):
        if not found.holds:
            raise GuardError(
                found.code,
                "this outlet refuses the run",
                where=f"policy.toml {found.key}",
                expected=f"{found.field}: {found.allowed}",
                got=found.asked,
                advice=f"ask the coordinator for {found.change}, or {_amend(found.key)} "
                "if your rules allow it",
            )


def findings(
    contract: Contract, policy: Policy, *, peers: Collection[str] = ()
) -> Iterator[HeldRule]:
    """Every rule of a policy on a frozen contract; ε last, and only if all others hold.

    Args:
        contract: the run's.
        policy: the outlet's.
        peers: outlets whose keys its operator approved.
    """
    sound = True
    for found in chain(_cheap(contract, policy), pooled_findings(contract, policy, peers)):
        sound = sound and found.holds
        yield found
    if sound:
        yield _epsilon(contract, policy)


def check_round(
    contract: Contract, *, name: str, number: int, phase: int = 1, phases: int = 1
) -> None:
    """Return if this is a phase of one of the rounds that the contract agrees with this outlet.

    Raises:
        GuardError: it is not.
    """
    rounds = contract.federation.rounds
    if name not in contract.outlets or not (1 <= number <= rounds and 1 <= phase <= phases):
        raise GuardError(
            "round-not-agreed",
            "this outlet refuses a round that nobody agreed on",
            where="contract [federation] rounds, [outlets]",
            expected=f"rounds 1 to {rounds}, each with phases 1 to {phases}, of outlets "
            + ", ".join(contract.outlets),
            got=f"round {number}, phase {phase} of {name}",
            advice="ask the coordinator for a new contract",
        )


def check_time(policy: Policy, now: datetime) -> None:
    """Return unless these are quiet hours.

    Args:
        policy: the outlet's.
        now: an aware time.

    Raises:
        NotNowError: they are; the coordinator may ask again.
    """
    quiet = policy.quiet_hours
    if quiet is None:
        return
    clock = now.astimezone(UTC) if quiet.zone == "utc" else now.astimezone()
    if quiet.hold(clock.time()):
        raise NotNowError(
            "not-now-quiet-hours",
            "these are this outlet's quiet hours",
            where="policy.toml quiet_hours",
            expected=f"a time outside {quiet.start:%H:%M} to {quiet.end:%H:%M} ({quiet.zone})",
            got=f"{clock:%H:%M}",
            advice="nothing: the coordinator asks again",
        )


def check_declined(contract: Contract, *, declined: bool) -> None:
    """Return unless a person of the outlet declined this run.

    Raises:
        GuardError: so it is; says how to take it back.
    """
    if declined:
        raise GuardError(
            "declined",
            f"the run {contract.name!r} was declined by a person of this outlet",
            where="approvals/",
            got=contract.digest,
            advice=f"nothing, or: presspool outlet approve {contract.digest}",
        )


def check_approval(policy: Policy, contract: Contract, *, approved: bool) -> None:
    """Return unless a person has to approve this run and has not.

    Raises:
        NotNowError: so it is; says with which command.
    """
    if policy.manual_approval and not approved:
        raise NotNowError(
            "not-now-approval",
            f"the run {contract.name!r} waits for a person's approval",
            where="policy.toml manual_approval",
            got=contract.digest,
            advice=f"read it, then: presspool outlet approve {contract.digest}",
        )


def _cheap(contract: Contract, policy: Policy) -> Iterator[HeldRule]:
    task, federation, privacy = contract.task, contract.federation, contract.privacy
    yield one_of("policy-task", "tasks", "[task] kind", task.kind, policy.tasks, "another task")
    yield one_of(
        "policy-trust",
        "trust",
        "[federation] trust",
        federation.trust,
        policy.trust,
        "another trust model",
    )
    yield _base_model(contract, policy)
    yield at_most(
        "policy-rounds",
        "max_rounds",
        "[federation] rounds",
        federation.rounds,
        policy.max_rounds,
        "fewer rounds",
    )
    yield at_most(
        "policy-steps",
        "max_steps",
        "[federation] rounds × local_steps"
        + (", of an outlet's own rounds" if contract.federation.cohort else ""),
        contract.outlet_steps,
        policy.max_steps,
        "fewer steps",
    )
    yield at_most(
        "policy-sampling-rate",
        "max_sampling_rate",
        "[privacy] sampling_rate",
        privacy.sampling_rate,
        policy.max_sampling_rate,
        "a smaller sampling rate",
    )
    yield at_least(
        "policy-noise",
        "min_noise_multiplier",
        "[privacy] noise_multiplier",
        privacy.noise_multiplier or 0.0,
        policy.min_noise_multiplier,
        "more noise",
    )
    yield at_most(
        "policy-delta",
        "max_delta",
        "[privacy] delta",
        privacy.delta,
        policy.max_delta,
        "a smaller δ",
    )
    yield one_of(
        "policy-targets",
        "methods",
        "[adapter] method",
        contract.adapter.method,
        policy.methods,
        "another method",
    )
    yield _targets(contract, policy)
    yield from _sizes(contract, policy)
    yield at_least(
        "policy-cohort",
        "min_outlets",
        next(
            (
                f"[federation] {key}"
                for key in ("cohort", "buffer")
                if getattr(contract.federation, key) is not None
            ),
            "[outlets]",
        ),
        contract.crowd,
        policy.min_outlets,
        "more outlets",
    )


def _sizes(contract: Contract, policy: Policy) -> Iterator[HeldRule]:
    """What makes rounding errors large, or one reader's part of a step."""
    spec, scale = contract.adapter, contract.method.scale(contract)
    usual = scale in (0.0, spec.alpha / spec.rank)
    yield at_most(
        "policy-adapter-scale",
        "max_adapter_scale",
        "[adapter] alpha / rank" if usual else f"[adapter] alpha, as {spec.method!r} scales it",
        scale,
        policy.max_adapter_scale,
        "a smaller alpha",
    )
    yield at_most(
        "policy-record-size",
        "max_records_per_reader",
        "[privacy] records_per_reader",
        contract.privacy.records_per_reader,
        policy.max_records_per_reader,
        "fewer records of a reader",
    )
    yield at_most(
        "policy-record-size",
        "max_record_length",
        "[task] max_length",
        contract.task.max_length,
        policy.max_record_length,
        "shorter records",
    )


def _epsilon(contract: Contract, policy: Policy) -> HeldRule:
    # Rounded for people; compared as it is.
    epsilon = contract.trust.epsilon(contract)  # of the very event that the ledger will charge
    found = at_most(
        "policy-epsilon",
        "max_epsilon_per_run",
        "ε of the whole run",
        epsilon,
        policy.max_epsilon_per_run,
        "less ε: more noise or fewer steps",
    )
    asked = "no protection" if math.isinf(epsilon) else f"{epsilon:.4f}"
    return replace(found, asked=asked)


def _base_model(contract: Contract, policy: Policy) -> HeldRule:
    spec = contract.model
    return HeldRule(
        code="policy-base-model",
        key="base_models",
        field="[model] weights, tokenizer, manifest",
        asked=f"{spec.id!r}: {spec.weights}, {spec.tokenizer}, {spec.manifest or 'no manifest'}",
        allowed="the hashes of " + " or ".join(pin.name for pin in policy.base_models),
        holds=any(pin.admits(spec) for pin in policy.base_models),
        change="an allowed base model"
        if spec.manifest
        else "the run frozen anew: its contract does not pin the base model's configuration",
    )


def _targets(contract: Contract, policy: Policy) -> HeldRule:
    spec = contract.adapter
    strange = {*contract.method.targets(contract)} - {*policy.lora_targets}
    return HeldRule(
        code="policy-targets",
        key="lora_targets",
        field="[adapter] targets",
        asked=", ".join(spec.targets),
        allowed=f"among {', '.join(policy.lora_targets)}",
        holds=not strange,
        change="other LoRA targets",
    )


def _amend(key: str) -> str:
    verb = {"max": "raise", "min": "lower"}.get(key.split(".")[-1][:3], "amend")
    return f"{verb} {key}"
