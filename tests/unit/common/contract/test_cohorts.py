"""Cohorts: who is asked when, drawn so that anybody can draw it again, and what it may cost."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presspool.common.base.errors import ContractError, GuardError
from presspool.common.contract import cohorts
from presspool.common.contract.cohorts import cohort_of, rounds_of, turn_of, turns_until
from presspool.common.contract.contract import EXAMPLE, Contract, parse_contract, read_canonical

PAPERS = ("bugle", "courier", "gazette", "herald", "mirror")


def offered(outlets: int | tuple[str, ...], **federation: Any) -> Contract:
    """The example's contract with so many outlets and these keys of [federation]."""
    names = tuple(f"o-{i}" for i in range(outlets)) if isinstance(outlets, int) else outlets
    body = json.loads(EXAMPLE)
    federation = {**body["federation"], "local_steps": 1, **federation}
    populations = dict.fromkeys(names, 100)
    return parse_contract({**body, "seed": 7, "outlets": populations, "federation": federation})


def every_cohort(contract: Contract) -> list[tuple[str, ...]]:
    return [cohort_of(contract, number) for number in range(1, contract.federation.rounds + 1)]


sizes = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 30)).map(
    lambda drawn: (max(drawn[:2]), min(drawn[:2]), drawn[2])
)


def test_golden_cohorts_of_three_cycles() -> None:
    """Orders by `printf 'presspool/cohort/v1\\0007\\000CYCLE\\000NAME' | sha256sum`, by hand."""
    contract = offered(PAPERS, rounds=7, cohort=2)
    assert every_cohort(contract) == [
        ("gazette", "herald"),
        ("courier", "mirror"),
        ("bugle", "courier"),  # the first cycle's last, and the second's first
        ("gazette", "mirror"),
        ("bugle", "herald"),
        ("bugle", "herald"),
        ("gazette", "mirror"),
    ]


def slow(names: tuple[str, ...], seed: int, size: int, rounds: int) -> list[set[str]]:
    """One outlet after the other: who is in the cohort already waits, and is the next asked."""
    found, asked, late, cycle = list[set[str]](), list[str](), list[str](), 0
    chosen = set[str]()
    while len(found) < rounds:
        if not asked and not late:
            cycle += 1
            said = {
                name: hashlib.sha256(
                    b"presspool/cohort/v1\0%d\0%d\0%s" % (seed, cycle, name.encode())
                ).hexdigest()
                for name in names
            }
            asked = sorted(names, key=lambda name: said[name])
        for name in [*late, *asked]:
            if name not in chosen:
                (late if name in late else asked).remove(name)
                chosen.add(name)
                break
            if name in asked:
                asked.remove(name)
                late.append(name)
        if len(chosen) == size:
            found.append(chosen)
            chosen = set()
            asked, late = [*late, *asked], []
    return found


@settings(max_examples=200, deadline=None)
@given(sizes, st.integers(0, 2**53 - 1))
def test_cohorts_are_those_of_a_slow_oracle(numbers: tuple[int, int, int], seed: int) -> None:
    outlets, size, rounds = numbers
    contract = offered(outlets, rounds=rounds, cohort=size).replace(seed=seed)
    oracle = slow(tuple(sorted(contract.outlets)), seed, size, rounds)
    assert [set(found) for found in every_cohort(contract)] == oracle


@settings(max_examples=200, deadline=None)
@given(sizes)
def test_nobody_is_asked_twice_more_often_than_anybody_else(numbers: tuple[int, int, int]) -> None:
    outlets, size, rounds = numbers
    contract = offered(outlets, rounds=rounds, cohort=size)
    found = every_cohort(contract)
    assert all(len(set(cohort)) == size and [*cohort] == sorted(cohort) for cohort in found)
    asked = Counter(name for cohort in found for name in cohort)
    counts = [asked[name] for name in contract.outlets]
    assert max(counts) - min(counts) <= 1
    assert contract.outlet_steps == max(counts) == contract.federation.turns(outlets)


def test_each_round_alone_is_a_uniform_choice() -> None:
    """Over seeds, each of the ten pairs of five outlets is asked in a round about as often."""
    for number in (1, 3, 6):  # the third is where two cycles meet
        found = Counter(
            cohort_of(offered(PAPERS, rounds=6, cohort=2).replace(seed=seed), number)
            for seed in range(2000)
        )
        assert len(found) == 10
        assert sum((count - 200) ** 2 / 200 for count in found.values()) < 27.9  # χ²₉ at 0.1 %


@settings(max_examples=100, deadline=None)
@given(sizes, st.integers(1, 3))
def test_turns_are_the_last_ones_of_the_plan_and_each_comes_once(
    numbers: tuple[int, int, int], local: int
) -> None:
    outlets, size, rounds = numbers
    contract = offered(outlets, rounds=rounds, cohort=size, local_steps=local)
    most = contract.plan.steps // local
    for name in contract.outlets:
        own = rounds_of(contract, name)
        turns = [turn_of(contract, name, number=number) for number in own]
        assert turns == list(range(most - len(own) + 1, most + 1))
        for number in set(range(1, rounds + 1)) - set(own):
            with pytest.raises(GuardError, match="not in the cohort") as refused:
                turn_of(contract, name, number=number)
            assert refused.value.code == "round-not-agreed"
            before = sum(other <= number for other in own)
            assert turns_until(contract, name, number=number) == most - len(own) + before


def test_without_a_cohort_all_are_asked_and_no_byte_of_a_contract_changes() -> None:
    contract = offered(PAPERS, rounds=3)
    assert every_cohort(contract) == [PAPERS] * 3
    assert b"cohort" not in contract.canonical()
    assert [turn_of(contract, "herald", number=number) for number in (1, 2, 3)] == [1, 2, 3]
    assert contract.outlet_steps == contract.steps == 3
    assert contract.crowd == 5


def test_a_cohort_is_in_the_digest_and_comes_back_from_bytes() -> None:
    contract = offered(PAPERS, rounds=3, cohort=2).replace(
        model={"weights": "sha256:" + "0" * 64, "tokenizer": "sha256:" + "1" * 64}
    )
    again = read_canonical(contract.canonical(), digest=contract.digest)
    assert again.federation.cohort == 2
    assert contract.digest != contract.replace(federation={"cohort": 3}).digest


def test_the_draw_hangs_on_seed_and_names_and_not_on_the_noise() -> None:
    contract = offered(PAPERS, rounds=7, cohort=2)
    louder = contract.replace(privacy={"noise_multiplier": 9.0}, name="other")
    assert every_cohort(louder) == every_cohort(contract)
    assert every_cohort(contract.replace(seed=8)) != every_cohort(contract)


def test_noise_is_solved_for_the_busiest_outlet_and_the_rates_run_over_all_rounds() -> None:
    privacy = {"epsilon": 2.0, "noise_multiplier": None}
    contract = offered(20, rounds=30, cohort=5, local_steps=2).replace(privacy=privacy).with_noise()
    alone = offered(20, rounds=8, local_steps=2).replace(privacy=privacy).with_noise()
    assert contract.privacy.noise_multiplier == alone.privacy.noise_multiplier
    assert contract.plan.epsilon() <= 2.0
    assert (contract.plan.steps, contract.steps) == (16, 60)


def test_a_contract_whose_draw_would_fill_the_memory_is_refused() -> None:
    assert offered(500, rounds=10_000, cohort=500, quorum=1).crowd == 500
    with pytest.raises(ContractError, match="rounds × cohort more than 5,000,000"):
        offered(501, rounds=10_000, cohort=501, quorum=1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cohort": 0}, ["[federation] cohort", "1 or more"]),
        ({"cohort": -1}, ["[federation] cohort"]),
        ({"cohort": True}, ["[federation] cohort", "a whole number"]),
        ({"cohort": "50"}, ["[federation] cohort", "a whole number"]),
        ({"cohort": 2.0}, ["[federation] cohort", "a whole number"]),
        ({"cohort": 6}, ["cohort is 6", "lists only 5"]),
        ({"cohort": 2, "quorum": 3}, ["quorum is 3", "2 outlets of its cohort"]),
        (
            {"cohort": 4, "robust": "krum", "attackers": 1, "quorum": 5},
            ["quorum is 5", "4 outlets of its cohort"],
        ),
        ({"cohort": 4, "robust": "krum", "attackers": 1, "quorum": 4}, ["needs 5 updates"]),
    ],
)
def test_a_cohort_that_cannot_be_is_refused(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ContractError) as caught:
        offered(PAPERS, rounds=3, **changes)
    for word in words:
        assert word in str(caught.value), f"{word!r} not in: {caught.value}"
    assert caught.value.exit_code == 2


def test_shared_noise_has_no_cohorts() -> None:
    with pytest.raises(ContractError, match="keys are agreed once"):
        offered(PAPERS, rounds=3, cohort=4).replace(
            federation={"trust": "pooled"}, pooled={"colluders": 1, "dropouts": 0}
        )


# --- Planted mistakes ----------------------------------------------------------------------------


def with_replacement(key: cohorts.Key) -> Any:
    """Each round drawn by itself, as if all were the first: some are asked far more often."""
    seed, names, size, rounds = key
    return tuple(
        tuple(sorted(cohorts._order(seed, number, names)[:size])) for number in range(rounds)
    )


def test_a_draw_that_asks_somebody_more_often_than_is_paid_for_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cohorts, "_drawn", with_replacement)
    with pytest.raises(AssertionError):
        test_nobody_is_asked_twice_more_often_than_anybody_else.hypothesis.inner_test(  # type: ignore[attr-defined]
            (12, 3, 29)
        )
