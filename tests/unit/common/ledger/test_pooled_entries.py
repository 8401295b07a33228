"""Ledgers of outlets that share their noise, and outlets that would have it look cheaper."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from tests.fakes.made_outlets import new_ledger
from tests.fakes.sums.pooled_runs import pooled_contract

from presspool.client.consent.budget import Budget
from presspool.client.consent.policy import Policy
from presspool.common.accounting import events
from presspool.common.audit.evidence.sources import read_outlet
from presspool.common.audit.pages.report_json import sentence
from presspool.common.base.errors import GuardError, LedgerError
from presspool.common.contract.contract import Contract
from presspool.common.contract.privacy_plan import AccountantName
from presspool.common.ledger import entries
from presspool.common.ledger.export import export
from presspool.common.ledger.recompute import Recomputed, library_pld, recompute
from presspool.common.ledger.store import Ledger
from presspool.common.transparency import notes

SIGNER = notes.Signer.load("presspool/outlet-1", bytes(32), kind=notes.NOTE)
LOCAL = events.SelfComposed(
    event=events.PoissonSampled(rate=0.3, event=events.Gaussian(noise_multiplier=2.0)), count=3
)


def written(
    path: Path, event: events.SelfComposed | events.Composed, epsilon: float, by: AccountantName
) -> Recomputed:
    """What an auditor finds where an outlet reserved this event and stated this ε of it."""
    with Ledger(new_ledger(path, epsilon=50.0, signer=SIGNER)) as ledger:
        ledger.reserve(
            run="sha256:" + "1" * 64,
            unit="reader",
            period="2026",
            datasets=["2" * 32],
            event=event,
            head=None,
            stated=entries.Stated(accountant=by, delta=1e-5, epsilon=epsilon, version="1.0"),
        )
        with path.with_suffix(".export").open("wb") as stream:
            export(ledger, stream, signer=SIGNER, witnesses=[])
    return recompute(io.BytesIO(path.with_suffix(".export").read_bytes()), key=SIGNER.key)


@pytest.fixture(scope="module")
def contract() -> Contract:
    return pooled_contract()


def test_a_pooled_run_stated_by_loss_distributions_is_named(
    tmp_path: Path, contract: Contract
) -> None:
    """They give less, and nothing is claimed by them of sums of whole numbers."""
    event, right = contract.trust.event(contract), contract.trust.epsilon(contract)
    less = library_pld(event, delta=1e-5)
    assert less < right - 0.1
    (failure,) = written(tmp_path / "a.db", event, less, "dp_accounting PLD").failures
    assert "stated ε, Renyi" in failure
    assert written(tmp_path / "b.db", event, right, "presspool Renyi").failures == ()


def test_a_run_with_noise_of_its_own_is_stated_by_loss_distributions(tmp_path: Path) -> None:
    by_renyi = written(tmp_path / "a.db", LOCAL, 3.0, "presspool Renyi")
    (failure,) = by_renyi.failures
    assert "stated ε, PLD" in failure


def test_what_a_ledger_claims_of_pooled_runs_names_what_it_assumes(
    tmp_path: Path, contract: Contract
) -> None:
    event, right = contract.trust.event(contract), contract.trust.epsilon(contract)
    found = written(tmp_path / "a.db", event, right, "presspool Renyi")
    words = "if in 1 run whose outlets share their noise no more of them work together"
    assert words in found.sentence
    assert words in sentence(read_outlet(tmp_path / "a.export"))
    plain = written(tmp_path / "b.db", LOCAL, library_pld(LOCAL, delta=1e-5), "dp_accounting PLD")
    assert "share their noise" not in plain.sentence


@pytest.mark.parametrize("alone", [None, "cheaper", "dearer"])
def test_an_entry_whose_cost_alone_is_another_is_refused(
    tmp_path: Path, contract: Contract, alone: str | None
) -> None:
    event = contract.trust.event(contract)
    right = events.charge_alone(event, order=4)
    assert right is not None
    entry = entries.Reserve(
        seq=1,
        day="2030-01-05",
        reservation="3" * 32,
        run=contract.digest,
        unit="reader",
        period="2030",
        datasets=("2" * 32,),
        event=event,
        charge=events.charge(event, order=4),
        alone={None: None, "cheaper": right // 2, "dearer": right * 2}[alone],
    )
    with (
        Ledger(new_ledger(tmp_path / "l.db", epsilon=50.0, signer=SIGNER)) as ledger,
        pytest.raises(LedgerError, match="charge alone"),
    ):
        ledger.book.check(entry)


def test_who_joins_a_pooled_run_late_pays_and_states_what_is_left(
    tmp_path: Path, contract: Contract
) -> None:
    """At the second of three rounds; a kill before its bytes are bound costs nothing more."""
    adapter = "sha256:" + "4" * 64
    with Ledger(new_ledger(tmp_path / "l.db", epsilon=50.0, signer=SIGNER)) as ledger:
        budget = Budget(ledger, policy=Policy(), dataset="2" * 32)
        for _ in range(2):
            with budget.round(contract, number=2, adapter=adapter):
                pass
        with (
            pytest.raises(GuardError, match="before the one in which this outlet joined"),
            budget.round(contract, number=1, adapter=adapter),
        ):
            pass
        (held,) = ledger.book.dangling.values()
        left = contract.trust.event(contract).after(1)
        assert held.entry.event == left
        assert ledger.book.spent == held.charge == events.charge(left, order=4)
        assert held.entry.alone == events.charge_alone(left, order=4)
        stated = held.entry.stated
        assert stated is not None
        assert stated.accountant == "presspool Renyi"
        assert stated.epsilon == contract.trust.spent(contract, 2)
        with (tmp_path / "l.export").open("wb") as stream:
            export(ledger, stream, signer=SIGNER, witnesses=[])
    found = recompute(io.BytesIO((tmp_path / "l.export").read_bytes()), key=SIGNER.key)
    assert found.failures == ()
