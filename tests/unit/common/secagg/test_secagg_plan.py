"""Numbers that do not go together are refused with the numbers; all of them bind the keys."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.sums.secure_pool import names, plan_of

from presspool.common.base.errors import ContractError
from presspool.common.pki.keys import SigningKey

SIGNERS = {name: SigningKey(bytes([at]) * 32) for at, name in enumerate(names(10), 1)}
FEW = dict(list(SIGNERS.items())[:4])


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"colluders": 4, "dropouts": 3}, r"t <= K - d = 7\n.*t = 8"),
        ({"dropouts": 5}, r"t <= K - d = 5\n.*t = 6"),
        ({"colluders": 10, "dropouts": 0}, "threshold of 10 outlets with 10 colluders"),
        ({"colluders": -1}, "0 or more"),
        ({"ring_bits": 16}, "32 or 64 bits"),
        ({"length": 0}, "length of a secure sum"),
        ({"bound": 0}, "inputs of 1 or more"),
        ({"bound": 2**31 // 10 + 1}, "take ring_bits = 64"),
        ({"bound": 2**63 // 10 + 1, "ring_bits": 64}, "take a coarser grid"),
        ({"cohort": {"a": bytes(32), "b": bytes(32)}}, "3 to 50 outlets"),
        ({"cohort": {n: bytes(32) for n in "abc"}}, "one of its own for each outlet"),
        ({"cohort": {n: n.encode() for n in "abc"}}, "32 bytes"),
        ({"cohort": {str(n): n.to_bytes(32) for n in range(51)}}, "3 to 50 outlets"),
    ],
)
def test_numbers_that_do_not_go_together(numbers: dict[str, Any], says: str) -> None:
    with pytest.raises(ContractError, match=says):
        plan_of(SIGNERS, **numbers)


@pytest.mark.parametrize("outlets", range(3, 51))
def test_two_quorums_always_share_an_honest_outlet(outlets: int) -> None:
    cohort = {str(n): n.to_bytes(32) for n in range(outlets)}
    for colluders in range((outlets - 1) // 2):
        plan = plan_of({}, cohort=cohort, colluders=colluders, dropouts=0)
        assert 2 * plan.threshold - outlets > colluders
        assert plan.threshold > colluders


@pytest.mark.parametrize(
    "other",
    [
        {"run": "run-2"},
        {"contract": "sha256:01"},
        {"colluders": 1},
        {"dropouts": 0},
        {"ring_bits": 64},
        {"length": 4},
        {"bound": 999},
        {"cohort": {n: k.public for n, k in FEW.items()}},
    ],
)
def test_every_number_is_in_the_context(other: dict[str, Any]) -> None:
    assert plan_of(SIGNERS, **other).context != plan_of(SIGNERS).context


def test_the_order_of_the_cohort_does_not_matter() -> None:
    assert plan_of(dict(reversed(SIGNERS.items()))).context == plan_of(SIGNERS).context
