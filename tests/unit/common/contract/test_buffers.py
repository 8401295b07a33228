"""A contract's buffer: what goes with it, what it weighs, and that other contracts never had it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from presspool.common.base.errors import ContractError
from presspool.common.contract.buffers import refuse_waiting, weights_now
from presspool.common.contract.contract import Contract, parse_contract, read_canonical

Body = dict[str, Any]


def with_buffer(contract: Contract, **changes: Any) -> Contract:
    return contract.replace(federation={"buffer": 2, "staleness": 1} | changes)


def test_a_contract_without_a_buffer_has_no_such_keys(contract: Contract) -> None:
    assert not {"buffer", "staleness"} & contract.body()["federation"].keys()
    made = with_buffer(contract)
    assert made.body()["federation"]["buffer"] == 2
    assert read_canonical(made.canonical(), digest=made.digest) == made
    assert with_buffer(made, buffer=None, staleness=None).digest == contract.digest


def test_the_plan_is_the_same_and_nothing_is_amplified(contract: Contract) -> None:
    assert with_buffer(contract).plan == contract.plan
    assert with_buffer(contract).trust.event(contract) == contract.trust.event(contract)


WRONG: dict[str, Body] = {
    "buffer and federation.staleness": {"staleness": None},
    "staleness: give both keys": {"buffer": None},
    r"lists only 2": {"buffer": 3},
    "less than the quorum of 2": {"buffer": 1},
    "does not go with federation.cohort": {"cohort": 2},
    "does not go with federation.robust": {"quorum": 3, "robust": "median", "attackers": 1},
    "0 or more": {"staleness": -1},
    "64 or less": {"staleness": 65},
    "1 or more": {"buffer": 0},
    "a whole number": {"buffer": True},
}


@pytest.mark.parametrize(("said", "changes"), WRONG.items(), ids=WRONG)
def test_what_does_not_go_together_is_refused(
    contract_body: Body, said: str, changes: Body
) -> None:
    body = contract_body["federation"] | {"buffer": 2, "staleness": 1} | changes
    body = {key: value for key, value in body.items() if value is not None}
    if "robust" in body:  # as many outlets as its rule needs
        outlets = {f"o-{n}": 20 for n in range(4)}
        contract_body, body = contract_body | {"outlets": outlets}, body | {"buffer": 3}
    with pytest.raises(ContractError, match=said) as caught:
        parse_contract(contract_body | {"federation": body})
    assert caught.value.exit_code == 2


def test_noise_that_the_pool_shares_needs_all_at_once(contract: Contract) -> None:
    with pytest.raises(ContractError, match=r"federation.trust = 'pooled'"):
        contract.replace(
            federation={"trust": "pooled", "local_steps": 1, "buffer": 2, "staleness": 0},
            pooled={"colluders": 1, "dropouts": 0},
            privacy={"noise_multiplier": 2.0},
        )


def test_weights_are_populations_over_the_root_of_the_age(contract: Contract) -> None:
    """By hand: 30 and 20 readers; north is as new as can be, south three aggregations old."""
    found = weights_now(with_buffer(contract), {"north-post": 9, "south-echo": 6}, number=9)
    assert found == {"north-post": 0.6, "south-echo": pytest.approx(0.4 / math.sqrt(4))}


def test_without_a_clock_nobody_can_but_wait(contract: Contract) -> None:
    refuse_waiting(contract, "anything")
    with pytest.raises(ContractError, match="simulated only"):
        refuse_waiting(with_buffer(contract), "a clock")
