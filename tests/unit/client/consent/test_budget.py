"""The budget of a run: reserved once and whole, counted step by step, bound byte by byte."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import dp_accounting as dp
import pytest
from dp_accounting import pld
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import REPOSITORY
from tests.fakes.children.budget_children import ADAPTER, LABELS
from tests.fakes.made_ledgers import SIGNER
from tests.fakes.made_outlets import DELTA, EPSILON, ORDER, new_ledger, policy_for

from presspool.client.consent.budget import Budget
from presspool.common.accounting import events, filter
from presspool.common.base.errors import (
    BudgetError,
    GuardError,
    InputError,
    LedgerError,
    PlanError,
    StorageError,
)
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.ledger import entries
from presspool.common.ledger.export import export
from presspool.common.ledger.store import Ledger
from presspool.common.transparency.checkpoints import Checkpoint

PIN = dict.fromkeys(("weights", "tokenizer", "manifest"), "sha256:" + "1" * 64)


def offered(name: str = "offer", **changes: Any) -> Contract:
    """A contract of two rounds of two steps, as in the other tests."""
    body: dict[str, Any] = {
        "name": name,
        "model": PIN,
        "task": {"labels": ["a", "b"]},
        "adapter": {"targets": ["query"]},
        "federation": {"rounds": 2, "local_steps": 2},
        "outlets": {"north-post": 30, "south-echo": 20},
        "privacy": {"noise_multiplier": 0.8, "clip": 1.0, "sampling_rate": 0.3},
        "optimizer": {"learning_rate": 0.1},
    }
    return parse_contract(body).replace(**changes)


POLICY = policy_for(offered())
COST = events.charge(events.from_dp(offered().plan.event()), order=ORDER)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_ledger(tmp_path / "ledger.db")


@pytest.fixture
def budget(path: Path) -> Iterator[Budget]:
    with Budget.open(path, policy=POLICY) as opened:
        yield opened


def do_round(
    budget: Budget,
    contract: Contract,
    number: int,
    data: bytes = b"answer",
    steps: Iterable[int] | None = None,
) -> str:
    """A whole round; with other steps than its own if they are given."""
    with budget.round(contract, number=number, adapter=ADAPTER) as meter:
        for count in range(meter.taken + 1, meter.last + 1) if steps is None else steps:
            meter.step(count)
        return meter.bind(data)


def written(path: Path) -> list[entries.Entry]:
    with Ledger(path) as ledger:
        return [entries.parse_entry(body) for body in ledger.bodies(0, ledger.book.size)]


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(GuardError) as caught:
        act()
    return caught.value.code


# --- The price: a golden value, groups, an oracle ------------------------------------------------


@pytest.mark.parametrize(
    "privacy",
    [
        {},
        {"sampling_rate": 1.0, "noise_multiplier": 3.0},
        {"clip": {"adapter": 0.3, "head": 0.4}},
        {"noise_multiplier": 5.0, "sampling_rate": 0.01},
    ],
)
def test_the_reserved_event_costs_what_the_plan_says_by_dp_accounting(
    privacy: dict[str, Any], path: Path
) -> None:
    contract = offered(privacy=privacy)
    with Budget.open(path, policy=POLICY) as budget:
        do_round(budget, contract, 1)
    (reserve,) = (entry for entry in written(path) if isinstance(entry, entries.Reserve))
    accountant = pld.PLDAccountant(dp.NeighboringRelation.ADD_OR_REMOVE_ONE)
    accountant.compose(events.to_dp(reserve.event))
    epsilon = contract.plan.epsilon()
    assert float(accountant.get_epsilon(DELTA)) == pytest.approx(epsilon, abs=1e-9)
    assert reserve.stated is not None
    assert reserve.stated.epsilon == epsilon
    assert reserve.charge == events.charge(reserve.event, order=ORDER)


def test_groups_share_one_draw_so_their_event_is_that_of_one_clip_norm() -> None:
    """The code adds noise σS with S = √(C₁²+C₂²): one Gaussian of multiplier σ, not two."""
    together = offered(privacy={"clip": {"adapter": 0.3, "head": 0.4}})
    alone = offered(privacy={"clip": 0.5})
    assert together.plan.sensitivity == pytest.approx(alone.plan.sensitivity)
    assert events.from_dp(together.plan.event()) == events.from_dp(alone.plan.event())


@settings(max_examples=15)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 3, 6]),
            st.sampled_from([1, 20]),
            st.sampled_from([(1.0, 1.5), (1.0, 4.0), (0.1, 4.0)]),
            st.integers(0, 6),
        ),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([4.0, 6.0, 20.0]),
)
def test_whatever_contracts_come_the_cap_is_never_exceeded(
    offers: list[tuple[int, int, tuple[float, float], int]], epsilon: float
) -> None:
    """Against a slow oracle that adds fractions, whole runs and runs that end early."""
    room = Fraction(filter.capacity(epsilon=epsilon, delta=DELTA, order=ORDER))
    with tempfile.TemporaryDirectory() as folder:
        path = new_ledger(Path(folder) / "l.db", epsilon=epsilon)
        spent = Fraction(0)
        with Budget.open(path, policy=POLICY) as budget:
            for index, (rounds, steps, (q, sigma), done) in enumerate(offers):
                contract = offered(
                    f"run-{index}",
                    federation={"rounds": rounds, "local_steps": steps},
                    privacy={"sampling_rate": q, "noise_multiplier": sigma},
                )
                step = Fraction(events.sampled_gaussian(q, sigma, ORDER))
                try:
                    for number in range(1, min(done, rounds) + 1):
                        do_round(budget, contract, number)
                except BudgetError:
                    assert spent + rounds * steps * step > room - Fraction(1, 10**9)
                    continue
                if 0 < done < rounds:
                    budget.end(contract)
                spent += min(done, rounds) * steps * step
                assert spent <= room
            said = budget.book.spent * events.UNIT
        assert said >= float(spent) - 1e-12
        assert said == pytest.approx(float(spent), abs=1e-9)


# --- Once, and in order --------------------------------------------------------------------------


def test_a_run_is_reserved_once_and_each_round_is_bound_once(path: Path, budget: Budget) -> None:
    contract = offered()
    assert do_round(budget, contract, 1, b"one") == f"sha256:{hashlib.sha256(b'one').hexdigest()}"
    assert code_of(lambda: do_round(budget, contract, 1, b"other")) == "round-released"
    do_round(budget, contract, 2, b"two")
    assert code_of(lambda: do_round(budget, contract, 2)) == "run-over"
    assert code_of(lambda: budget.check(contract.digest, number=1)) == "run-over"
    assert [entry.kind for entry in written(path)] == [
        "opened",
        "reserve",
        "adapter-received",
        "release-intent",
        "adapter-received",
        "release-intent",
        "settle",
    ]
    assert budget.book.spent == COST


def test_a_round_that_was_missed_is_not_made_up_for(budget: Budget) -> None:
    do_round(budget, offered(), 2)
    assert code_of(lambda: do_round(budget, offered(), 1)) == "run-over"
    three = offered("three", federation={"rounds": 3})
    do_round(budget, three, 2)
    assert code_of(lambda: do_round(budget, three, 1)) == "round-released"


def test_a_round_that_was_begun_and_never_bound_is_begun_again(path: Path, budget: Budget) -> None:
    contract = offered()
    with budget.round(contract, number=1, adapter=ADAPTER) as meter:
        meter.step(1)
    do_round(budget, contract, 1)
    assert [entry.kind for entry in written(path)].count("adapter-received") == 1
    assert budget.book.spent == COST
    with budget.round(contract, number=2, adapter="sha256:" + "b" * 64):
        pass
    do_round(budget, contract, 2)  # from another adapter: that is written down
    received = [e.digest[7] for e in written(path) if isinstance(e, entries.AdapterReceived)]
    assert received == ["a", "b", "a"]


def test_steps_are_counted_and_one_more_ends_the_run(path: Path, budget: Budget) -> None:
    for steps, name in (((1, 2, 3), "more"), ((1, 1), "twice"), ((2,), "skipped"), ((0,), "none")):
        contract = offered(name)
        with pytest.raises(PlanError):
            do_round(budget, contract, 1, steps=steps)
        assert code_of(partial(do_round, budget, contract, 1)) == "run-over"
    assert not [e for e in written(path) if isinstance(e, entries.ReleaseIntent)]
    assert budget.book.spent == 4 * COST  # nothing comes back


def test_bytes_of_a_round_with_too_few_steps_are_not_bound(path: Path, budget: Budget) -> None:
    with pytest.raises(PlanError, match="of the round"):
        do_round(budget, offered(), 1, steps=[1])
    assert "release-intent" not in [entry.kind for entry in written(path)]


def test_a_round_beyond_the_reservation_is_not_begun(budget: Budget) -> None:
    contract = offered()
    with pytest.raises(PlanError, match="not reserved"):
        do_round(budget, contract, 3)
    assert code_of(lambda: do_round(budget, contract, 1)) == "run-over"


def test_two_processes_train_one_round_and_only_one_may_answer(path: Path, budget: Budget) -> None:
    contract = offered()
    with (
        Budget.open(path, policy=POLICY) as other,
        budget.round(contract, number=1, adapter=ADAPTER) as meter,
    ):
        do_round(other, contract, 1, b"theirs")
        meter.step(1)
        meter.step(2)
        assert code_of(lambda: meter.bind(b"ours")) == "round-released"
    assert budget.book.spent == COST


def test_a_run_that_ended_while_a_round_was_trained_answers_nothing(budget: Budget) -> None:
    contract = offered(federation={"rounds": 3})
    with budget.round(contract, number=1, adapter=ADAPTER) as meter:
        meter.step(1)
        meter.step(2)
        budget.end(contract)
        assert code_of(lambda: meter.bind(b"too late")) == "run-over"


def test_a_ledger_that_another_process_keeps_locked_binds_nothing(path: Path) -> None:
    locked = False

    def step(name: str) -> None:
        if locked and name == "begin":
            raise LedgerError("another process keeps the ledger locked")

    with (
        Budget.open(path, policy=POLICY, step=step) as budget,
        budget.round(offered(), number=1, adapter=ADAPTER) as meter,
    ):
        meter.step(1)
        meter.step(2)
        locked = True
        with pytest.raises(LedgerError, match="locked"):
            meter.bind(b"answer")
        locked = False
        meter.bind(b"answer")


def test_many_at_once_reserve_a_run_once(path: Path) -> None:
    """In any order of rounds: those before the first that is paid for begin nothing."""
    contract = offered(
        federation={"rounds": 16, "local_steps": 1}, privacy={"noise_multiplier": 3.0}
    )

    def begin(number: int) -> str:
        try:
            with (
                Budget.open(path, policy=POLICY) as own,
                own.round(contract, number=number, adapter=ADAPTER),
            ):
                return "begun"
        except GuardError as early:
            return early.code

    with ThreadPoolExecutor(8) as pool:
        begun = list(pool.map(begin, range(1, 17)))
    found = written(path)
    (reserve,) = (entry for entry in found if isinstance(entry, entries.Reserve))
    first = 17 - reserve.event.steps
    assert begun == ["round-not-agreed"] * (first - 1) + ["begun"] * (17 - first)
    received = [entry.round for entry in found if isinstance(entry, entries.AdapterReceived)]
    assert sorted(received) == list(range(first, 17))


# --- What does not fit, and what comes back ------------------------------------------------------


def test_a_run_that_does_not_fit_is_refused_and_written_down(tmp_path: Path) -> None:
    path = new_ledger(tmp_path / "small.db", epsilon=10.0)
    with Budget.open(path, policy=POLICY) as budget:
        do_round(budget, offered("first"), 1)
        with pytest.raises(BudgetError, match="lifetime filter"):
            do_round(budget, offered("second"), 1)
        assert budget.book.spent == COST
    assert [entry.kind for entry in written(path)][-1] == "refusal"


def test_the_cap_of_a_period_is_the_policys(path: Path) -> None:
    policy = policy_for(offered(), max_epsilon_per_period=10.0, period="month")
    with Budget.open(path, policy=policy) as budget:
        do_round(budget, offered("first"), 1)
        with pytest.raises(BudgetError, match="period 20"):
            do_round(budget, offered("second"), 1)
        assert budget.book.caps.period == 10.0
    with Budget.open(path, policy=POLICY) as budget:  # the rule was dropped: that is an entry too
        do_round(budget, offered("third"), 1)
        assert budget.book.highest.period is None
    assert [entry.kind for entry in written(path)].count("policy-changed") == 2
    above = policy_for(offered(), max_epsilon_per_period=EPSILON + 1)
    with (
        Budget.open(path, policy=above) as budget,
        pytest.raises(InputError, match="max_epsilon_per_period"),
    ):
        do_round(budget, offered("fourth"), 1)


@pytest.mark.parametrize("sigma", [0.0, 0.01])
def test_a_run_without_a_price_is_refused(sigma: float, path: Path, budget: Budget) -> None:
    contract = offered(privacy={"noise_multiplier": sigma}, federation={"rounds": 100})
    for _ in range(2):
        assert code_of(lambda: do_round(budget, contract, 1)) == "event-not-priceable"
    assert [entry.kind for entry in written(path)] == ["opened", "refusal"]


def test_a_record_level_run_does_not_fit_a_readers_ledger(budget: Budget) -> None:
    with pytest.raises(BudgetError, match="unit"):
        do_round(budget, offered(privacy={"unit": "record"}), 1)


def test_a_signed_end_gives_back_what_was_never_begun(budget: Budget) -> None:
    contract = offered(federation={"rounds": 5})
    whole = events.from_dp(contract.plan.event())
    do_round(budget, contract, 1)
    with budget.round(contract, number=2, adapter=ADAPTER):
        pass  # begun: its steps may have been executed
    freed = budget.end(contract)
    kept = events.charge(whole.first(4), order=ORDER)
    assert budget.book.spent == kept
    assert freed == events.charge(whole, order=ORDER) - kept
    assert code_of(lambda: do_round(budget, contract, 3)) == "run-over"
    assert code_of(lambda: budget.end(contract)) == "run-over"
    full = offered("full")
    with budget.round(full, number=2, adapter=ADAPTER):
        pass
    assert budget.end(full) == 0


def test_a_run_that_never_began_is_not_called_over(budget: Budget) -> None:
    """Nothing in the ledger would keep its rounds from being trained."""
    with pytest.raises(InputError, match="nothing of this run"):
        budget.end(offered())
    do_round(budget, offered(), 1)


def test_an_end_that_was_killed_halfway_is_an_end(path: Path) -> None:
    contract = offered(federation={"rounds": 3})
    kept = events.charge(events.from_dp(contract.plan.event()).first(2), order=ORDER)
    writes = 0

    def step(name: str) -> None:
        nonlocal writes
        writes += name == "begin"
        if writes == 5:  # reserve, adapter, intent and give-back are written, settle is not
            raise KeyboardInterrupt

    with Budget.open(path, policy=POLICY, step=step) as budget:
        do_round(budget, contract, 1)
        with pytest.raises(KeyboardInterrupt):
            budget.end(contract)
    assert written(path)[-1].kind == "give-back"
    with Budget.open(path, policy=POLICY) as budget:
        with pytest.raises(PlanError):
            do_round(budget, contract, 2)  # the coordinator goes on: that settles it
        assert code_of(lambda: budget.end(contract)) == "run-over"
        assert budget.book.spent == kept
    assert written(path)[-1].kind == "settle"


def test_a_round_that_begins_while_its_run_is_ended_is_charged(
    path: Path, budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = offered(federation={"rounds": 4})
    do_round(budget, contract, 1)
    with Budget.open(path, policy=POLICY) as operator:
        give_back = operator._ledger.give_back

        def too_late(*given: Any, **said: Any) -> entries.GiveBack:
            do_round(budget, contract, 2)
            return give_back(*given, **said)

        with monkeypatch.context() as patch:
            patch.setattr(operator._ledger, "give_back", too_late)
            with pytest.raises(LedgerError, match="meanwhile"):
                operator.end(contract)
        operator.end(contract)
        whole = events.from_dp(contract.plan.event())
        assert operator.book.spent == events.charge(whole.first(4), order=ORDER)


def test_a_run_that_is_ended_just_before_a_round_begins_is_not_trained(
    path: Path, budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = offered(federation={"rounds": 4})
    do_round(budget, contract, 1)
    receive = budget._ledger.receive

    def ended(**said: Any) -> entries.AdapterReceived:
        with Budget.open(path, policy=POLICY) as operator:
            operator.end(contract)
        return receive(**said)

    monkeypatch.setattr(budget._ledger, "receive", ended)
    stepped: list[int] = []

    def begin() -> None:
        with budget.round(contract, number=2, adapter=ADAPTER):
            stepped.append(1)

    assert code_of(begin) == "run-over"
    assert not stepped


# --- What others are told ------------------------------------------------------------------------


def test_the_position_is_the_same_however_often_it_is_asked(path: Path, budget: Budget) -> None:
    contract = offered()
    with Ledger(path) as ledger, pytest.raises(LedgerError, match="no reservation"):
        ledger.position(contract.digest)
    do_round(budget, contract, 1)
    with Ledger(path) as ledger:
        index, root = ledger.position(contract.digest)
        body = next(ledger.bodies(index, index + 1))
        entry = entries.parse_entry(body)
        assert isinstance(entry, entries.Reserve)
        assert entry.run == contract.digest
        head = Checkpoint(origin=SIGNER.key.name, size=index + 1, root=bytes.fromhex(root))
        ledger.compare(head)
    do_round(budget, contract, 2)  # settles the run
    do_round(budget, offered("next"), 1)
    with Ledger(path) as ledger:
        assert ledger.position(contract.digest) == (index, root)


def test_the_digest_that_binds_a_round_is_found_also_when_its_run_is_over(budget: Budget) -> None:
    contract = offered()
    assert budget.bound(contract.digest, number=1) == ""
    first = do_round(budget, contract, 1)
    assert budget.bound(contract.digest, number=2) == ""
    second = do_round(budget, contract, 2, b"another answer")  # settles the run
    assert budget.bound(contract.digest, number=1) == first
    assert budget.bound(contract.digest, number=2) == second != first


def test_only_who_released_in_a_round_is_asked_for_more_of_it(budget: Budget) -> None:
    """A phase after the one that trains: also when the run is over, and never before."""
    contract = offered()
    with pytest.raises(GuardError) as caught:
        budget.check_released(contract.digest, number=1)
    assert caught.value.code == "round-not-agreed"
    do_round(budget, contract, 1)
    budget.check_released(contract.digest, number=1)
    with pytest.raises(GuardError):
        budget.check_released(contract.digest, number=2)
    do_round(budget, contract, 2)  # settles the run
    budget.check_released(contract.digest, number=2)


def test_a_ledger_restored_from_a_backup_reserves_nothing(path: Path, tmp_path: Path) -> None:
    backup = path.read_bytes()
    with Budget.open(path, policy=POLICY) as budget:
        do_round(budget, offered(), 1)
    with Ledger(path) as ledger:
        head = ledger.head()
        export(ledger, (tmp_path / "x").open("wb"), signer=SIGNER, witnesses=[])
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(backup)
    with Ledger(path) as ledger:
        budget = Budget(ledger, policy=POLICY, head=lambda: head)
        with pytest.raises(LedgerError, match="older than a head"):
            do_round(budget, offered("another"), 1)


def test_refusals_are_said_once_for_each_reason(path: Path, budget: Budget) -> None:
    run = offered().digest
    for reason in ("policy-noise", "adapter-norm", "policy-noise"):
        budget.refuse(run, reason)
    refusals = [e for e in written(path) if isinstance(e, entries.Refusal)]
    assert [(e.run, e.reason, e.charge) for e in refusals] == [
        (run, "policy-noise", 0),
        (run, "adapter-norm", 0),
    ]
    do_round(budget, offered(), 1)  # a refusal is not for ever: the policy may have changed


def test_the_data_set_is_one_unless_it_is_named(path: Path) -> None:
    for name, dataset in (("a", None), ("b", None), ("c", "c" * 32)):
        with Budget.open(path, policy=POLICY, dataset=dataset) as budget:
            do_round(budget, offered(name), 1)
    sets = [e.datasets for e in written(path) if isinstance(e, entries.Reserve)]
    assert sets[0] == sets[1] != sets[2] == ("c" * 32,)


# --- Kills and full disks ------------------------------------------------------------------------

SAMPLE = 12
# Priced in no time, because a child has none.
SHORT = offered("short", privacy={"sampling_rate": 1.0, "noise_multiplier": 4.0})
SHORT_COST = events.charge(events.from_dp(SHORT.plan.event()), order=ORDER)
KILLS = [(label, occurrence) for label in LABELS for occurrence in range(1, 8)]


def child(path: Path, folder: Path, label: str, occurrence: int) -> int:
    contract = folder / "contract.json"
    contract.write_bytes(SHORT.canonical())
    command = [
        sys.executable,
        "-m",
        "tests.fakes.children.budget_children",
        path,
        contract,
        folder,
        label,
        occurrence,
    ]
    done = subprocess.run([*map(str, command)], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def lines(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def nothing_is_missed(path: Path, folder: Path) -> set[int]:
    """Every deed outside the ledger has its entry; returns the rounds whose bytes are bound."""
    found = written(path)
    gradients, wire = lines(folder / "gradients"), lines(folder / "wire")
    if gradients:
        (reserve,) = (e for e in found if isinstance(e, entries.Reserve))
        assert reserve.charge == SHORT_COST
    begun = {e.round for e in found if isinstance(e, entries.AdapterReceived)}
    assert {int(number) for number, _ in gradients} <= begun
    bound = {e.round: e.digest for e in found if isinstance(e, entries.ReleaseIntent)}
    assert all(bound[int(number)] == digest for number, digest in wire)
    return set(bound)


def killed_and_resumed(path: Path, folder: Path, label: str, occurrence: int) -> None:
    child(path, folder, label, occurrence)
    bound = nothing_is_missed(path, folder)
    before = [line for line in lines(folder / "gradients") if int(line[0]) in bound]
    assert child(path, folder, "never", 1) == 0
    assert nothing_is_missed(path, folder) == {1, 2}
    after = [line for line in lines(folder / "gradients") if int(line[0]) in bound]
    assert after == before, "a bound round was trained again"
    with Budget.open(path, policy=POLICY) as budget:
        assert budget.book.spent == SHORT_COST, "charged twice"
        do_round(budget, SHORT.replace(name="next"), 1)
        assert SHORT.digest not in [h.entry.run for h in budget.book.dangling.values()]
    numbers = [number for number, _ in lines(folder / "wire")]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("number", range(SAMPLE))
def test_a_kill_is_never_an_under_count(number: int, path: Path, tmp_path: Path) -> None:
    labels = [label for label in LABELS if label != "begin"]
    label = labels[number] if number < len(labels) else "begin"
    killed_and_resumed(path, tmp_path, label, random.Random(number).randint(1, 4))


@pytest.mark.soak
@pytest.mark.parametrize(("label", "occurrence"), KILLS)
def test_a_kill_anywhere_is_never_an_under_count(
    label: str, occurrence: int, path: Path, tmp_path: Path
) -> None:
    killed_and_resumed(path, tmp_path, label, occurrence)


@pytest.mark.parametrize("write", range(1, 7))
def test_a_disk_that_refuses_hands_out_nothing(write: int, path: Path) -> None:
    """From the n-th write on: what was handed out is bound, what was trained is reserved."""
    count, trained, sent = 0, list[int](), list[tuple[int, str]]()

    def step(name: str) -> None:
        nonlocal count
        count += name == "entry"
        if name == "entry" and count >= write:
            raise StorageError("the disk refuses")

    contract = offered()
    with suppress(StorageError), Budget.open(path, policy=POLICY, step=step) as budget:
        for number in (1, 2):
            with budget.round(contract, number=number, adapter=ADAPTER) as meter:
                trained.append(number)
                meter.step(2 * number - 1)
                meter.step(2 * number)
                sent.append((number, meter.bind(os.urandom(4))))
    found = written(path)
    assert {e.round: e.digest for e in found if isinstance(e, entries.ReleaseIntent)} == dict(sent)
    begun = [e.round for e in found if isinstance(e, entries.AdapterReceived)]
    assert begun == trained
    assert len(found) == write
    with Budget.open(path, policy=POLICY) as budget:  # room again: it goes on, and settles
        for number in {1, 2} - {number for number, _ in sent}:
            do_round(budget, contract, number)
        do_round(budget, offered("next"), 1)
        assert budget.book.spent == 2 * COST
        assert len(budget.book.dangling) == 1
