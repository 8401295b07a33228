"""Whole runs whose outlets share their noise, on one machine: what is trained, charged and said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tests.fakes.instruments.detectors import ask
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_runs import write_run

from presspool.client.client_app import work
from presspool.client.enforcement import Unmetered
from presspool.client.identity.settings import read_settings
from presspool.client.round import Round
from presspool.common.accounting.pooled_plan import of_contract
from presspool.common.audit.cards import card_making
from presspool.common.audit.cards.card_reading import _claims
from presspool.common.audit.evidence.evidence import Evidence
from presspool.common.audit.evidence.governance import Fields, parse
from presspool.common.audit.evidence.sources import read_outlet, read_run
from presspool.common.audit.pages.report_json import document
from presspool.common.base.errors import GuardError, PressPoolError, QuorumError
from presspool.common.contract.contract import Contract
from presspool.common.ledger.entries import GuardReason
from presspool.common.ledger.recompute import recompute
from presspool.common.ledger.store import Ledger
from presspool.common.models.adapters import read
from presspool.common.models.models import build
from presspool.common.runs.result_file import read_result
from presspool.common.runs.run_file import read_run_file
from presspool.common.runs.run_folder import RunFolder
from presspool.common.trust.pooled import Pooled
from presspool.common.wire.update import TrainTask, pack_task
from presspool.simulations.pictures import FIELDS
from presspool.simulations.simulate import SimulateOptions, prepare, simulate

Body = dict[str, Any]


@pytest.fixture
def presspool(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """A function that runs a command and gives exit code, output and messages."""
    return typed(monkeypatch, capsys)


@pytest.fixture
def pooled_body(contract_body: Body) -> Body:
    """Four outlets, three steps, both LoRA factors; one outlet may collude."""
    privacy = {k: v for k, v in contract_body["privacy"].items() if k != "noise_multiplier"}
    return contract_body | {
        "adapter": contract_body["adapter"] | {"method": "fedit"},
        "federation": {"trust": "pooled", "rounds": 3, "local_steps": 1},
        "outlets": {"east-star": 25, "north-post": 30, "south-echo": 20, "west-sun": 25},
        "privacy": privacy | {"epsilon": 6.0},
        "pooled": {"colluders": 1, "dropouts": 0},
        "server": {"name": "adam", "learning_rate": 0.05},
    }


def adapter(folder: Path) -> dict[str, Any]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def ran(path: Path, out: Path, **changes: Any) -> Path:
    """A whole run on a grid without worker processes."""
    torch.set_num_threads(1)
    simulate(read_run_file(path), SimulateOptions(out=out, workers=0, **changes))
    return out


def test_a_pooled_run_from_run_file_to_ledger(tmp_path: Path, pooled_body: Body) -> None:
    """Both factors train; statement, result, report and ledgers say the assumption and figures."""
    out = ran(write_run(tmp_path, pooled_body), tmp_path / "x", ledgers=True)
    contract, result = RunFolder(out).read_contract(), read_result(out)
    plan, table = of_contract(contract), contract.pooled
    assert table is not None
    assert table.parameters is not None
    assert table.parameters == sum(a.size for a in adapter(out).values())
    assert result.epsilon is not None
    assert result.epsilon == plan.stated().epsilon <= 6.0
    assert result.pooled is not None
    assert result.pooled.alone == plan.alone().epsilon > result.epsilon
    assert result.worst_case is not None
    assert float(result.worst_case[0]) == plan.stated(at=4).epsilon > 4 * result.epsilon
    assumption = "if at most 1 of the 4 outlets work together with the coordinator"
    assert assumption in result.statement
    assert "ε = 14.701 holds (its own share alone)" in result.statement
    page = (out / "report.html").read_text()
    assert assumption in page
    assert "a group inside each of the sums" in page
    assert all(done.bytes_up == 4 * 4 * table.parameters for done in result.rounds[1:])
    for path in sorted((out / "ledgers").iterdir()):
        with path.open("rb") as stream:
            found = recompute(stream)
        (run,) = found.runs
        assert not found.failures
        order = found.verified.book.opened.order
        assert run.charged == pytest.approx(plan.cost(order), abs=1e-9)
        assert run.stated == result.epsilon


def test_a_card_names_the_assumption_and_no_sum_of_epsilons(
    tmp_path: Path, pooled_body: Body
) -> None:
    out = ran(write_run(tmp_path, pooled_body), tmp_path / "x", ledgers=True)
    contract = RunFolder(out).read_contract()
    ledgers = [read_outlet(path) for path in sorted((out / "ledgers").iterdir())]
    card = card_making.make(read_run(out), ledgers, parse(FIELDS), covers=())
    every = float(card.governance.reader_of_every_outlet.epsilon)
    assert every == of_contract(contract).stated(at=4).epsilon
    assert card.training.collusion_threshold == 1
    assert "at most 1 of the 4 outlets work together" in card.training.collusion_details
    assert "presspool Renyi" in card.training.accountant
    text = json.dumps(card.model_dump(mode="json"), ensure_ascii=False)
    assert "a group inside each sum" in text
    made = card.registry.implementation.mechanisms
    assert "2^-16 of the sensitivity" in made
    assert "discrete Gaussian" in made
    assert "dp_accounting" not in made
    assert "cap on" not in card.registry.accounting.post_processing
    weights = card.governance.hashes.adapter
    for field, ours, theirs in _claims(card, weights, contract):  # who fetches it believes it
        assert ours == theirs, field
    evidence = document(Evidence(outlets=tuple(ledgers), runs=(read_run(out),)), Fields())
    assert float(evidence["worst_cases"][0]["epsilon"]) == every
    (run,) = evidence["outlets"][0]["runs"]
    assert run["epsilon_alone"] == of_contract(contract).alone().epsilon


def test_reproducible_runs_are_equal_and_follow_the_sum(tmp_path: Path, pooled_body: Body) -> None:
    """Worker processes or none: the same bytes; and a first step by hand."""
    body = pooled_body | {
        "server": {"name": "average", "learning_rate": 1.0},
        "federation": pooled_body["federation"] | {"rounds": 1},
    }
    path = write_run(tmp_path, body)
    one = ran(path, tmp_path / "one", deterministic=3)
    two = tmp_path / "two"
    simulate(read_run_file(path), SimulateOptions(out=two, workers=2, deterministic=3))
    name = "adapter/adapter_model.safetensors"
    assert (one / name).read_bytes() == (two / name).read_bytes()
    assert "NOT private" in read_result(one).statement


def test_a_round_with_too_few_answers_fails_and_every_attempt_counts(
    tmp_path: Path, pooled_body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With d = 0 all four outlets are needed; on `--resume` the round is trained anew."""
    path, out = write_run(tmp_path, pooled_body), tmp_path / "x"

    def lost(_: Any) -> bytes:
        raise RuntimeError("an answer is lost")

    with monkeypatch.context() as patch:
        patch.setattr(Unmetered, "bind", lambda self, data: lost(data) if self.name > "s" else "")
        with pytest.raises(QuorumError, match="at least 4"):
            ran(path, out)
    ran(path, out, resume=True)
    result, contract = read_result(out), RunFolder(out).read_contract()
    assert result.outlets[0].steps == 4
    assert result.epsilon == of_contract(contract).stated(steps=4).epsilon > 6.0
    assert result.pooled is not None
    assert result.pooled.alone == contract.trust.alone(contract, 4)


def test_a_poisoned_sum_ends_the_run_and_names_the_round(
    tmp_path: Path, pooled_body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(self: Pooled, contract: Contract, delta: Any) -> Any:
        return {name: np.full(a.shape, 2**28, self.dtype(contract)) for name, a in delta.items()}

    monkeypatch.setattr(Pooled, "seal", poisoned)
    with pytest.raises(PressPoolError, match="round 1: the sum of 4 outlets is longer"):
        ran(write_run(tmp_path, pooled_body), tmp_path / "x")


@pytest.mark.parametrize("spoilt", [np.float32, np.int64, np.int16])
def test_an_answer_of_another_kind_of_number_is_not_added_up(
    tmp_path: Path, pooled_body: Body, monkeypatch: pytest.MonkeyPatch, spoilt: Any
) -> None:
    def other(self: Pooled, contract: Contract, delta: Any) -> Any:
        return {name: a.astype(spoilt) for name, a in delta.items()}

    monkeypatch.setattr(Pooled, "seal", other)
    with pytest.raises(QuorumError):
        ran(write_run(tmp_path, pooled_body), tmp_path / "x")


def test_outlets_alone_beside_a_pooled_run_have_noise_of_their_own(
    tmp_path: Path, pooled_body: Body
) -> None:
    run = read_run_file(write_run(tmp_path, pooled_body)).with_own_noise()
    contract = run.only(["north-post"], quorum=1).contract
    assert contract.federation.trust == "local"
    assert contract.privacy.epsilon == 6.0
    assert b"pooled" not in contract.canonical()


@pytest.mark.parametrize("command", ["contract check", "plan"])
def test_what_a_pooled_run_costs_is_told_before_it_is_trained(
    tmp_path: Path, pooled_body: Body, presspool: Command, command: str
) -> None:
    code, said, errors = presspool(*command.split(), write_run(tmp_path, pooled_body))
    assert code == 0, errors
    words = " ".join(said.split())
    assert {
        "contract check": "1 of the 4 outlets work together with the coordinator. If everybody "
        "else does: ε = 14.71.",
        "plan": "has at most 1 of the 4 outlets on its side",
    }[command] in words


# --- What a network is not offered ---------------------------------------------------------------


def pooled_task(contract: Contract) -> TrainTask:
    """The first round's."""
    return TrainTask(
        contract=contract.canonical().decode(),
        digest=contract.digest,
        round=1,
        state=read(build(contract)),
    )


@pytest.mark.parametrize(("ledgers", "code"), [(False, "policy-trust"), (True, "sum-refused")])
def test_an_outlet_that_has_no_keys_of_its_peers_refuses_a_pooled_run_over_a_network(
    tmp_path: Path, pooled_body: Body, ledgers: bool, code: GuardReason
) -> None:
    """With a policy that allows it and a person's approval as well; nothing is charged."""
    prepared = prepare(
        read_run_file(write_run(tmp_path, pooled_body)),
        SimulateOptions(out=tmp_path / "x", ledgers=ledgers),
    )
    contract, settings = prepared.folder.read_contract(), read_settings(prepared.outlets[0])
    assert (settings.ledger is not None) == ledgers
    with pytest.raises(GuardError) as caught:
        work(Round(pooled_task(contract)), settings, loopback=True)
    assert caught.value.code == code
    if settings.ledger is not None:
        with Ledger(settings.ledger) as ledger:
            assert ledger.book.spent == 0
            assert ledger.book.refused(contract.digest, code)


@pytest.mark.parametrize("near", [False, True])
def test_a_node_of_stock_flower_refuses_it_too(
    tmp_path: Path, pooled_body: Body, near: bool
) -> None:
    """What a node is not told by its own operator, no task tells it."""
    prepared = prepare(
        read_run_file(write_run(tmp_path, pooled_body)), SimulateOptions(out=tmp_path / "x")
    )
    content = pack_task(pooled_task(prepared.folder.read_contract()))
    assert ask(prepared.outlets[0], content, loopback=near).error.reason == "policy-trust"


def test_a_model_of_another_size_is_refused(
    tmp_path: Path, pooled_body: Body, presspool: Command
) -> None:
    body = pooled_body | {"pooled": pooled_body["pooled"] | {"parameters": 600}}
    code, _, errors = presspool("simulate", str(write_run(tmp_path, body)), "--out", "x")
    assert code == 2
    assert "[pooled] parameters" in errors
    assert "600" in errors
