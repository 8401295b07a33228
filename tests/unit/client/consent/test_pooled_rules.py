"""An outlet's rules for noise that the pool shares: refused unless allowed, and then by numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.sums.pooled_runs import pooled_contract

from presspool.client.consent import decision, pooled_rules
from presspool.client.consent.base_models import BaseModelPin
from presspool.client.consent.policy import Policy, parse_policy
from presspool.client.witnessing import trusted_peers
from presspool.common.base.errors import GuardError, InputError
from presspool.common.contract.contract import Contract
from presspool.common.wire.peers import PeerKeys

HASH = "sha256:" + "0" * 64
KNOWN = {"outlet-2", "outlet-3", "somebody-else"}


def policy(**pooled: Any) -> Policy:
    """One that takes the contracts here, but for what `pooled` says."""
    pin = BaseModelPin(name="made", weights=HASH, tokenizer=HASH, manifest=HASH)
    return Policy.model_validate(
        {
            "trust": ("local", "pooled"),
            "base_models": (pin,),
            "max_epsilon_per_run": 6.0,
            "min_noise_multiplier": 0.5,
            "pooled": {"max_epsilon_alone": 100.0, **pooled},
        }
    )


def refusal(contract: Contract, rules: Policy, *, peers: set[str] = KNOWN) -> GuardError:
    with pytest.raises(GuardError) as caught:
        decision.check_policy(contract, rules, peers=peers)
    return caught.value


def test_an_empty_policy_refuses_pooled_noise() -> None:
    assert refusal(pooled_contract(), Policy()).code == "policy-trust"


def test_a_policy_that_allows_it_and_knows_all_but_c_of_the_others_admits_it() -> None:
    """Four outlets, one may collude: two of the three others have to be approved peers."""
    decision.check_policy(pooled_contract(), policy(), peers=KNOWN)
    decision.check_policy(pooled_contract(), policy(min_own_peers=0))


@pytest.mark.parametrize(
    ("rules", "code", "words"),
    [
        ({"min_colluders_share": 0.3}, "policy-colluders", ["0.25", "at least 0.3"]),
        ({"min_own_peers": 3}, "policy-peers", ["at least 3", "got      2"]),
        ({"max_epsilon_alone": 10.0}, "policy-alone", ["at most 10", "got      1"]),
    ],
)
def test_a_refusal_names_key_and_numbers(
    rules: dict[str, Any], code: str, words: list[str]
) -> None:
    found = refusal(pooled_contract(), policy(**rules))
    assert found.code == code
    for word in (*rules, *words):
        assert word in str(found)


def test_dropouts_have_a_largest_share() -> None:
    contract = pooled_contract(pooled={"colluders": 0, "dropouts": 1})
    strict = policy(min_colluders_share=0.0, max_dropouts_share=0.2, min_own_peers=0)
    assert refusal(contract, strict).code == "policy-dropouts"


@pytest.mark.parametrize("peers", [set[str](), {"outlet-2"}, {"outlet-2", "invented"}])
def test_outlets_that_nobody_here_knows_have_to_be_among_the_colluders(peers: set[str]) -> None:
    assert refusal(pooled_contract(), policy(), peers=peers).code == "policy-peers"


def test_an_outlet_is_no_peer_of_its_own(tmp_path: Path) -> None:
    """Other keys under its own name would count as one outlet more that its operator knows."""
    own = PeerKeys.made("outlet-1", witness=b"w" * 32, log=b"l" * 32)
    other = PeerKeys.made("outlet-1", witness=b"v" * 32, log=b"k" * 32)
    with pytest.raises(InputError, match="own name"):
        trusted_peers.approve(tmp_path, other, other.fingerprint, own=own)
    assert trusted_peers.approved(tmp_path) == ()


@pytest.mark.parametrize(("colluders", "dropouts", "fewest"), [(0, 0, 7), (2, 0, 5), (2, 2, 5)])
def test_who_may_be_missing_is_no_invention_and_takes_nobody_off(
    colluders: int, dropouts: int, fewest: int
) -> None:
    """Whom a coordinator leaves out of a step it chooses itself: only colluders are unknown."""
    contract = pooled_contract(outlets=8, pooled={"colluders": colluders, "dropouts": dropouts})
    rules = policy(min_colluders_share=0.0, max_epsilon_alone=1000.0)
    known = {f"outlet-{at}" for at in range(2, 2 + fewest)}
    decision.check_policy(contract, rules, peers=known)
    assert refusal(contract, rules, peers=known - {"outlet-2"}).code == "policy-peers"


def test_a_policy_s_bounds_hold_at_equality_and_not_beyond() -> None:
    contract = pooled_contract(outlets=5, pooled={"colluders": 1, "dropouts": 1})
    alone = contract.trust.alone(contract, contract.steps)
    assert alone is not None
    least: dict[str, Any] = {
        "min_colluders_share": 0.2,
        "max_dropouts_share": 0.2,
        "min_own_peers": 2,
        "max_epsilon_alone": alone,
    }
    decision.check_policy(contract, policy(**least), peers=KNOWN)
    for key, beyond, code in (
        ("min_colluders_share", math.nextafter(0.2, 1), "policy-colluders"),
        ("max_dropouts_share", math.nextafter(0.2, 0), "policy-dropouts"),
        ("min_own_peers", 3, "policy-peers"),
        ("max_epsilon_alone", math.nextafter(alone, 0), "policy-alone"),
    ):
        assert refusal(contract, policy(**least | {key: beyond})).code == code


def test_the_rules_say_nothing_of_a_run_with_noise_of_its_own(contract: Contract) -> None:
    assert [*pooled_rules.pooled_findings(contract, policy(), ())] == []


def test_a_policy_s_keys_are_checked() -> None:
    with pytest.raises(InputError, match="max_epsilon_alone"):
        parse_policy({"pooled": {"max_epsilon_alon": 3.0}})
    with pytest.raises(InputError, match="less than 1"):
        parse_policy({"pooled": {"min_colluders_share": 1.0}})
