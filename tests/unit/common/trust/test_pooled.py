"""Trust model "pooled": what contracts may ask, what a sum makes of answers, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Context, Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.fakes.sums.pooled_runs import NAMES, Whole, answers_of, by_hand, pooled_body
from tests.fakes.sums.pooled_runs import pooled_contract as frozen
from tests.fakes.sums.secure_pool import SecurePool

from presspool.common.accounting import events, filter
from presspool.common.accounting.pooled_plan import of_contract
from presspool.common.base.errors import ContractError, PressPoolError
from presspool.common.contract.contract import Contract, parse_contract, read_canonical
from presspool.common.ledger import entries
from presspool.common.trust import pooled

Summed = Mapping[str, NDArray[Any]]


def sums(outlets: int, *, most: int = 1 << 16, seed: int = 0) -> list[Whole]:
    dice = np.random.default_rng(seed)
    return [{name: dice.integers(-most, most + 1, 5) for name in NAMES} for _ in range(outlets)]


def opened(contract: Contract, given: Sequence[Whole], *, round: int = 1) -> Summed:
    """The one change of a round."""
    updates, weights = contract.trust.open(contract, answers_of(contract, given, round=round))
    ((who, update),) = updates.items()
    assert weights == {who: 1.0}
    return update.delta


# --- Contracts -----------------------------------------------------------------------------------


def test_a_frozen_contract_says_ring_numbers_and_noise_and_comes_back() -> None:
    contract = frozen()
    assert contract.frozen
    assert contract.body()["pooled"] == {
        "colluders": 1,
        "dropouts": 0,
        "grid": 16,
        "ring_bits": 32,
        "parameters": 10,
    }
    assert contract.trust.epsilon(contract) <= 6.0
    quieter = contract.replace(
        privacy={"noise_multiplier": contract.plan.noise_multiplier - 0.001, "epsilon": None}
    )
    assert contract.trust.epsilon(quieter) > 6.0
    assert read_canonical(contract.canonical(), digest=contract.digest) == contract


def test_a_contract_of_another_trust_model_has_no_such_key() -> None:
    contract = parse_contract(
        pooled_body() | {"pooled": None, "federation": {"rounds": 3, "local_steps": 1}}
    )
    assert "pooled" not in contract.body()
    assert b"pooled" not in contract.canonical()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pooled": {"colluders": 3, "dropouts": 1}}, ["3 colluders and 1 dropouts of 4 outlets"]),
        ({"pooled": {"colluders": 1, "dropouts": 2}}, ["at most 1: 3 outlets have to sign"]),
        ({"federation": {"local_steps": 2}}, ["local_steps", "expected 1, got 2", "rounds = 6"]),
        ({"privacy": {"epsilon": "inf"}}, ["[privacy] epsilon", "no noise"]),
        ({"optimizer": {"momentum": 0.9}}, ["[optimizer]", "momentum 0.9", "[server]"]),
        ({"optimizer": {"name": "adamw"}}, ["[optimizer]", "adamw"]),
        ({"pooled": {"grid": 7}}, ["grid", "8 or more"]),
        ({"pooled": {"ring_bits": 16}}, ["ring_bits", "32 or 64"]),
        ({"federation": {"trust": "local"}}, ["[pooled]", 'trust = "pooled"', "local"]),
    ],
)
def test_what_cannot_be_pooled_is_told_in_a_sentence_with_its_numbers(
    changes: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ContractError) as caught:
        frozen(**changes)
    assert caught.value.exit_code == 2
    for word in words:
        assert word in str(caught.value)


def test_pooled_noise_without_its_table_is_refused() -> None:
    body = pooled_body()
    del body["pooled"]
    with pytest.raises(ContractError, match="colluders and dropouts"):
        parse_contract(body)


def test_planted_a_ring_that_wraps_around_is_refused_with_the_one_that_would_do() -> None:
    with pytest.raises(ContractError, match="64, in which the sum of 100 readers' gradients"):
        frozen(pooled={"grid": 30, "ring_bits": 32})
    assert frozen(pooled={"grid": 30}).body()["pooled"]["ring_bits"] == 64


# --- The sum -------------------------------------------------------------------------------------


@pytest.mark.parametrize("round", [1, 3])
@pytest.mark.parametrize("given", [sums(4), sums(4, seed=1), sums(3, most=9)])
def test_a_sum_is_one_step_of_all_readers_by_hand(given: list[Whole], round: int) -> None:
    contract = frozen(pooled={"dropouts": 1, "colluders": 0}, optimizer={"learning_rate": 0.7})
    made, expected = opened(contract, given, round=round), by_hand(contract, given)
    for name in NAMES:
        np.testing.assert_allclose(made[name], expected[name], rtol=1e-6)


def test_warm_up_and_schedule_are_those_of_the_step() -> None:
    contract = frozen(optimizer={"warmup_steps": 1, "schedule": "cosine"})
    given, plain = sums(4), frozen()
    first = opened(contract, given)["lora.B"] / opened(plain, given)["lora.B"]
    last = opened(contract, given, round=3)["lora.B"] / opened(plain, given)["lora.B"]
    np.testing.assert_allclose(first, 0.5, rtol=1e-6)
    np.testing.assert_allclose(last, 0.5, rtol=1e-6)


def is_by_hand(contract: Contract, given: Sequence[Whole]) -> None:
    for name, expected in by_hand(contract, given).items():
        np.testing.assert_allclose(opened(contract, given)[name], expected, rtol=1e-6)


def weighted(outlets: Sequence[int]) -> Any:
    """Planted: each outlet's numbers times its readers."""
    real = pooled.added

    def wrong(deltas: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        return real(
            [{k: a * n for k, a in one.items()} for one, n in zip(deltas, outlets, strict=True)]
        )

    return wrong


def test_planted_weights_by_population_are_not_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    contract, given = frozen(), sums(4, most=100)
    monkeypatch.setattr(pooled, "added", weighted(list(contract.outlets.values())))
    with pytest.raises(AssertionError):
        is_by_hand(contract, given)


def test_what_wraps_around_on_the_way_does_not_in_the_sum() -> None:
    """Three summands leave the ring of 32 bits, their sum does not."""
    contract = frozen()
    given = sums(4, most=50)
    given[0]["lora.B"] += 2**31 - 7
    given[1]["lora.B"] += 2**31 - 9
    given[2]["lora.B"] -= 2**32 - 16
    made = opened(contract, given)
    np.testing.assert_allclose(made["lora.B"], by_hand(contract, given)["lora.B"], rtol=1e-6)


def saturated(deltas: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Planted: what leaves the ring stops at its end."""
    total = {name: sum(one[name].astype(np.int64) for one in deltas) for name in deltas[0]}
    return {k: np.clip(a, -(2**31), 2**31 - 1).astype(np.int32) for k, a in total.items()}


def test_planted_a_sum_that_does_not_wrap_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooled, "added", saturated)
    with pytest.raises((AssertionError, PressPoolError)):
        test_what_wraps_around_on_the_way_does_not_in_the_sum()


def test_the_masked_path_gives_the_same_adapter_byte_by_byte() -> None:
    """Through secure aggregation, or in the open: one sum, one change."""
    contract, given = frozen(outlets=5), sums(5, seed=4)
    pool = SecurePool(5, ring_bits=32, length=10, bound=1 << 20, colluders=1, dropouts=0)
    flat = {
        name: np.concatenate([one[key].astype(np.int64) for key in NAMES])
        for name, one in zip(pool.outlets, given, strict=True)
    }
    total = pool.attempt(flat)
    split = dict(zip(NAMES, np.split(np.asarray(total), 2), strict=True))
    open_ = pooled.added([contract.trust.seal(contract, one) for one in given])
    plan = of_contract(contract)
    for name in NAMES:
        assert split[name].astype("<i4").tobytes() == open_[name].tobytes()
    masked = pooled.moved(split, contract, plan, readers=150, step=0)
    for name, array in opened(contract, given).items():
        assert masked[name].tobytes() == array.tobytes()


def test_a_round_needs_all_but_d_answers() -> None:
    assert frozen().trust.fewest(frozen()) == 4
    loose = frozen(pooled={"colluders": 0, "dropouts": 1})
    assert loose.trust.fewest(loose) == 3
    strict = frozen(pooled={"colluders": 0, "dropouts": 1}, federation={"quorum": 4})
    assert strict.trust.fewest(strict) == 4


# --- A sum that honest outlets cannot have sent --------------------------------------------------


def test_the_longest_honest_sum_passes() -> None:
    """All readers drawn, all gradients at the clip norm and alike, and the loudest noise."""
    contract = frozen(privacy={"sampling_rate": 1.0})
    plan = of_contract(contract)
    loud = 4 * plan.scale * math.sqrt(4)
    whole = int(100 * plan.moved / math.sqrt(10) + loud / 4)
    given: list[Whole] = [{n: np.full(5, whole // 4) for n in NAMES} for _ in range(4)]
    opened(contract, given)


def test_a_poisoned_sum_is_refused_and_its_round_named() -> None:
    contract = frozen()
    plan = of_contract(contract)
    limit = pooled.honest_norm(plan, readers=100, outlets=4)
    given = sums(4, most=3)
    given[2]["head.weight"][1] = int(1.01 * limit)
    with pytest.raises(PressPoolError, match="round 2: the sum of 4 outlets is longer"):
        opened(contract, given, round=2)
    given[2]["head.weight"][1] = int(0.99 * limit)
    opened(contract, given, round=2)


def test_the_bound_of_an_honest_sum_is_seldom_passed() -> None:
    """Its two parts against exact tails: binomial numbers of readers, chi-square of normals."""
    from scipy import stats

    contract = frozen()
    plan = of_contract(contract)
    half = 41 * math.log(2)
    b = 0.3 * 100
    drawn = b + half / 3 + math.sqrt(half**2 / 9 + 2 * b * half)
    assert stats.binom.sf(math.floor(drawn), 100, 0.3) < 2**-41
    noise = pooled.honest_norm(plan, readers=100, outlets=4) - min(100, drawn) * plan.moved
    assert stats.chi2.sf((noise / plan.scale) ** 2 / 4, 10) < 2**-41
    assert stats.chi2.sf((noise / plan.scale / 2) ** 2 / 4, 10) > 2**-41


# --- What it costs -------------------------------------------------------------------------------


def plain_cost(q: float, sigma: float, order: int, steps: int) -> float:
    """Mironov, Talwar & Zhang 2019 in 60 digits, without the library's own arrangement."""
    with localcontext(Context(prec=60)):
        q_, two_variances = Decimal(q), 2 * Decimal(sigma) ** 2
        total = sum(
            math.comb(order, i)
            * (1 - q_) ** (order - i)
            * q_**i
            * (Decimal(i * i - i) / two_variances).exp()
            for i in range(order + 1)
        )
        return float(steps * Decimal(total).ln() / (order - 1))


@pytest.mark.parametrize("order", filter.PORTFOLIO)
def test_the_ledger_s_event_costs_what_the_plan_and_sixty_digits_say(order: int) -> None:
    contract = frozen()
    event, plan = contract.trust.event(contract), of_contract(contract)
    sigma = contract.plan.noise_multiplier
    assert events.renyi(event, order=order) == plan.cost(order)
    assert plan.cost(order) == pytest.approx(plain_cost(0.3, sigma, order, 3), rel=1e-12)
    alone = events.alone(event)
    assert alone is not None
    assert events.renyi(alone, order=order) == pytest.approx(
        plain_cost(0.3, sigma / math.sqrt(3), order, 3), rel=1e-12
    )


def test_shares_of_a_coarse_grid_cost_more_and_are_charged() -> None:
    """Two shares of s = 1/2 a step are no Gaussian: τ stands in the charge."""
    coarse = events.PooledSum(rate=0.3, noise_multiplier=1.0, shares=2, scale=0.5, parameters=1)
    event = events.SelfComposed(event=coarse, count=3)
    tau = 5 * math.exp(-2 * math.pi**2 * 0.25 / 2)
    expected = plain_cost(0.3, 1.0, 4, 3) + 3 * 7 / 3 * tau
    assert events.renyi(event, order=4) == pytest.approx(expected, rel=1e-12)


def test_the_event_reads_back_and_its_parts_add_up() -> None:
    contract = frozen()
    event = contract.trust.event(contract)
    assert isinstance(event, events.SelfComposed)
    assert events.SelfComposed.model_validate_json(event.model_dump_json()) == event
    assert event.first(1).steps + event.after(1).steps == event.steps == 3
    assert isinstance(event.event, events.PooledSum)
    assert event.event.type == "pooled_sum_1"
    real = contract.plan.event()
    assert events.to_dp(event) == real  # for information: the real Gaussian


def all_shares(contract: Contract) -> float:
    """Planted: noise counted with K shares instead of K − c − d."""
    return 1 / math.sqrt(len(contract.outlets))


def left_of_the_noise(contract: Contract, share: float) -> float:
    """σ of what c + d missing shares leave."""
    table = contract.pooled
    assert table is not None
    missing = table.colluders + table.dropouts
    return share * contract.plan.noise_multiplier * math.sqrt(len(contract.outlets) - missing)


@pytest.mark.parametrize(("colluders", "dropouts"), [(0, 0), (1, 0), (0, 1), (2, 1), (1, 2)])
def test_what_colluders_and_dropouts_leave_is_the_noise_that_is_claimed(
    colluders: int, dropouts: int
) -> None:
    contract = frozen(outlets=8, pooled={"colluders": colluders, "dropouts": dropouts})
    left = left_of_the_noise(contract, contract.trust.noise_share(contract))
    assert left == pytest.approx(contract.plan.noise_multiplier, rel=1e-12)
    if colluders + dropouts:  # the planted mistake would leave less
        assert left_of_the_noise(contract, all_shares(contract)) < 0.97 * left


def test_every_attempt_at_a_step_counts_alone() -> None:
    contract = frozen()
    three, four = (contract.trust.alone(contract, steps) for steps in (3, 4))
    assert three is not None
    assert four is not None
    assert four > three > contract.trust.epsilon(contract)
    assert contract.trust.spent(contract, 4) > contract.trust.spent(contract, 3)


def test_an_entry_has_the_cost_alone_and_others_have_no_such_key() -> None:
    contract = frozen()
    event = contract.trust.event(contract)
    alone = events.charge_alone(event, order=6)
    assert alone is not None
    assert alone > events.charge(event, order=6)
    parts: dict[str, Any] = {
        "seq": 1,
        "day": "2026-01-05",
        "reservation": "0" * 32,
        "run": contract.digest,
        "unit": "reader",
        "period": "2026",
        "datasets": ("1" * 32,),
    }
    pooled_entry = entries.Reserve(
        **parts, event=event, charge=events.charge(event, order=6), alone=alone
    )
    assert entries.parse_entry(pooled_entry.canonical()) == pooled_entry
    usual = events.SelfComposed(event=events.Gaussian(noise_multiplier=3.0), count=1)
    local = entries.Reserve(**parts, event=usual, charge=events.charge(usual, order=6))
    assert b"alone" not in local.canonical()
    assert events.charge_alone(usual, order=6) is None


def test_words_name_the_contract_s_numbers() -> None:
    contract = frozen(outlets=8, pooled={"colluders": 2, "dropouts": 1})
    words = contract.trust.words_of(contract.body())
    assert "if at most 2 of the 8 outlets work together with the coordinator" in words.claim
    assert "up to 1 of the 8 outlets" in words.dropout
    assert "{" not in "".join(vars(words).values())
