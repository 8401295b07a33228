"""Recomputation: honest ledgers agree with every accountant, planted differences are named."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from tests.fakes.made_ledgers import JOB, RUN, SIGNER, identity

from presspool.common.accounting import events, pld
from presspool.common.accounting.filter import Caps
from presspool.common.base.errors import EvidenceError
from presspool.common.contract.privacy_plan import PrivacyPlan
from presspool.common.ledger import entries
from presspool.common.ledger import recompute as again
from presspool.common.ledger.export import export
from presspool.common.ledger.recompute import Recomputed, library_pld, recompute
from presspool.common.ledger.store import Ledger

PLAN = PrivacyPlan(
    unit="reader",
    noise_multiplier=1.2,
    clip={"all": 1.0},
    sampling_rate=0.02,
    records_per_reader=1,
    steps=200,
    delta=1e-5,
)
WARM_UP = events.SelfComposed(event=events.Gaussian(noise_multiplier=9.0), count=3)
PHASES = events.Composed(events=(WARM_UP, JOB))


def ledger_of(path: Path, *runs: events.SelfComposed | events.Composed, stated: float) -> Ledger:
    ledger = Ledger.create(
        path, signer=SIGNER, unit="reader", order=4, delta=1e-5, caps=Caps(epsilon_max=8.0)
    )
    for event in runs:
        ledger.reserve(
            run=RUN,
            unit="reader",
            period="2026",
            datasets=[identity(1)],
            event=event,
            head=None,
            stated=entries.Stated(delta=1e-5, epsilon=stated, version="0.6.0")
            if event == JOB
            else None,
        )
    return ledger


def recomputed(ledger: Ledger) -> Recomputed:
    stream = io.BytesIO()
    export(ledger, stream, signer=SIGNER, witnesses=[])
    stream.seek(0)
    return recompute(stream, key=SIGNER.key)


def test_an_honest_ledger_agrees_with_every_accountant(tmp_path: Path) -> None:
    with ledger_of(tmp_path / "l.db", JOB, PHASES, JOB, stated=PLAN.epsilon()) as ledger:
        found = recomputed(ledger)
    assert found.failures == ()
    assert [run.steps for run in found.runs] == [200, 203, 200]
    for run in found.runs:
        assert run.charged == pytest.approx(run.renyi, abs=1e-11)
        assert run.renyi == pytest.approx(run.renyi_library, rel=1e-9)
        assert run.epsilon_pld < run.epsilon_renyi  # PLD is tight, one Rényi order is not
    assert found.runs[0].stated == pytest.approx(found.runs[0].stated_again, abs=1e-9)
    assert found.runs[1].stated is None
    assert found.spent == pytest.approx(sum(run.renyi for run in found.runs))
    assert found.pld_together is not None
    assert found.runs[0].epsilon_pld < found.pld_together < 8.0
    assert found.sentence == (
        "example.org/outlet: 3 runs use 11.8% of the filter of order 4; the claim is "
        "(8, 1e-5)-DP at reader level; 25 more runs like the last one fit."
    )


def test_all_pld_together_is_that_of_one_long_run(tmp_path: Path) -> None:
    with ledger_of(tmp_path / "l.db", JOB, JOB, stated=PLAN.epsilon()) as ledger:
        found = recomputed(ledger)
    twice = events.SelfComposed(event=JOB.event, count=400)
    assert found.pld_together == pytest.approx(library_pld(twice, delta=1e-5), abs=1e-9)


def test_what_was_given_back_is_recomputed_from_the_steps_kept(tmp_path: Path) -> None:
    with ledger_of(tmp_path / "l.db", JOB, JOB, JOB, stated=PLAN.epsilon()) as ledger:
        first, second, _ = ledger.book.dangling
        ledger.give_back(first, kept=100)
        ledger.give_back(first, kept=50)
        ledger.give_back(second, kept=0)
        found = recomputed(ledger)
    assert found.failures == ()
    assert [run.steps for run in found.runs] == [50, 0, 200]
    assert found.runs[0].epsilon_pld == pytest.approx(library_pld(JOB.first(50), delta=1e-5))
    assert (found.runs[1].renyi, found.runs[1].epsilon_pld) == (0.0, 0.0)


def test_a_stated_epsilon_that_is_off_is_named(tmp_path: Path) -> None:
    with ledger_of(tmp_path / "l.db", JOB, stated=PLAN.epsilon() - 1e-5) as ledger:
        failures = recomputed(ledger).failures
    assert len(failures) == 1
    assert failures[0].startswith("entry 1: stated ε, PLD: the ledger says 1.2634")


def asked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Grows with each question to `dp_accounting`'s own PLD."""
    questions: list[float] = []

    def watched(event: pld.Event, *, delta: float) -> float:
        questions.append(delta)
        return library_pld(event, delta=delta)

    monkeypatch.setattr(again, "library_pld", watched)
    return questions


def test_the_quick_accountant_fails_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = asked(monkeypatch)
    with ledger_of(tmp_path / "l.db", JOB, JOB, stated=PLAN.epsilon()) as ledger:
        assert recomputed(ledger).failures == ()
        assert questions == []  # it agrees: nothing to ask
        monkeypatch.setattr(pld, "epsilon", lambda *_, **__: 7.0)  # it is wrong
        assert recomputed(ledger).failures == ()
        assert questions == [1e-5, 1e-5]


@pytest.mark.parametrize(("off", "failures"), [(8e-7, 0), (1.2e-6, 1), (-1.2e-6, 1)])
def test_where_it_is_close_the_library_decides(
    off: float, failures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = asked(monkeypatch)
    with ledger_of(tmp_path / "l.db", JOB, stated=PLAN.epsilon() + off) as ledger:
        assert len(recomputed(ledger).failures) == failures
    assert questions == [1e-5]


def test_a_delta_too_small_for_the_quick_accountant_is_the_librarys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions, delta = asked(monkeypatch), pld.FINEST_DELTA / 10
    stated = entries.Stated(delta=delta, epsilon=library_pld(JOB, delta=delta), version="0.6.0")
    with ledger_of(tmp_path / "l.db", stated=0.0) as ledger:
        ledger.reserve(
            run=RUN,
            unit="reader",
            period="2026",
            datasets=[identity(1)],
            event=JOB,
            head=None,
            stated=stated,
        )
        assert recomputed(ledger).failures == ()
    assert questions == [delta]


def test_an_accountant_that_forgets_something_is_found_by_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted in the writing and in the reading program alike: one term of the sum is lost."""
    right = events.sampled_gaussian
    monkeypatch.setattr(events, "sampled_gaussian", lambda q, s, a: right(q, s, a) * 0.99)
    events.charge.cache_clear()
    with ledger_of(tmp_path / "l.db", PHASES, stated=1.0) as ledger:
        failures = recomputed(ledger).failures
    events.charge.cache_clear()
    assert [f.split(":")[1] for f in failures] == [" Rényi cost, dp_accounting"]


def test_an_own_accountant_that_changed_since_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = events.renyi
    with ledger_of(tmp_path / "l.db", PHASES, PHASES, stated=1.0) as ledger:
        monkeypatch.setattr(events, "renyi", lambda e, order: right(e, order=order) * 1.001)
        failures = recomputed(ledger).failures
    assert [failure.split(":")[0] for failure in failures] == ["entry 1", "entry 2", "sum"]


def test_runs_of_a_ledger_that_claims_nothing_are_infinite(tmp_path: Path) -> None:
    with ledger_of(tmp_path / "l.db", stated=0.0) as ledger:
        ledger.protect_nobody()
        ledger.reserve(
            run=RUN, unit="reader", period="2026", datasets=[identity(1)], event=JOB, head=None
        )
        (run,) = recomputed(ledger).runs
    assert run.epsilon_renyi == run.epsilon_pld == math.inf
    assert run.stated is run.stated_again is None
    assert run.charged > 0  # the budget is used up all the same


def test_a_ledger_without_runs_has_its_sentence(tmp_path: Path) -> None:
    with ledger_of(tmp_path / "l.db", stated=1.0) as ledger:
        found = recomputed(ledger)
    assert found.runs == ()
    assert found.pld_together == 0.0
    assert found.sentence.endswith(
        "0 runs use 0.0% of the filter of order 4; the claim is (8, 1e-5)-DP at reader level."
    )


def test_the_claim_is_the_highest_cap_ever(tmp_path: Path) -> None:
    with ledger_of(tmp_path / "l.db", JOB, stated=PLAN.epsilon()) as ledger:
        ledger.change_policy(Caps(epsilon_max=4.0))
        found = recomputed(ledger)
    assert "the claim is (8, 1e-5)-DP" in found.sentence
    assert found.capacity == pytest.approx(0.912138, abs=1e-6)


def test_many_kinds_of_step_are_not_composed_for_minutes(tmp_path: Path) -> None:
    runs = [
        events.SelfComposed(event=events.Gaussian(noise_multiplier=50.0 + i), count=1)
        for i in range(40)
    ]
    with ledger_of(tmp_path / "l.db", *runs, stated=1.0) as ledger:
        found = recomputed(ledger)
    assert found.pld_together is None
    assert found.failures == ()


def test_a_file_that_does_not_hold_is_not_recomputed() -> None:
    with pytest.raises(EvidenceError):
        recompute(io.BytesIO(b"no ledger\n"))


def test_a_run_that_protects_nobody_is_infinite_and_takes_no_memory() -> None:
    reckless = events.SelfComposed(event=events.Gaussian(noise_multiplier=0.01), count=100)
    assert library_pld(reckless, delta=1e-5) == math.inf
