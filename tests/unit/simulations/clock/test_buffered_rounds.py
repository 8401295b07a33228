"""Outlets that do not wait: who answers what follows from speeds, and nobody answers twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presspool.common.base.errors import InputError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.runs.clock_table import ClockTable
from presspool.simulations.clock.buffered_rounds import buffered_rounds
from presspool.simulations.clock.draws import factor, uniform
from presspool.simulations.clock.pace import Pace
from presspool.simulations.clock.presence import ALWAYS
from presspool.simulations.clock.timed_round import TimedRound

Body = dict[str, Any]
NAMES = tuple(f"o-{n}" for n in range(6))


def run_of(body: Body, *, outlets: int, buffer: int, staleness: int, rounds: int = 8) -> Contract:
    federation = {"rounds": rounds, "local_steps": 1, "buffer": buffer, "staleness": staleness}
    return parse_contract(
        body | {"outlets": dict.fromkeys(NAMES[:outlets], 100), "federation": federation}
    )


def timed(contract: Contract, *seconds: float, failures: float = 0.0) -> tuple[TimedRound, ...]:
    speeds = {n: Pace(presence=ALWAYS, seconds=s) for n, s in zip(NAMES, seconds, strict=False)}
    table = ClockTable(deadline=50.0, failures=failures)
    return buffered_rounds(contract, table, speeds)


def test_a_full_buffer_of_equals_is_a_round_of_all(contract_body: Body) -> None:
    contract = run_of(contract_body, outlets=3, buffer=3, staleness=0)
    rounds = timed(contract, 10, 10, 10)
    assert [one.virtual.ended for one in rounds] == [10.0 * n for n in range(1, 9)]
    assert [dict(one.counted) for one in rounds] == [
        dict.fromkeys(NAMES[:3], n) for n in range(1, 9)
    ]
    assert not any(one.vain for one in rounds)


def test_two_fast_outlets_and_a_slow_one_as_drawn_by_hand(contract_body: Body) -> None:
    """o-0 takes 10 s, o-1 takes 15 s, o-2 takes 40 s; two answers make an aggregation.

    t=10  o-0 (of round 1) waits; t=15 o-1 (1): aggregation 1. Both go on from adapter 1.
    t=25  o-0 (2) waits; t=30 o-1 (2): aggregation 2.
    t=40  o-0 (3) and o-2 (1), which is 2 aggregations old: aggregation 3. Both go on.
    t=45  o-1 (3) waits; t=50 o-0 (4): aggregation 4.
    t=60  o-0 (5) waits; t=65 o-1 (5): aggregation 5.
    t=75  o-0 (6) waits; t=80 o-1 (6), then o-2 (4): the first of them makes aggregation 6.
    """
    contract = run_of(contract_body, outlets=3, buffer=2, staleness=2, rounds=6)
    rounds = timed(contract, 10, 15, 40)
    assert [one.virtual.ended for one in rounds] == [15.0, 30.0, 40.0, 50.0, 65.0, 80.0]
    assert [dict(one.counted) for one in rounds] == [
        {"o-0": 1, "o-1": 1},
        {"o-0": 2, "o-1": 2},
        {"o-0": 3, "o-2": 1},
        {"o-1": 3, "o-0": 4},
        {"o-0": 5, "o-1": 5},
        {"o-0": 6, "o-1": 6},
    ]
    assert [dict(one.vain) for one in rounds] == [{}, {}, {}, {"o-2": 4}, {}, {}]


def test_what_is_too_old_is_dropped_and_its_outlet_goes_on_from_the_newest(
    contract_body: Body,
) -> None:
    contract = run_of(contract_body, outlets=3, buffer=2, staleness=1, rounds=4)
    rounds = timed(contract, 10, 15, 40)
    assert [one.virtual.late for one in rounds] == [0, 0, 1, 0]
    assert dict(rounds[0].vain) == {"o-2": 1}
    assert not any("o-2" in one.counted for one in rounds)


def test_a_lost_task_is_given_out_again(contract_body: Body) -> None:
    contract = run_of(contract_body, outlets=3, buffer=3, staleness=0, rounds=40)
    rounds = timed(contract, 10, 10, 10, failures=0.4)
    assert sum(one.virtual.failed for one in rounds) > 20
    assert all(len(one.counted) == 3 for one in rounds)
    assert rounds[-1].virtual.ended > 40 * 10


def test_a_buffer_that_is_never_full_is_refused(contract_body: Body) -> None:
    contract = run_of(contract_body, outlets=2, buffer=2, staleness=0)
    with pytest.raises(InputError, match="never has enough answers"):
        timed(contract, 10, 10, failures=0.9999999)


@settings(max_examples=100)
@given(
    outlets=st.integers(1, 6),
    buffer=st.integers(1, 6),
    staleness=st.integers(0, 3),
    failures=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 20),
)
def test_no_task_is_done_twice_so_that_no_noise_is_drawn_twice(
    contract_body: Body, outlets: int, buffer: int, staleness: int, failures: float, seed: int
) -> None:
    """A task is an outlet and a round, and both are the seed of its noise where it has one."""
    buffer = min(buffer, outlets)
    contract = run_of(contract_body, outlets=outlets, buffer=buffer, staleness=staleness)
    seconds = (10 * factor("pareto:1.0", uniform(seed, name)) for name in NAMES)
    rounds = timed(contract, *seconds, failures=failures)
    assert len(rounds) == contract.federation.rounds
    tasks = Counter(
        task for one in rounds for done in (one.counted, one.vain) for task in done.items()
    )
    assert set(tasks.values()) == {1}
    assert max(Counter(name for name, _ in tasks).values()) <= contract.federation.rounds
    for number, one in enumerate(rounds, 1):
        assert len(one.counted) == one.virtual.answered == buffer
        assert all(0 <= number - of <= staleness for of in one.counted.values())
        assert not one.counted.keys() & one.vain.keys()  # a ledger is opened once at a time


@settings(max_examples=50)
@given(seed=st.integers(0, 50), buffer=st.integers(1, 4), staleness=st.integers(0, 3))
def test_an_outlet_s_rounds_only_grow(
    contract_body: Body, seed: int, buffer: int, staleness: int
) -> None:
    """Its ledger takes no round after a later one; what is worked on in vain stands in its own."""
    contract = run_of(contract_body, outlets=4, buffer=buffer, staleness=staleness, rounds=20)
    seconds = (10 * factor("lognormal:1.5", uniform(seed, name)) for name in NAMES)
    done: dict[str, int] = {}
    for one in timed(contract, *seconds, failures=0.2):
        for name, of in (*one.counted.items(), *one.vain.items()):
            assert of > done.get(name, 0)
            done[name] = of
