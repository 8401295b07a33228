"""A timetable: rounds close as a coordinator's do, and nothing is done twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presspool.common.base.errors import InputError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.models.models import group_sizes
from presspool.common.runs.clock_table import ClockTable
from presspool.simulations.clock import pace
from presspool.simulations.clock.pace import Pace, fails
from presspool.simulations.clock.presence import ALWAYS
from presspool.simulations.clock.timed_round import TimedRound
from presspool.simulations.clock.timetable import _rounds, timetable

Body = dict[str, Any]


def run_of(body: Body, outlets: int, *, rounds: int = 6, quorum: int = 1) -> Contract:
    """A contract of so many outlets."""
    federation = {"rounds": rounds, "local_steps": 2, "quorum": quorum}
    return parse_contract(
        body | {"outlets": {f"o-{n}": 100 for n in range(outlets)}, "federation": federation}
    )


def table(**changes: Any) -> ClockTable:
    return ClockTable.model_validate({"deadline": 100.0, "step_seconds": 10.0} | changes)


def virtual(rounds: tuple[TimedRound, ...], key: str) -> list[Any]:
    return [getattr(one.virtual, key) for one in rounds]


def test_rounds_follow_each_other_as_soon_as_all_have_answered(contract_body: Body) -> None:
    rounds = timetable(run_of(contract_body, 4), table())
    seconds = pace.paces(run_of(contract_body, 4), table())["o-0"].seconds
    assert virtual(rounds, "ended") == pytest.approx([seconds * n for n in range(1, 7)])
    assert virtual(rounds, "begun") == [0.0, *virtual(rounds, "ended")[:-1]]
    assert virtual(rounds, "answered") == [4] * 6
    assert all(set(one.counted) == {f"o-{n}" for n in range(4)} for one in rounds)


def test_bytes_take_their_time(contract_body: Body) -> None:
    contract = run_of(contract_body, 1)
    fast, slow = (table(link_megabytes=rate) for rate in (1.0, 0.001))
    numbers = sum(group_sizes(contract).values())
    took = [pace.paces(contract, one)["o-0"].seconds - 20 for one in (fast, slow)]
    assert took == pytest.approx([numbers * 8 / 1e6, numbers * 8 / 1e3])


def test_one_that_is_too_slow_is_missing_and_works_its_task_off(contract_body: Body) -> None:
    """It takes 2.5 deadlines: it misses three rounds with one task, and so on."""
    contract = run_of(contract_body, 3)
    slow = {f"o-{n}": Pace(presence=ALWAYS, seconds=s) for n, s in enumerate((20, 30, 250))}
    rounds = tuple(_rounds(contract, table(), slow))
    assert virtual(rounds, "ended") == [100.0, 200.0, 300.0, 400.0, 500.0, 600.0]
    assert [dict(one.vain) for one in rounds] == [{"o-2": 1}, {}, {"o-2": 3}, {}, {}, {"o-2": 6}]
    assert virtual(rounds, "away") == [0, 1, 0, 1, 1, 0]
    assert all(set(one.counted) == {"o-0", "o-1"} for one in rounds)


def test_a_round_stays_open_until_enough_have_answered_and_keeps_what_was_answered(
    contract_body: Body,
) -> None:
    contract = run_of(contract_body, 3, rounds=1, quorum=3)
    slow = {f"o-{n}": Pace(presence=ALWAYS, seconds=s) for n, s in enumerate((20, 30, 250))}
    (only,) = _rounds(contract, table(), slow)
    assert (only.virtual.tries, only.virtual.ended, only.virtual.late) == (3, 250.0, 0)
    assert dict(only.counted) == {"o-0": 1, "o-1": 1, "o-2": 1}
    assert not only.vain


def test_a_failed_task_is_asked_for_again_while_its_round_is_open(contract_body: Body) -> None:
    contract = run_of(contract_body, 20, quorum=19)
    failing = table(failures=0.3)
    rounds = timetable(contract, failing)
    assert max(virtual(rounds, "tries")) > 1
    assert min(virtual(rounds, "answered")) >= 19
    for number, one in enumerate(rounds, 1):
        lost = [n for n in contract.outlets if fails(failing, n, number, one.virtual.tries)]
        assert one.virtual.failed <= len(lost)


def test_failures_are_as_frequent_as_the_table_says(contract_body: Body) -> None:
    rounds = timetable(run_of(contract_body, 100, rounds=20), table(failures=0.1))
    assert sum(virtual(rounds, "failed")) / 2000 == pytest.approx(0.1, abs=0.03)
    assert virtual(rounds, "ended")[-1] == 2000.0  # nobody knows that they failed: it is waited


def test_a_round_that_never_has_enough_answers_is_refused_before_anything_trains(
    contract_body: Body,
) -> None:
    contract = run_of(contract_body, 2, quorum=2)
    with pytest.raises(InputError) as caught:
        timetable(contract, table(failures=0.999999))
    assert caught.value.exit_code == 2
    assert "never has enough answers" in str(caught.value)


@settings(max_examples=25)
@given(
    outlets=st.integers(1, 8),
    quorum=st.integers(1, 8),
    clock=st.fixed_dictionaries(
        {
            "seed": st.integers(0, 5),
            "failures": st.sampled_from([0.0, 0.3, 0.6]),
            "speeds": st.sampled_from(["equal", "lognormal:1.5", "pareto:1.0"]),
            "pattern": st.sampled_from(["always", "nights"]),
            "deadline": st.sampled_from([30.0, 100.0, 5000.0]),
        }
    ),
)
def test_no_outlet_works_twice_on_a_round_nor_on_two_at_once(
    contract_body: Body, outlets: int, quorum: int, clock: Body
) -> None:
    contract = run_of(contract_body, outlets, quorum=min(quorum, outlets))
    rounds = timetable(contract, table(**clock))
    assert rounds == timetable(contract, table(**clock))
    for number, one in enumerate(rounds, 1):
        assert not one.counted.keys() & one.vain.keys()
        assert {*one.counted.values(), *one.vain.values()} == {number}
        assert len(one.counted) == one.virtual.answered >= contract.federation.quorum
        assert len(one.vain) == one.virtual.late
    assert virtual(rounds, "begun")[1:] == virtual(rounds, "ended")[:-1]
