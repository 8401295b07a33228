"""The opened sum is the integers' sum, for every size of pool and whoever drops out when."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

import pytest
from tests.fakes.sums.secure_pool import STEPS, SecurePool, made_inputs

from presspool.common.base.errors import QuorumError
from presspool.common.secagg.secagg_plan import MOST_OUTLETS


@cache
def pool(
    outlets: int, colluders: int, dropouts: int, ring_bits: int
) -> tuple[SecurePool, list[int]]:
    """A pool whose rounds are counted on, so that one exchange of keys serves many cases."""
    bound = (2 ** (ring_bits - 1) - 1) // outlets
    numbers = {"ring_bits": ring_bits, "length": 2, "bound": bound}
    made = SecurePool(outlets, colluders=colluders, dropouts=dropouts, **numbers)
    return made, []


def random_case(draw: random.Random, sizes: Sequence[int]) -> None:
    """One attempt with dropouts in all steps: its sum by Python's integers, or a refusal."""
    outlets = draw.choice(sizes)
    colluders = draw.choice(sorted({0, outlets // 5}))
    most = outlets - ((outlets + colluders) // 2 + 1)
    dropouts = draw.choice(sorted({0, min(1, most), most}))
    secure, rounds = pool(outlets, colluders, dropouts, draw.choice((32, 64)))
    rounds.append(len(rounds) + 1)
    left, leaving = list(secure.outlets), {}
    for step in STEPS:
        spare = len(left) - (secure.plan.fewest if step in STEPS[:2] else secure.plan.threshold)
        most_going = min(len(left), max(spare, 0) + draw.choice((0, 0, 0, 1)))
        going = draw.sample(left, draw.randint(0, most_going))
        left = [name for name in left if name not in going]
        leaving[step] = going
    absent = {name for step in STEPS[:2] for name in leaving[step]}
    inputs = made_inputs(secure, seed=draw.randrange(2**32))
    enough = len(inputs) - len(absent) >= secure.plan.fewest and len(left) >= secure.plan.threshold
    if not enough:
        with pytest.raises(QuorumError):
            secure.attempt(inputs, round=rounds[-1], leaving=leaving)
        return
    total = secure.attempt(inputs, round=rounds[-1], leaving=leaving)
    oracle = [sum(int(inputs[n][at]) for n in inputs if n not in absent) for at in range(2)]
    assert total.tolist() == oracle


def test_a_sum_is_the_integers_sum_whoever_drops_out_when() -> None:
    draw = random.Random(1)
    for _ in range(60):
        random_case(draw, (3, 4, 5, 6, 7, 9))


def test_the_largest_pool_sums() -> None:
    random_case(random.Random(2), (MOST_OUTLETS,))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_ten_thousand_sums_are_the_integers_sums() -> None:
    draw = random.Random(3)
    for at in range(10_000):
        random_case(draw, range(3, MOST_OUTLETS + 1) if at % 4 == 0 else range(3, 13))


@pytest.mark.parametrize("ring_bits", [32, 64])
def test_inputs_at_the_plan_s_bound_do_not_wrap_around(ring_bits: int) -> None:
    secure, rounds = pool(3, 0, 0, ring_bits)
    rounds.append(len(rounds) + 1)
    inputs = made_inputs(secure)
    for values in inputs.values():
        values[:] = (secure.plan.bound, -secure.plan.bound)
    total = secure.attempt(inputs, round=rounds[-1])
    assert total.tolist() == [3 * secure.plan.bound, -3 * secure.plan.bound]


def test_outlets_that_restart_before_every_step_sum_the_same() -> None:
    secure = SecurePool(5, colluders=1, dropouts=1)
    inputs, gone = made_inputs(secure), "outlet-02"
    total = secure.attempt(inputs, leaving={"inputs": [gone]}, restarts=True)
    assert total.tolist() == sum(x for name, x in inputs.items() if name != gone).tolist()  # type: ignore[union-attr]


def test_an_attempt_that_failed_is_made_again() -> None:
    secure = SecurePool(4)
    inputs = made_inputs(secure)
    with pytest.raises(QuorumError):
        secure.attempt(inputs, leaving={"shares": ["outlet-00"], "inputs": ["outlet-01"]})
    total = secure.attempt(inputs, attempt=2, leaving={"inputs": ["outlet-01"]})
    assert total.tolist() == sum(x for n, x in inputs.items() if n != "outlet-01").tolist()  # type: ignore[union-attr]
