"""A.5: a round that was handed out is spent, whether or not its average came to be.

An outlet that answered has released its update; that another one did not answer changes nothing for
its readers. The attack: let rounds miss their quorum, and read ε from the run's folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.instruments.detectors import current
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_runs import write_run

from presspool.client import client_app
from presspool.common.base.errors import EngineError, QuorumError
from presspool.common.contract.contract import Contract
from presspool.common.runs.result_file import read_result
from presspool.common.runs.run_file import read_run_file
from presspool.server.rounds.server_app import serve
from presspool.simulations.grids.local_grid import LocalGrid
from presspool.simulations.simulate import Prepared, SimulateOptions, prepare

SILENT = "south-echo"


@contextmanager
def failing_from(first: int) -> Iterator[list[int]]:
    """One outlet fails from this round on; yields the rounds in which another one trained."""
    trained: list[int] = []
    real = current(client_app, "answer")

    def answer(asked: Any, settings: Any, **more: Any) -> Any:
        if settings.name == SILENT and asked.number >= first:
            raise EngineError("no answer")
        made = yield from real(asked, settings, **more)
        if settings.name != SILENT:
            trained.append(asked.number)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client_app, "answer", answer)
        yield trained


@pytest.fixture
def prepared(contract_body: dict[str, Any], tmp_path: Path) -> Prepared:
    body = {**contract_body, "federation": {"rounds": 3, "local_steps": 2, "quorum": 2}}
    return prepare(read_run_file(write_run(tmp_path, body)), SimulateOptions(out=tmp_path / "run"))


def attempt(prepared: Prepared, *, bound: bool = False) -> None:
    with LocalGrid(prepared.outlets, workers=0) as grid:
        serve(grid, prepared.folder, bound=bound)


def spent(contract: Contract, rounds: int) -> float:
    """ε of so many rounds, by nothing of the code that is looked at."""
    from presspool.common.contract.privacy_loss import epsilon_of

    plan, steps = contract.plan, rounds * contract.federation.local_steps
    return epsilon_of(plan.noise_multiplier, plan.sampling_rate, steps, plan.delta)


def figures(prepared: Prepared) -> dict[str, float | None]:
    return {outlet.name: outlet.epsilon for outlet in read_result(prepared.folder.path).outlets}


@pytest.mark.parametrize("first", [1, 2, 3])
def test_the_folder_says_what_was_released(prepared: Prepared, first: int) -> None:
    contract = prepared.folder.read_contract()
    with failing_from(first) as trained, pytest.raises(QuorumError):
        attempt(prepared)
    assert trained == list(range(1, first + 1))  # updates of as many rounds have left
    assert figures(prepared) == dict.fromkeys(contract.outlets, spent(contract, first))
    result = read_result(prepared.folder.path)
    assert (result.status, len(result.rounds)) == ("running", first)  # whole rounds, and the start
    assert result.epsilon == spent(contract, first)
    assert "INCOMPLETE" in result.statement
    assert "INCOMPLETE" in prepared.folder.report.read_text()


def test_a_simulation_that_is_continued_pays_for_both_answers(prepared: Prepared) -> None:
    """Without a ledger an outlet answers a round again with fresh noise."""
    contract = prepared.folder.read_contract()
    for attempts in (1, 2):
        with failing_from(2) as trained, pytest.raises(QuorumError):
            attempt(prepared)
        assert trained == [1, 2][attempts - 1 :]
        assert set(figures(prepared).values()) == {spent(contract, 1 + attempts)}
    attempt(prepared)
    result = read_result(prepared.folder.path)
    assert result.status == "complete"
    assert set(figures(prepared).values()) == {spent(contract, 5)}  # of three: round 2 three times
    assert [done.epsilon for done in result.rounds] == [
        0.0,
        *(pytest.approx(spent(contract, n)) for n in (1, 4, 5)),
    ]
    assert f"(ε = {spent(contract, 5):.2f}"[:-1] in result.statement


def test_a_kill_in_mid_round_is_counted(prepared: Prepared) -> None:
    contract = prepared.folder.read_contract()

    class KilledError(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> Any:
        raise KilledError

    for attempts in (1, 2, 3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(client_app, "answer", killed)
            with pytest.raises(KilledError):
                attempt(prepared)
        assert set(figures(prepared).values()) == {spent(contract, attempts)}


def test_where_ledgers_bind_answers_a_round_costs_once(prepared: Prepared) -> None:
    contract = prepared.folder.read_contract()
    for _ in range(3):
        with failing_from(2), pytest.raises(QuorumError):
            attempt(prepared, bound=True)
        assert set(figures(prepared).values()) == {spent(contract, 2)}
    attempt(prepared, bound=True)
    assert set(figures(prepared).values()) == {spent(contract, 3)}


def test_reports_from_the_folder_alone_count_it(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contract = prepared.folder.read_contract()
    with failing_from(2), pytest.raises(QuorumError):
        attempt(prepared)
    audit: Command = typed(monkeypatch, capsys, "audit")
    said = json.loads(audit("report", prepared.folder.path, "--format", "json").out)
    [case] = said["worst_cases"]
    assert Decimal(case["epsilon"]) == 2 * Decimal(repr(spent(contract, 2)))
    [run] = said["runs"]
    assert (run["status"], "INCOMPLETE" in run["statement"]) == ("running", True)
