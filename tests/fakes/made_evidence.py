"""Ledgers and a run folder for the compliance desk's tests, made by the programs' own writers.

Example: `desk = make_desk(folder)`; `desk.exports`, `desk.ledgers` and `desk.run` name its files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from tests.fakes.made_ledgers import WITNESSES
from tests.fakes.made_results import measured

from presspool.common.accounting import events
from presspool.common.accounting.filter import Caps
from presspool.common.audit.cards.card import PACKAGES
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.statement import statement
from presspool.common.ledger import entries
from presspool.common.ledger.export import export
from presspool.common.ledger.store import Ledger
from presspool.common.runs.old_results import METRICS
from presspool.common.runs.result_file import parse_result, write_result
from presspool.common.runs.results import OutletResult, RoundResult, RunResult
from presspool.common.runs.run_folder import RunFolder, Setup
from presspool.common.transparency import notes

OUTLETS = ("north-post", "south-echo")
WEIGHTS = b"not a real adapter, but one with a hash"
ADAPTER = hashlib.sha256(WEIGHTS).hexdigest()
OTHER_RUN = "sha256:" + "b" * 64

FIELDS: dict[str, Any] = {
    "article30": {
        "controller": "North Post Ltd",
        "joint_controllers": "South Echo Ltd, by an arrangement of 2026-02-01",
        "purposes": "Sorting articles",
    },
    "dpia": {
        "reference": "DPIA 2026-04",
        "date": "2026-04-12",
        "author": "A. Editor",
        "conclusion": "The remaining risk is low.",
        "consultation": "not applicable, because the remaining risk is low",
    },
    "card": {
        "name": "Topics",
        "data_curators": ["North Post Ltd (Industry)", "South Echo Ltd (Nonprofit)"],
        "description": "Sorts titles.",
        "intended_use": "Archives",
        "region": "EU",
        "sector": "News media",
        "publication_date": "2026-11-30",
        "records_since": "2026-01-01",
        "records_until": "2026-06-30",
        "data_source": "Static",
        "releases": "None planned.",
        "preprocessing": "None.",
        "hyperparameters": "On public data.",
        "justification": "The editors agreed on ε.",
        "approver": "A. Editor",
        "retention": "Two years.",
        "erasure": "At the outlet.",
        "sources": "none",
        "notes": "none",
        "registry_authors": ["D. P. Officer"],
        "license": "apache-2.0",
        "language": "en",
    },
    "data_protection": {
        "legal_basis": "Consent, Article 6(1)(a)",
        "consent_source": "The banner of 2025-11-01",
        "tcf_purposes": ["1", "10"],
        "cmp_id": "300",
        "tcf_policy_version": "5",
        "special_categories": "Political opinions may show in comments; consent covers them.",
        "children": "Accounts are for adults.",
        "tdm_opt_out": "Own texts only.",
        "dpo_advice": "Go ahead, and look again in a year.",
        "dpo_advice_date": "2026-04-20",
        "attribute_inference": "not applicable, because records hold no attributes",
        "exfiltration": "not tested yet",
        "regurgitation": "not applicable, because the model writes nothing",
        "model_inversion": "not tested yet",
        "reconstruction": "not tested yet",
        "utility": "Accuracy 0.8 on public titles.",
        "bias": "Worse on short titles.",
        "access_control": "Two editors.",
        "data_collection_exposure": "In the archive, as ever.",
        "ai_act_modifier": "Not a provider: too little compute.",
        "base_model_flop": "3e17",
        "outlets_compute": "Two hours on one server each",
    },
}


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What lies on a compliance team's desk."""

    folder: Path
    contract: Contract

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def adapter(self) -> Path:
        return self.run / "adapter"

    @property
    def ledgers(self) -> list[Path]:
        return [self.folder / name / "ledger.db" for name in OUTLETS]

    @property
    def exports(self) -> list[Path]:
        return [self.folder / f"{name}.export" for name in OUTLETS]

    @property
    def fields(self) -> Path:
        return self.folder / "fields.toml"


def made_contract(**changes: Any) -> Contract:
    """A frozen contract of two outlets that needs no base model here."""
    body: dict[str, Any] = {
        "name": "topics",
        "model": {"weights": "sha256:" + "1" * 64, "tokenizer": "sha256:" + "2" * 64},
        "task": {"labels": ["world", "sport"]},
        "federation": {"rounds": 2, "local_steps": 2, "quorum": 2},
        "outlets": {"north-post": 300, "south-echo": 200},
        "privacy": {
            "noise_multiplier": 1.2,
            "clip": {"adapter": 0.5, "head": 1.0},
            "records_per_reader": 2,
            "sampling_rate": 0.1,
        },
        "optimizer": {"learning_rate": 0.5},
    }
    return parse_contract(body | changes)


def signer_of(outlet: str) -> notes.Signer:
    """The key of an outlet's ledger."""
    seed = hashlib.sha256(outlet.encode()).digest()
    return notes.Signer.load(f"presspool/{outlet}", seed, kind=notes.NOTE)


def make_desk(folder: Path, contract: Contract | None = None, **setup: Any) -> Desk:
    """Two ledgers with a life behind them, their exports, and the folder of a run in both."""
    from tests.fakes.made_runs import toml

    desk = Desk(folder=folder, contract=contract or made_contract())
    for outlet in OUTLETS:
        (folder / outlet).mkdir(parents=True)
        live(desk, outlet)
    write_run(desk, **setup)
    desk.fields.write_text(toml(FIELDS), encoding="utf-8")
    return desk


def live(desk: Desk, outlet: str) -> None:
    """An earlier run that crashed, refusals, the desk's run, a changed cap; signed and exported."""
    clock = days()
    signer, path = signer_of(outlet), desk.folder / outlet / "ledger.db"
    with Ledger.create(
        path,
        signer=signer,
        unit="reader",
        order=6,
        delta=1e-5,
        caps=Caps(epsilon_max=8.0, period=5.0),
        today=lambda: next(clock),
    ) as ledger:
        dataset, plan = entries.new_id(), desk.contract.plan
        old = ledger.reserve(
            run=OTHER_RUN,
            unit="reader",
            period="2026-Q1",
            datasets=[dataset],
            head=None,
            event=made_event(0.05, 1.0, 60),
        )
        ledger.intend(old.reservation, round_number=1, steps=30, digest="sha256:" + "3" * 64)
        if outlet == "south-echo":
            ledger.give_back(old.reservation, kept=30)
            ledger.settle(old.reservation)
        ledger.refuse(run="sha256:" + "e" * 64, reason="policy-noise")
        if plan.protected:
            pay(ledger, desk.contract, dataset)
        ledger.change_policy(Caps(epsilon_max=9.0, period=6.0))
        note = ledger.checkpoint(signer)
        cosigned = notes.Note(text=note.text).signed(WITNESSES[0].sign(note.text, time=5))
        ledger.cosign(cosigned, witnesses=[WITNESSES[0].key])
        (desk.folder / f"{outlet}.checkpoint").write_bytes(note.encode())
        with (desk.folder / f"{outlet}.export").open("wb") as stream:
            export(ledger, stream, signer=signer, witnesses=[WITNESSES[0].key])


def pay(ledger: Ledger, contract: Contract, dataset: str) -> None:
    """The contract's run, as an outlet pays for it."""
    plan = contract.plan
    kept = ledger.reserve(
        run=contract.digest,
        unit=plan.unit,
        period="2026-Q2",
        datasets=[dataset],
        head=None,
        event=events.from_dp(plan.event()),
        stated=entries.Stated(delta=plan.delta, epsilon=plan.epsilon(), version="0.6.0"),
    )
    steps = contract.federation.local_steps
    for number in range(1, contract.federation.rounds + 1):
        digest = f"sha256:{number:064x}"
        ledger.receive(run=contract.digest, round_number=number, digest=digest)
        ledger.intend(kept.reservation, round_number=number, steps=number * steps, digest=digest)
    ledger.settle(kept.reservation)


def made_event(rate: float, sigma: float, steps: int) -> events.SelfComposed:
    """A run of Poisson-sampled Gaussian steps."""
    step = events.PoissonSampled(rate=rate, event=events.Gaussian(noise_multiplier=sigma))
    return events.SelfComposed(event=step, count=steps)


def days() -> Iterator[date]:
    """A day a week, from the fifth of January."""
    day = date(2026, 1, 5)
    while True:
        yield day
        day += timedelta(weeks=1)


def write_run(desk: Desk, **setup: Any) -> None:
    """The run's folder, complete."""
    contract, folder = desk.contract, RunFolder(desk.run)
    plan = contract.plan
    made = Setup(**setup)
    with folder.claim(contract, made, resume=False):
        pass
    desk.adapter.mkdir()
    (desk.adapter / "adapter_model.safetensors").write_bytes(WEIGHTS)
    epsilon = plan.epsilon() if plan.protected else None
    delta = plan.delta if plan.protected else None
    rounds = [
        RoundResult(
            round=number,
            metrics=measured(),
            bytes_up=8 * (number > 0),
            bytes_down=8 * (number > 0),
            seconds=1.0,
            refused={},
            epsilon=plan.epsilon(2 * number) if plan.protected else None,
            outlets=tuple(contract.outlets) if number else (),
        )
        for number in range(contract.federation.rounds + 1)
    ]
    write_result(
        desk.run,
        RunResult(
            name=contract.name,
            contract_digest=contract.digest,
            status="complete",
            deterministic=made.deterministic is not None,
            measures=METRICS,
            rounds=tuple(rounds),
            outlets=tuple(
                OutletResult(
                    name=name,
                    population=n,
                    weight=contract.weights()[name],
                    epsilon=epsilon,
                    delta=delta,
                    unit=plan.unit,
                    steps=plan.steps,
                )
                for name, n in sorted(contract.outlets.items())
            ),
            adapter_sha256=ADAPTER,
            trust="local",
            accountant=contract.trust.accountant(),
            seconds=3.0,
            statement=statement(
                contract, adapter=f"sha256:{ADAPTER}", reproducible=made.deterministic is not None
            ),
            versions=dict.fromkeys(PACKAGES, "1.0"),
            contract=contract.body(),
        ),
    )


def change_result(desk: Desk, **changes: Any) -> None:
    """Write another result into the run's folder, one that is valid by itself."""
    path = desk.run / "result.json"
    write_result(desk.run, replace(parse_result(path.read_bytes()), **changes))


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """The folder's files are the same before and after."""
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    yield
    after = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    assert after.keys() == before.keys()
    assert after == before
