"""A.1: a contract with α = 16,000 and an adapter of norm 505 made one reader move the sum by 10 C.

The adapter turns the rounding errors of everybody's forward pass into other gradients, and one
reader's long text decided how they round. Two things hold now, each without the other: the outlet's
policy refuses contract and adapter, and were both let in, the sum of whole numbers would move by at
most what is stated, exactly.
"""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from tests.conftest import COMMON, LABELS, WORDS
from tests.fakes.instruments.hostile_pairs import HostilePair, excess, sized
from tests.fakes.made_outlets import policy_for

from presspool.client.consent import decision, received_adapter
from presspool.common.base.errors import GuardError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.models.adapters import group_of, trainable
from presspool.common.models.models import build

NORM, OTHERS = 505.0, (31, 93)


def contract_of(body: Mapping[str, Any], *, alpha: float, layers: int | None) -> Contract:
    adapter = {"method": "fedit", "rank": 8, "alpha": alpha, "layers": layers}
    privacy = body["privacy"] | {"clip": {"adapter": 0.5, "head": 1.0}, "noise_multiplier": 2.0}
    task = body["task"] | {"max_length": 32}
    return parse_contract({**body, "task": task, "adapter": adapter, "privacy": privacy})


def hostile(contract: Contract, *, others: int, seed: int = 0) -> HostilePair:
    """Many readers with a line each, and one whose text is as long as the contract lets it be."""
    model, dice, rng = build(contract), random.Random(seed), np.random.default_rng(seed)
    known = [*COMMON, *(word for words in WORDS.values() for word in words)]
    texts = [[" ".join(dice.choices(known, k=dice.randint(1, 5)))] for _ in range(others)]
    state = {
        name: sized(rng.standard_normal(p.shape), 50.0 if group_of(name) == "head" else NORM / 3)
        for name, p in trainable(model).items()
    }
    return HostilePair(
        contract=contract,
        policy=policy_for(contract),
        model=model,
        state=state,
        texts=[*texts, ["goal vote bank " * 20]],
        labels=[[dice.randrange(len(LABELS))] for _ in range(others + 1)],
        gone=others,
    )


@pytest.mark.parametrize("layers", [None, 1])
@pytest.mark.parametrize("others", OTHERS)
def test_even_where_it_is_let_in_one_reader_moves_the_sum_by_no_more_than_is_stated(
    others: int, layers: int | None, contract_body: Mapping[str, Any]
) -> None:
    contract = contract_of(contract_body, alpha=16_000, layers=layers)
    assert max(excess(hostile(contract, others=others, seed=seed)) for seed in range(3)) <= 1


def test_the_policy_refuses_the_contract_and_says_what_to_ask_for(
    contract_body: Mapping[str, Any],
) -> None:
    contract = contract_of(contract_body, alpha=16_000, layers=None)
    with pytest.raises(GuardError) as caught:
        decision.check_policy(contract, policy_for(contract))
    assert caught.value.code == "policy-adapter-scale"
    for word in ("max_adapter_scale", "[adapter] alpha / rank: at most 4", "2000", "smaller alpha"):
        assert word in str(caught.value)


@pytest.mark.parametrize("alpha", [16_000, 32, 16])
def test_the_adapter_is_refused_by_itself_whatever_the_contract_s_scale(
    alpha: float, contract_body: Mapping[str, Any]
) -> None:
    """α can be small where the adapter is large: the product is what counts."""
    contract = contract_of(contract_body, alpha=alpha, layers=None)
    pair = hostile(contract, others=1)
    with pytest.raises(GuardError) as caught:
        received_adapter.check_branches(
            pair.state, pair.model, contract, largest=pair.policy.max_branch_ratio
        )
    assert caught.value.code == "adapter-branch"
    assert "max_branch_ratio" in str(caught.value)
