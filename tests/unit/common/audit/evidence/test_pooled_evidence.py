"""Reports on runs that share their noise, from folders and ledgers that somebody doctored."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.made_evidence import Desk, made_contract, make_desk
from tests.fakes.sums.pooled_runs import pooled_contract

from presspool.common.audit.evidence.evidence import Evidence, RunReading
from presspool.common.audit.evidence.governance import Fields
from presspool.common.audit.evidence.ledger_view import OutletReading
from presspool.common.audit.evidence.sources import read_outlet, read_run
from presspool.common.audit.pages.report_json import document
from presspool.common.audit.pages.report_page import render
from presspool.common.base.errors import FolderError
from presspool.common.contract.contract import Contract
from presspool.common.runs.results import PooledFigures


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return make_desk(tmp_path)


def doctored(desk: Desk, **changes: Any) -> None:
    path = desk.run / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "changes", [{"pooled": {"alone": 0.1, "every": 0.1}}, {"trust": "pooled"}, {"trust": "other"}]
)
def test_a_result_of_another_trust_model_than_its_contract_s_is_refused(
    desk: Desk, changes: dict[str, Any]
) -> None:
    """Two numbers more in a file would make a reader of every outlet pay 0.1."""
    doctored(desk, **changes)
    with pytest.raises(FolderError, match="another trust model"):
        read_run(desk.run)


def pooled_run(desk: Desk, contract: Contract, *, every: float) -> RunReading:
    """A run's reading whose result says what a reader at every outlet pays."""
    run = read_run(desk.run)
    (outlet, *_), steps = run.result.outlets, contract.steps
    epsilon = contract.trust.epsilon(contract)
    outlets = tuple(
        replace(outlet, name=name, population=n, steps=steps, epsilon=epsilon)
        for name, n in contract.outlets.items()
    )
    result = replace(
        run.result,
        outlets=outlets,
        rounds=(),
        status="running",
        trust="pooled",
        contract=contract.body(),
        contract_digest=contract.digest,
        pooled=PooledFigures(alone=0.1, every=every),
    )
    return replace(run, contract=contract, result=result)


def test_what_a_reader_of_every_outlet_pays_is_computed_and_not_read(desk: Desk) -> None:
    contract = pooled_contract()
    evidence = Evidence(outlets=(), runs=(pooled_run(desk, contract, every=0.1),))
    every, delta = contract.trust.several(contract, 4, contract.steps)
    found = evidence.worst_case(contract.digest)
    assert (found.epsilon, found.delta) == (Decimal(repr(every)), Decimal(repr(delta)))


def words(evidence: Evidence) -> list[tuple[str, str]]:
    return [(one["name"], one["words"]) for one in document(evidence, Fields())["trust"]["models"]]


def test_each_run_s_own_assumption_stands_in_a_report(desk: Desk) -> None:
    contracts = [pooled_contract(), pooled_contract(outlets=8, pooled={"colluders": 3})]
    runs = tuple(pooled_run(desk, contract, every=50.0) for contract in contracts)
    said = " ".join(text for _, text in words(Evidence(outlets=(), runs=runs)))
    assert "at most 1 of the 4 outlets" in said
    assert "at most 3 of the 8 outlets" in said


def with_pooled_run(desk: Desk) -> OutletReading:
    """An outlet's ledger as if one of its runs had shared its noise; no folder is at hand."""
    outlet, contract = read_outlet(desk.ledgers[0]), pooled_contract()
    shared = replace(outlet.runs[0], event=contract.trust.event(contract), run=contract.digest)
    return replace(outlet, runs=(*outlet.runs[1:], shared))


def test_ledgers_without_folders_do_not_say_that_noise_is_each_outlet_s_own(desk: Desk) -> None:
    outlet = with_pooled_run(desk)
    ((name, text),) = words(Evidence(outlets=(replace(outlet, runs=outlet.runs[-1:]),), runs=()))
    assert name == "pooled"
    assert "at most c of the K outlets" in text
    both = words(Evidence(outlets=(outlet,), runs=(read_run(desk.run),)))
    assert [name for name, _ in both] == ["local", "pooled"]


def test_a_report_of_nothing_pooled_has_one_trust_model(desk: Desk) -> None:
    outlets = tuple(read_outlet(path) for path in desk.ledgers)
    assert [name for name, _ in words(Evidence(outlets=outlets, runs=()))] == ["local"]
    assert made_contract().pooled is None


def test_lifetimes_of_outlets_that_share_their_noise_do_not_add_up(desk: Desk) -> None:
    """A reader of both is a group in their sums, which costs more than both ledgers charged."""
    outlets = [read_outlet(path) for path in desk.ledgers]
    assert Evidence(outlets=tuple(outlets), runs=()).claims is not None
    event, digest = pooled_contract().trust.event(pooled_contract()), "sha256:" + "9" * 64
    shared = [
        replace(one, runs=(replace(one.runs[0], event=event, run=digest), *one.runs[1:]))
        for one in outlets
    ]
    both = Evidence(outlets=tuple(shared), runs=())
    assert both.claims is None
    assert "outlets that share their noise" in render(document(both, Fields()))
    one_of_them = Evidence(outlets=(shared[0], outlets[1]), runs=())
    assert one_of_them.claims is not None  # in that run's sum there is one of them
