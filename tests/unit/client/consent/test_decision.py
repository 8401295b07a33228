"""The guard's decisions: every rule at its bound and one step beyond it, in words for a lawyer."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.made_outlets import policy_body

from presspool.client.consent import decision, received_adapter
from presspool.client.consent.policy import Policy, parse_policy
from presspool.common.base.errors import EvidenceError, GuardError, NotNowError, SelfTestError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.ledger.entries import GUARD_REASONS, REASONS, Refusal, parse_entry
from presspool.common.ledger.entries import build as build_entry
from presspool.common.methods.lora import public_factor
from presspool.common.models.adapters import read, trainable
from presspool.common.models.models import build
from presspool.common.models.spectral import ratios
from presspool.common.wire.update import FAILURES

PIN = {
    name: f"sha256:{str(digit) * 64}"
    for digit, name in enumerate(("weights", "tokenizer", "manifest"), start=1)
}


def offered(**changes: Any) -> Contract:
    """A frozen contract that `allowing()` takes; nothing of it is loaded."""
    body: dict[str, Any] = {
        "name": "offer",
        "model": PIN,
        "task": {"labels": ["a", "b"]},
        "adapter": {"targets": ["query"]},
        "federation": {"rounds": 2, "local_steps": 5},
        "outlets": {"north-post": 900, "south-echo": 800},
        "privacy": {"noise_multiplier": 2.0, "clip": 1.0, "sampling_rate": 0.1},
        "optimizer": {"learning_rate": 0.1},
    }
    return parse_contract(body).replace(**changes)


def allowing(**changes: Any) -> Policy:
    return parse_policy(policy_body(offered(), **changes))


def code_of(contract: Contract, policy: Policy) -> str | None:
    try:
        decision.check_policy(contract, policy)
    except GuardError as error:
        return error.code
    return None


@pytest.mark.parametrize(
    ("allowed", "code", "says"),
    [
        (
            {"tasks": ["classification"]},
            "policy-task",
            ("policy.toml tasks", "[task] kind", "generation", "one of classification", "tasks"),
        ),
        (
            {"tasks": ["generation"]},
            "policy-targets",
            ("policy.toml lora_targets", "[adapter] targets", "o_proj, down_proj", "among query"),
        ),
    ],
)
def test_a_language_model_s_run_needs_the_operator_s_word(
    allowed: dict[str, Any], code: str, says: tuple[str, ...]
) -> None:
    body = offered().body()
    contract = parse_contract(
        body
        | {
            "task": {"kind": "generation"},
            "adapter": {"targets": ["o_proj", "down_proj"], "layers": 6},
        }
    )
    with pytest.raises(GuardError) as caught:
        decision.check_policy(contract, allowing(**allowed))
    assert caught.value.code == code
    assert all(word in str(caught.value) for word in says)
    assert caught.value.advice
    both = allowing(tasks=["generation"], lora_targets=["o_proj", "down_proj"])
    assert code_of(contract, both) is None


@pytest.mark.parametrize(
    ("code", "key", "bound", "contract", "beyond"),
    [
        ("policy-rounds", "max_rounds", 2, {}, {"federation": {"rounds": 3}}),
        ("policy-steps", "max_steps", 10, {}, {"federation": {"local_steps": 6}}),
        ("policy-sampling-rate", "max_sampling_rate", 0.1, {}, {"privacy": {"sampling_rate": 0.2}}),
        ("policy-noise", "min_noise_multiplier", 2.0, {}, {"privacy": {"noise_multiplier": 1.999}}),
        ("policy-delta", "max_delta", 1e-5, {}, {"privacy": {"delta": 1.01e-5}}),
        ("policy-targets", "methods", ["ffa"], {}, {"adapter": {"method": "fedit"}}),
        ("policy-targets", "lora_targets", ["query"], {}, {"adapter": {"targets": ["q_proj"]}}),
        ("policy-adapter-scale", "max_adapter_scale", 2.0, {}, {"adapter": {"alpha": 16.001}}),
        (
            "policy-record-size",
            "max_records_per_reader",
            1,
            {},
            {"privacy": {"records_per_reader": 2}},
        ),
        ("policy-record-size", "max_record_length", 48, {}, {"task": {"max_length": 49}}),
        ("policy-cohort", "min_outlets", 2, {}, {"outlets": {"north-post": 900}}),
    ],
)
def test_a_rule_holds_at_its_bound_and_not_beyond(
    code: str, key: str, bound: Any, contract: dict[str, Any], beyond: dict[str, Any]
) -> None:
    policy = allowing(**{key: bound})
    assert code_of(offered(**contract), policy) is None
    with pytest.raises(GuardError) as caught:
        decision.check_policy(offered(**beyond), policy)
    error = caught.value
    assert (error.code, error.where) == (code, f"policy.toml {key}")
    assert error.expected
    assert error.got is not None
    assert "ask the coordinator for" in error.advice
    assert key in error.advice


def test_epsilon_is_that_of_the_whole_run_to_the_last_digit() -> None:
    contract = offered()
    epsilon = contract.plan.epsilon()
    assert code_of(contract, allowing(max_epsilon_per_run=epsilon)) is None
    below = math.nextafter(epsilon, 0)
    assert code_of(contract, allowing(max_epsilon_per_run=below)) == "policy-epsilon"
    rounds = contract.replace(federation={"rounds": 3})
    assert code_of(rounds, allowing(max_epsilon_per_run=epsilon)) == "policy-epsilon"


def test_a_base_model_is_its_hashes_and_never_a_name() -> None:
    other = "sha256:" + "9" * 64
    for change in (*({key: other} for key in PIN), *({key: None} for key in PIN)):
        contract = offered(model=change)
        assert code_of(contract, allowing()) == "policy-base-model"
    assert code_of(offered(model={"id": "renamed"}), allowing()) is None
    # Weights of one allowed model with the tokenizer of another are neither.
    crossed = [{"name": "x", **PIN, "tokenizer": other}, {"name": "y", **PIN, "weights": other}]
    assert code_of(offered(), allowing(base_models=crossed)) == "policy-base-model"


def test_a_trust_model_that_the_policy_does_not_name_is_refused() -> None:
    assert code_of(offered(), allowing(trust=["local"])) is None
    assert code_of(offered(), allowing(trust=[])) == "policy-trust"


@pytest.mark.parametrize(("number", "phase"), [(0, 1), (3, 1), (1, 0), (1, 2)])
def test_only_phases_of_the_rounds_that_were_agreed(number: int, phase: int) -> None:
    decision.check_round(offered(), name="north-post", number=1, phase=1)
    with pytest.raises(GuardError) as caught:
        decision.check_round(offered(), name="north-post", number=number, phase=phase)
    assert caught.value.code == "round-not-agreed"


def test_an_unprotected_run_is_never_taken() -> None:
    policy = allowing(min_noise_multiplier=1e-9, max_epsilon_per_run=1e9)
    contract = offered(privacy={"noise_multiplier": 0.0})
    assert code_of(contract, policy) == "policy-noise"


def test_a_policy_says_the_same_of_both_schemas() -> None:
    for changes in ({}, {"adapter": {"method": "fedit", "targets": ["other"]}}):
        new = offered(**changes)
        old = new.replace(schema=1)
        assert old.digest != new.digest
        for policy in (allowing(), allowing(methods=["ffa"])):
            found = list(decision.findings(old, policy))
            assert found == list(decision.findings(new, policy))


def test_targets_of_a_branch_that_stays_zero_do_not_matter() -> None:
    head = offered(adapter={"method": "head", "targets": ["anything"]})
    assert code_of(head, allowing(lora_targets=[])) is None


def test_no_epsilon_is_computed_for_a_run_that_is_refused_anyway() -> None:
    """A contract of 10⁸ steps would keep the accountant busy for minutes."""
    huge = offered(federation={"rounds": 10_000, "local_steps": 10_000})
    found = list(decision.findings(huge, allowing()))
    assert [rule.code for rule in found if not rule.holds] == ["policy-rounds", "policy-steps"]
    assert "policy-epsilon" not in [rule.code for rule in found]
    assert [rule.code for rule in decision.findings(offered(), allowing())][-1] == "policy-epsilon"


def test_a_refusal_can_be_read_aloud() -> None:
    with pytest.raises(GuardError) as caught:
        decision.check_policy(offered(federation={"rounds": 500}), allowing())
    assert str(caught.value) == (
        "policy.toml max_rounds: this outlet refuses the run:\n"
        "  expected [federation] rounds: at most 200\n"
        "  got      500\n"
        "  to do    ask the coordinator for fewer rounds, or raise max_rounds if your rules allow "
        "it"
    )


def test_a_word_keeps_its_number_for_ever() -> None:
    assert {FAILURES[20], FAILURES[29], FAILURES[38]} == {
        "policy-task",
        "policy-cohort",
        "policy-trust",
    }


def test_every_word_of_the_guard_travels_and_is_written_down() -> None:
    words = set(FAILURES.values())
    assert set(GUARD_REASONS) <= words
    assert set(GUARD_REASONS) <= set(REASONS)
    assert len(REASONS) == len(set(REASONS))
    for reason in REASONS:
        made = build_entry(
            Refusal,
            seq=1,
            day="2026-01-05",
            run="sha256:" + "0" * 64,
            reason=reason,
            charge=0,
            free=0,
        )
        assert parse_entry(made.canonical()) == made
    with pytest.raises(EvidenceError):
        parse_entry(made.canonical().replace(made.reason.encode(), b"readers"))
    for code in ("not-now-quiet-hours", "not-now-approval", "round-released", "run-over"):
        assert code in words
        assert code not in set[str](REASONS)  # no refusal of the run


@given(
    rounds=st.integers(1, 400),
    steps=st.integers(1, 40),
    q=st.floats(0.001, 1),
    sigma=st.floats(0.3, 5),
    outlets=st.integers(1, 4),
)
def test_whatever_is_admitted_keeps_every_rule(
    rounds: int, steps: int, q: float, sigma: float, outlets: int
) -> None:
    policy = allowing()
    contract = offered(
        federation={"rounds": rounds, "local_steps": steps},
        privacy={"sampling_rate": q, "noise_multiplier": sigma},
        outlets={f"o{i}": 100 for i in range(outlets)},
    )
    # The slow oracle: every bound written out by hand, ε only where the others hold.
    keeps = (
        rounds <= 200
        and rounds * steps <= 2000
        and q <= 1
        and sigma >= 0.5
        and outlets >= 2
        and contract.plan.epsilon() <= 8.0
    )
    assert (code_of(contract, policy) is None) == keeps


# --- Rounds and adapters -------------------------------------------------------------------------


def test_only_the_contracts_rounds_of_the_contracts_outlets() -> None:
    for number in (1, 2):
        decision.check_round(offered(), name="north-post", number=number)
    for name, number in (("north-post", 0), ("north-post", 3), ("stranger", 1)):
        with pytest.raises(GuardError, match="nobody agreed") as caught:
            decision.check_round(offered(), name=name, number=number)
        assert caught.value.code == "round-not-agreed"


STATE = {"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float32)}
SHAPES = {"a": (2, 3), "b": (4,)}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"c": np.zeros(1, np.float32)}, "adapter-names"),
        ({"a": np.ones((3, 2), np.float32)}, "adapter-shapes"),
        ({"a": np.ones(6, np.float32)}, "adapter-shapes"),
        ({"b": np.zeros((4, 1), np.float32)}, "adapter-shapes"),
        ({"b": np.array([0, 0, 0, np.nan], np.float32)}, "adapter-not-finite"),
        ({"b": np.array([0, 0, 0, -np.inf], np.float32)}, "adapter-not-finite"),
        ({"a": np.full((2, 3), 3e38, np.float32)}, "adapter-norm"),
        ({"a": np.full((2, 3), 1.0001, np.float32)}, "adapter-norm"),
    ],
)
def test_an_adapter_is_exactly_what_trains(change: dict[str, Any], code: str | None) -> None:
    if code is None:
        received_adapter.check_adapter(STATE | change, shapes=SHAPES, largest=math.sqrt(6))
    else:
        with pytest.raises(GuardError) as caught:
            received_adapter.check_adapter(STATE | change, shapes=SHAPES, largest=math.sqrt(6))
        assert caught.value.code == code


def test_a_missing_parameter_is_no_adapter() -> None:
    with pytest.raises(GuardError) as caught:
        received_adapter.check_adapter({"a": STATE["a"]}, shapes=SHAPES, largest=10)
    assert caught.value.code == "adapter-names"


@pytest.mark.parametrize("method", ["fedit", "ffa"])
def test_a_branch_may_be_so_many_times_as_strong_as_its_layer(
    method: str, contract: Contract
) -> None:
    contract = contract.replace(adapter={"method": method})
    model = build(contract)
    state = {name: np.full_like(array, 0.3) for name, array in read(model).items()}
    found = dict(ratios(model, contract.method, state))
    loudest = max(found, key=found.__getitem__)
    received_adapter.check_branches(state, model, contract, largest=found[loudest])
    below = math.nextafter(found[loudest], 0)
    with pytest.raises(GuardError) as caught:
        received_adapter.check_branches(state, model, contract, largest=below)
    assert caught.value.code == "adapter-branch"
    assert loudest in caught.value.where


def test_the_head_alone_has_no_branch_that_could_be_loud(contract: Contract) -> None:
    contract = contract.replace(adapter={"method": "head"})
    model = build(contract)
    state = {name: np.full_like(array, 1e30) for name, array in read(model).items()}
    received_adapter.check_branches(state, model, contract, largest=1e-9)


def test_frozen_factors_come_from_the_public_seed_and_have_no_way_in(contract: Contract) -> None:
    model = build(contract)
    received_adapter.check_frozen(model, contract)
    frozen = {n: p for n, p in model.named_parameters() if "lora_A" in n}
    assert frozen
    shapes = {name: tuple(p.shape) for name, p in trainable(model).items()}
    for name, parameter in frozen.items():
        assert torch.equal(parameter, public_factor(contract.seed, name, tuple(parameter.shape)))
        poisoned = read(model) | {name: np.zeros(tuple(parameter.shape), np.float32)}
        with pytest.raises(GuardError) as caught:
            received_adapter.check_adapter(poisoned, shapes=shapes, largest=1e9)
        assert caught.value.code == "adapter-names"
    first = next(iter(frozen.values()))
    with torch.no_grad():
        first[0, 0] += 1e-3
    with pytest.raises(SelfTestError, match="public seed"):
        received_adapter.check_frozen(model, contract)


def test_factors_that_train_are_not_held_against_the_seed(contract: Contract) -> None:
    fedit = contract.replace(adapter={"method": "fedit"})
    model = build(fedit)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.zero_()
    received_adapter.check_frozen(model, fedit)


# --- Not now -------------------------------------------------------------------------------------

NIGHT = {"start": "22:00", "end": "06:00"}


def test_quiet_hours_by_utc_and_by_this_machines_clock() -> None:
    policy = allowing(quiet_hours=NIGHT | {"zone": "utc"})
    tokyo = timezone(timedelta(hours=9))
    decision.check_time(policy, datetime(2026, 1, 5, 12, tzinfo=UTC))
    decision.check_time(policy, datetime(2026, 1, 5, 23, tzinfo=tokyo))  # 14:00 in UTC
    with pytest.raises(NotNowError) as caught:
        decision.check_time(policy, datetime(2026, 1, 6, 7, tzinfo=tokyo))  # 22:00 in UTC
    assert caught.value.code == "not-now-quiet-hours"
    local = allowing(quiet_hours=NIGHT | {"zone": "local"})
    here = datetime(2026, 1, 5, 23, 30).astimezone()
    with pytest.raises(NotNowError, match=r"22:00 to 06:00 \(local\)"):
        decision.check_time(local, here)
    decision.check_time(local, datetime(2026, 1, 5, 12, 0).astimezone())
    decision.check_time(allowing(), here)


def test_a_run_waits_for_its_approval_and_says_for_which() -> None:
    policy = allowing(manual_approval=True)
    with pytest.raises(NotNowError) as caught:
        decision.check_approval(policy, offered(), approved=False)
    assert caught.value.code == "not-now-approval"
    assert f"presspool outlet approve {offered().digest}" in str(caught.value)
    decision.check_approval(policy, offered(), approved=True)
    decision.check_approval(allowing(), offered(), approved=False)


def test_a_declined_run_is_refused_with_the_way_back() -> None:
    with pytest.raises(GuardError, match="was declined") as caught:
        decision.check_declined(offered(), declined=True)
    assert caught.value.code == "declined"
    assert f"presspool outlet approve {offered().digest}" in str(caught.value)
    decision.check_declined(offered(), declined=False)
