"""Who joins a run late pays for the rounds from there on, and no earlier one is ever trained.

The session: a run of five rounds is under way, an outlet's people approve it, and its agent gets
round three. What a coordinator then asks, in whatever order, must stay within what was paid.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import dp_accounting as dp
import pytest
from dp_accounting import pld, rdp
from tests.fakes.children.budget_children import ADAPTER
from tests.fakes.made_ledgers import SIGNER
from tests.fakes.made_outlets import ORDER, new_ledger, policy_for
from tests.unit.client.consent.test_budget import do_round, offered, written

from presspool.client.consent import budget as budgets
from presspool.client.consent import joined_rounds
from presspool.client.consent.budget import Budget
from presspool.common.accounting import events
from presspool.common.audit.cards import card_evidence
from presspool.common.audit.evidence import sources as reader
from presspool.common.base.errors import (
    EvidenceError,
    GuardError,
    LedgerError,
    PlanError,
    StorageError,
)
from presspool.common.contract.contract import Contract
from presspool.common.ledger import entries
from presspool.common.ledger.export import export
from presspool.common.ledger.ledger_state import Reservation
from presspool.common.ledger.recompute import recompute
from presspool.common.ledger.store import Ledger

ROUNDS, STEPS = 5, 2
FIVE = offered("five", federation={"rounds": ROUNDS, "local_steps": STEPS})
POLICY = policy_for(FIVE)
ADD_OR_REMOVE = dp.NeighboringRelation.ADD_OR_REMOVE_ONE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_ledger(tmp_path / "ledger.db")


def reserved(path: Path) -> entries.Reserve:
    (found,) = (entry for entry in written(path) if isinstance(entry, entries.Reserve))
    return found


def exported(path: Path) -> bytes:
    stream = io.BytesIO()
    with Ledger(path) as ledger:
        export(ledger, stream, signer=SIGNER, witnesses=[])
    return stream.getvalue()


def event_of(steps: int) -> dp.DpEvent:
    """So many steps of the plan, written down by hand."""
    plan = FIVE.plan
    gaussian = dp.GaussianDpEvent(plan.noise_multiplier)
    return dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(plan.sampling_rate, gaussian), steps)


def cost_of(steps: int) -> float:
    """Its Rényi cost at the ledger's order, by `dp_accounting` alone."""
    accountant = rdp.RdpAccountant(orders=[ORDER], neighboring_relation=ADD_OR_REMOVE)
    return float(accountant.compose(event_of(steps))._rdp[0])


@pytest.mark.parametrize("joined", [1, 3, 5])
def test_a_late_joiner_pays_for_the_rounds_from_there_on(joined: int, path: Path) -> None:
    with Budget.open(path, policy=POLICY) as budget:
        for number in range(joined, ROUNDS + 1):
            do_round(budget, FIVE, number)
        assert not budget.book.dangling  # it is over, and settled
    left = STEPS * (ROUNDS + 1 - joined)
    losses = pld.PLDAccountant(ADD_OR_REMOVE).compose(event_of(left))
    entry = reserved(path)
    assert entry.event.steps == left
    assert entry.charge * events.UNIT == pytest.approx(cost_of(left), abs=1e-9)
    assert entry.stated is not None
    assert entry.stated.epsilon == pytest.approx(losses.get_epsilon(FIVE.plan.delta), abs=1e-9)
    again = recompute(io.BytesIO(exported(path)))
    assert [run.failures for run in again.runs] == [()]


def test_no_round_before_the_first_is_trained_even_after_a_crash(path: Path) -> None:
    """Round three was begun and never bound; what was paid does not hold round two."""
    with Budget.open(path, policy=POLICY) as budget, budget.round(FIVE, number=3, adapter=ADAPTER):
        pass
    with Budget.open(path, policy=POLICY) as budget:
        for number in (1, 2):
            with pytest.raises(GuardError, match="round 3, or one after it") as refused:
                do_round(budget, FIVE, number)
            assert refused.value.code == "round-not-agreed"
        do_round(budget, FIVE, 3)
        with pytest.raises(PlanError, match="not reserved"):
            do_round(budget, FIVE, ROUNDS + 1)
    assert reserved(path).event.steps == 3 * STEPS


def test_an_end_gives_back_what_a_late_joiner_never_began(path: Path) -> None:
    with Budget.open(path, policy=POLICY) as budget:
        do_round(budget, FIVE, 3)
        budget.end(FIVE)
        assert budget.book.spent * events.UNIT == pytest.approx(cost_of(STEPS), abs=1e-9)


@pytest.mark.parametrize("write", range(1, 6))
def test_a_disk_that_refuses_leaves_a_late_joiner_s_rounds_paid(write: int, path: Path) -> None:
    count = 0

    def step(name: str) -> None:
        nonlocal count
        count += name == "entry"
        if name == "entry" and count == write:
            raise StorageError("the disk refuses")

    for _ in range(2):  # the second time the disk has room again
        with Budget.open(path, policy=POLICY, step=step) as budget:
            for number in (4, 5):
                try:
                    do_round(budget, FIVE, number)
                except GuardError:  # it is bound already
                    continue
                except StorageError:
                    break
    assert reserved(path).event.steps == 2 * STEPS
    released = [entry for entry in written(path) if isinstance(entry, entries.ReleaseIntent)]
    assert [(entry.round, entry.steps) for entry in released] == [(4, 2), (5, 4)]


# --- Planted mistakes ----------------------------------------------------------------------------


def within_what_was_paid(path: Path) -> None:
    """A coordinator asks in any order, rounds crash: each step whose noise was drawn is paid."""
    chance = random.Random(path.name)
    for number in range(8):
        contract, trained = FIVE.replace(name=f"run-{number}"), set[int]()
        with Budget.open(path, policy=POLICY) as budget:
            for asked in chance.choices(range(1, ROUNDS + 1), k=12):
                try:
                    with budget.round(contract, number=asked, adapter=ADAPTER) as meter:
                        for count in range(meter.taken + 1, meter.last + 1):
                            meter.step(count)
                            trained.add(count)
                        if chance.random() < 0.5:
                            meter.bind(b"answer")
                except GuardError:
                    continue
            [held] = [
                entry
                for entry in written(path)
                if isinstance(entry, entries.Reserve) and entry.run == contract.digest
            ]
            assert len(trained) <= held.event.steps
            assert held.charge * events.UNIT >= cost_of(len(trained)) - 1e-12


def one_round_too_few(patch: pytest.MonkeyPatch) -> None:
    """Charged from the round after the one that is trained, which is let in."""
    right, allowed = joined_rounds.from_round, joined_rounds.require_reserved

    def allow(contract: Contract, held: Reservation, number: int) -> int:
        return allowed(contract, held, min(number + 1, ROUNDS))

    patch.setattr(budgets, "from_round", lambda contract, number: right(contract, number + 1))
    patch.setattr(budgets, "require_reserved", allow)


def let_in(contract: Contract, held: Reservation, _number: int) -> int:
    """No round is refused."""
    return joined_rounds.missed_steps(contract, held)


def earlier_rounds_let_in(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(budgets, "require_reserved", let_in)


def the_newest_round_s_price(patch: pytest.MonkeyPatch) -> None:
    """One round is charged, and all that come after it are trained for that."""
    right = joined_rounds.from_round

    def cheap(contract: Contract, number: int) -> events.SelfComposed | events.Composed:
        return right(contract, number).first(STEPS)

    patch.setattr(budgets, "from_round", cheap)
    patch.setattr(budgets, "require_reserved", let_in)


def test_the_real_budget_stays_within_what_was_paid(tmp_path: Path) -> None:
    within_what_was_paid(new_ledger(tmp_path / "ledger.db", epsilon=900.0))


@pytest.mark.parametrize(
    "plant", [one_round_too_few, earlier_rounds_let_in, the_newest_round_s_price]
)
def test_a_late_joiner_s_unpaid_steps_are_caught(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plant(monkeypatch)
    monkeypatch.setattr(budgets, "require_unspent", lambda *_: None)  # it catches them too
    with pytest.raises((AssertionError, PlanError, LedgerError)):
        within_what_was_paid(new_ledger(tmp_path / "ledger.db", epsilon=900.0))


# --- What a card takes ---------------------------------------------------------------------------


def agree(path: Path, folder: Path, contract: Contract) -> None:
    file = folder / "outlet.export"
    file.write_bytes(exported(path))
    [ledger] = reader.read([file]).outlets
    [found] = ledger.runs
    card_evidence.require_agreement(ledger, found, contract, contract.trust.epsilon(contract))


def rounds(path: Path, numbers: Sequence[int]) -> None:
    with Budget.open(path, policy=POLICY) as budget:
        for number in numbers:
            do_round(budget, FIVE, number)


def test_a_card_takes_a_late_joiner_s_ledger(path: Path, tmp_path: Path) -> None:
    rounds(path, (3, 4))
    agree(path, tmp_path, FIVE)


def test_a_card_refuses_a_ledger_that_released_what_it_did_not_pay_for(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paid from round three on, by a release of round two."""
    right = joined_rounds.from_round
    with monkeypatch.context() as patch:
        patch.setattr(budgets, "from_round", lambda contract, number: right(contract, number + 1))
        patch.setattr(budgets, "require_reserved", lambda _contract, _held, _number: STEPS)
        rounds(path, (2,))
    assert reserved(path).event.steps == 3 * STEPS
    with pytest.raises(EvidenceError, match="something else than the contract"):
        agree(path, tmp_path, FIVE)
