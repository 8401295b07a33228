"""An outlet of a run with cohorts pays for its own rounds, all of them, and trains no other."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import dp_accounting as dp
import pytest
from dp_accounting import rdp
from tests.fakes.children.budget_children import ADAPTER
from tests.fakes.made_outlets import ORDER, new_ledger, policy_for
from tests.unit.client.consent.test_budget import do_round, offered
from tests.unit.client.consent.test_joined_rounds import agree, exported, reserved

from presspool.client.consent import budget as budgets
from presspool.client.consent import joined_rounds
from presspool.client.consent.budget import Budget
from presspool.common.accounting import events
from presspool.common.base.errors import EvidenceError, GuardError, LedgerError, PlanError
from presspool.common.contract import cohorts
from presspool.common.contract.cohorts import cohort_of, rounds_of
from presspool.common.contract.contract import Contract
from presspool.common.ledger.recompute import recompute

ROUNDS, STEPS, SIZE = 11, 2, 3
NAMES = tuple(f"o-{number}" for number in range(5))
RUN = offered(
    "turns",
    outlets=dict.fromkeys(NAMES, 30),
    federation={"rounds": ROUNDS, "local_steps": STEPS, "cohort": SIZE},
)
POLICY = policy_for(RUN)


def asked(name: str) -> list[int]:
    """The rounds that ask an outlet, counted round by round."""
    return [number for number in range(1, ROUNDS + 1) if name in cohort_of(RUN, number)]


FEW, MANY = (pick(NAMES, key=lambda name: len(asked(name))) for pick in (min, max))


def cost_of(steps: int) -> float:
    """Rényi cost of so many steps at the ledger's order, by `dp_accounting` alone."""
    gaussian = dp.GaussianDpEvent(RUN.plan.noise_multiplier)
    event = dp.SelfComposedDpEvent(
        dp.PoissonSampledDpEvent(RUN.plan.sampling_rate, gaussian), steps
    )
    accountant = rdp.RdpAccountant(
        orders=[ORDER], neighboring_relation=dp.NeighboringRelation.ADD_OR_REMOVE_ONE
    )
    return float(accountant.compose(event)._rdp[0])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_ledger(tmp_path / "ledger.db")


def test_the_outlets_do_not_all_have_as_many_rounds() -> None:
    """11 rounds of 3 are 33 turns of 5 outlets: 7 each at most, and somebody has 6."""
    assert (len(asked(FEW)), len(asked(MANY))) == (6, 7)
    assert RUN.plan.steps == 7 * STEPS


@pytest.mark.parametrize("name", [FEW, MANY])
def test_an_outlet_pays_for_its_own_rounds_and_the_run_is_settled(name: str, path: Path) -> None:
    with Budget.open(path, policy=POLICY, outlet=name) as budget:
        for number in asked(name):
            do_round(budget, RUN, number)
        assert not budget.book.dangling  # it is over, and settled
    entry, own = reserved(path), len(asked(name)) * STEPS
    assert entry.event.steps == own
    assert entry.charge * events.UNIT == pytest.approx(cost_of(own), abs=1e-9)
    assert [run.failures for run in recompute(io.BytesIO(exported(path))).runs] == [()]


def test_who_joins_late_pays_for_the_turns_from_there_on(path: Path) -> None:
    third = asked(FEW)[2]
    with Budget.open(path, policy=POLICY, outlet=FEW) as budget:
        do_round(budget, RUN, third)
        with pytest.raises(GuardError) as refused:
            do_round(budget, RUN, asked(FEW)[1])
        assert refused.value.code == "round-released"
        budget.end(RUN)
        assert budget.book.spent * events.UNIT == pytest.approx(cost_of(STEPS), abs=1e-9)
    assert reserved(path).event.steps == 4 * STEPS


def test_another_cohort_s_round_is_refused_before_anything_is_written(path: Path) -> None:
    [other, *_] = set(range(1, ROUNDS + 1)) - set(asked(FEW))
    before = path.read_bytes()
    with Budget.open(path, policy=POLICY, outlet=FEW) as budget:
        with pytest.raises(GuardError, match="not in the cohort") as refused:
            do_round(budget, RUN, other)
        assert budget.book.reserved(RUN.digest) is None
    assert refused.value.code == "round-not-agreed"
    assert path.read_bytes() == before


def test_who_does_not_say_its_name_trains_nothing(path: Path) -> None:
    with Budget.open(path, policy=POLICY) as budget, pytest.raises(GuardError):
        do_round(budget, RUN, asked(FEW)[0])


# --- Planted mistakes ----------------------------------------------------------------------------


def paid_for_what_it_trained(path: Path, name: str) -> None:
    """Asked for every round of the run, the outlet trains its own, and has paid for each step."""
    trained, rounds = 0, []
    with Budget.open(path, policy=POLICY, outlet=name) as budget:
        for number in range(1, ROUNDS + 1):
            try:
                with budget.round(RUN, number=number, adapter=ADAPTER) as meter:
                    for count in range(meter.taken + 1, meter.last + 1):
                        meter.step(count)
                        trained += 1
                    meter.bind(b"answer")
                    rounds.append(number)
            except GuardError:
                continue
    assert rounds == asked(name)
    assert trained == len(asked(name)) * STEPS
    assert reserved(path).charge * events.UNIT >= cost_of(trained) - 1e-12


def average_turns(patch: pytest.MonkeyPatch) -> None:
    """As many turns as the outlets have on average: the busiest trains one that nobody paid for."""
    few = type(RUN.federation)
    patch.setattr(few, "turns", lambda self, outlets: self.rounds * self.cohort // outlets)


def one_turn_too_few(patch: pytest.MonkeyPatch) -> None:
    """Charged from the next turn on, and let in all the same."""
    right = joined_rounds.from_round
    patch.setattr(budgets, "from_round", lambda contract, turn: right(contract, turn + 1))
    patch.setattr(
        budgets,
        "require_reserved",
        lambda contract, held, _: joined_rounds.missed_steps(contract, held),
    )


def every_round_is_one_s_own(patch: pytest.MonkeyPatch) -> None:
    """Nobody asks whether the outlet is in the cohort."""

    def lenient(contract: Contract, outlet: str, *, number: int) -> int:
        return cohorts.turns_until(contract, outlet, number=number)

    patch.setattr(budgets, "turn_of", lenient)


@pytest.mark.parametrize("name", [FEW, MANY])
def test_the_real_outlet_has_paid_for_what_it_trained(name: str, path: Path) -> None:
    paid_for_what_it_trained(path, name)


@pytest.mark.parametrize(
    ("plant", "name"),
    [(average_turns, MANY), (one_turn_too_few, MANY), (every_round_is_one_s_own, FEW)],
)
def test_an_outlet_that_pays_for_too_few_rounds_is_caught(
    plant: Callable[[pytest.MonkeyPatch], None],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
) -> None:
    plant(monkeypatch)
    monkeypatch.setattr(budgets, "require_unspent", lambda *_: None)  # it catches them too
    with pytest.raises((AssertionError, PlanError, LedgerError)):
        paid_for_what_it_trained(path, name)


# --- What a card takes ---------------------------------------------------------------------------

NAMED = RUN.replace(outlets=dict.fromkeys(("outlet", *NAMES[1:]), 30), seed=2)


def test_a_card_takes_the_ledger_of_an_outlet_with_fewer_turns(path: Path, tmp_path: Path) -> None:
    own = rounds_of(NAMED, "outlet")
    assert len(own) == 6
    with Budget.open(path, policy=policy_for(NAMED), outlet="outlet") as budget:
        for number in own:
            do_round(budget, NAMED, number)
    agree(path, tmp_path, NAMED)


def test_a_card_refuses_a_ledger_that_released_in_another_cohort_s_round(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = rounds_of(NAMED, "outlet")
    other = next(number for number in range(own[0], ROUNDS) if number not in own)
    with monkeypatch.context() as patch:
        every_round_is_one_s_own(patch)
        with Budget.open(path, policy=policy_for(NAMED), outlet="outlet") as budget:
            do_round(budget, NAMED, other)
    with pytest.raises(EvidenceError, match="something else than the contract"):
        agree(path, tmp_path, NAMED)


def renamed_and_within_what_was_paid(path: Path) -> None:
    """The name is outside the contract's digest: renamed in mid-run, its turns would shift."""
    one = next(name for name in NAMES if asked(name))
    other = next(
        name
        for name in NAMES
        if set(asked(name)) - set(asked(one)) and asked(name)[0] != asked(one)[0]
    )
    trained = 0
    with Budget.open(path, policy=POLICY, outlet=one) as budget:
        do_round(budget, RUN, asked(one)[0])
        trained += STEPS
    with Budget.open(path, policy=POLICY, outlet=other) as budget:
        for number in [n for n in asked(other) if n > asked(one)[0]]:
            with suppress(GuardError):
                do_round(budget, RUN, number)
                trained += STEPS
    assert trained <= reserved(path).event.steps


def test_an_outlet_of_another_name_trains_nothing_that_was_paid_for_once(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed_and_within_what_was_paid(path)
    monkeypatch.setattr(budgets, "require_unspent", lambda *_: None)
    with pytest.raises((AssertionError, PlanError, LedgerError)):
        renamed_and_within_what_was_paid(new_ledger(tmp_path / "other.db"))
