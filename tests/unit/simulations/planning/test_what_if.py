"""`presspool simulate --what-if`: a cost model that counts bytes, and says what it stands on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.instruments.typed import typed
from tests.fakes.made_runs import write_run

from presspool.common.base.errors import ContractError
from presspool.common.contract.contract import Contract
from presspool.common.models import adapters
from presspool.common.models.models import build
from presspool.common.wire.flower import from_bytes
from presspool.common.wire.update import unpack_update
from presspool.simulations.planning import what_if as model
from presspool.simulations.planning.coordinator_points import made_answer, of_outlets
from presspool.simulations.planning.linear_fit import fitted
from presspool.simulations.planning.what_if import Prices, what_if

Body = dict[str, Any]
MANY = 300


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few and small points: what is measured is not judged here."""
    monkeypatch.setattr(model, "COUNTS", (2, 3, 4))
    monkeypatch.setattr(model, "MOST_READERS", 8)


@given(st.lists(st.integers(1, 50), min_size=2, max_size=9, unique=True), st.data())
def test_the_line_is_numpy_s(sizes: list[int], data: st.DataObject) -> None:
    seconds = [data.draw(st.floats(0.1, 100)) for _ in sizes]
    line = fitted([(float(n), y) for n, y in zip(sizes, seconds, strict=True)])
    each, fixed = np.polyfit(sizes, seconds, 1)
    assert line.each == pytest.approx(each, abs=1e-6, rel=1e-6)
    assert line.fixed == pytest.approx(fixed, abs=1e-6, rel=1e-6)


def test_a_point_off_the_line_shows_in_the_residual() -> None:
    straight, bent = fitted([(1, 1), (2, 2), (3, 3)]), fitted([(1, 1), (2, 4), (3, 3)])
    assert straight.residual == pytest.approx(0)
    assert bent.residual == pytest.approx(max(abs(bent.at(x) - y) / y for x, y in bent.points))
    assert bent.residual > 0.3
    assert bent.to_json()["points"][1] == {"x": 2, "measured": 4, "fitted": bent.at(2)}
    assert straight.at(-5) == 0


@pytest.mark.usefixtures("small")
def test_bytes_are_those_of_the_messages_that_would_be_sent(contract: Contract) -> None:
    found, many = what_if(contract, outlets=MANY), of_outlets(contract, MANY)
    state = adapters.read(build(contract))
    numbers = sum(array.size for array in state.values())
    answer = made_answer(many, "outlet-000000", state)
    assert found.bytes_up == len(answer)
    update = unpack_update(from_bytes(answer))
    assert {n: a.shape for n, a in update.delta.items()} == {n: a.shape for n, a in state.items()}
    assert found.bytes_contract == len(many.canonical())
    for moved, besides in ((found.bytes_up, 0), (found.bytes_down, found.bytes_contract)):
        assert 4 * numbers < moved - besides < 4 * numbers + 2000
    assert found.traffic == (found.bytes_up + found.bytes_down) * MANY * 2


@pytest.mark.usefixtures("small")
def test_money_is_what_it_is_made_of(contract: Contract) -> None:
    found = what_if(contract, outlets=MANY, prices=Prices(3.6, 1e9))
    assert found.money == {
        "coordinator": pytest.approx(found.seconds_of_coordinator / 1000),
        "outlets": pytest.approx(MANY * found.seconds_of_outlet / 1000),  # each in each round
        "traffic": pytest.approx(found.traffic),
    }
    assert found.seconds_of_coordinator == 2 * found.coordinator.at(MANY)
    assert found.seconds_of_outlet >= found.most_steps * found.step.at(found.readers)
    assert what_if(contract, outlets=MANY).money == {}


@pytest.mark.usefixtures("small")
def test_a_cohort_costs_what_its_outlets_cost(contract: Contract) -> None:
    some = contract.replace(federation={"cohort": 2})
    found = what_if(some, outlets=MANY)
    assert (found.asked, found.most_steps) == (2, 2)  # one turn of two rounds, two steps in it
    assert found.traffic == (found.bytes_up + found.bytes_down) * 2 * 2
    assert found.to_json()["asked_in_round"] == 2


@pytest.mark.usefixtures("small")
def test_the_command_prints_points_and_writes_nothing(
    tmp_path: Path,
    contract_body: Body,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = write_run(tmp_path, contract_body)
    before, presspool = sorted(tmp_path.rglob("*")), typed(monkeypatch, capsys)
    monkeypatch.chdir(tmp_path)
    words = ["simulate", str(run), "--what-if", "--outlets", str(MANY), "--price-gb", "0.09"]
    found = json.loads(presspool(*words, "--json").out)
    assert [p["x"] for p in found["fits"]["coordinator_seconds_by_outlets"]["points"]] == [2, 3, 4]
    assert found["outlets"] == MANY
    assert list(found["money"]) == ["traffic"]
    said = presspool(*words).out
    assert "What if 300 outlets, 300 of them in a round, ran it for 2 rounds?" in said
    assert "75 times the most that were measured: an extrapolation" in " ".join(said.split())
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "words",
    [
        ("--what-if", "--prepare-only"),
        ("--what-if", "--local-only"),
        ("--local-only", "--prepare-only"),
        ("--price-gb", "1"),
    ],
)
def test_two_things_at_once_are_refused(
    tmp_path: Path,
    contract_body: Body,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    run = write_run(tmp_path, contract_body)
    done = typed(monkeypatch, capsys)("simulate", str(run), "--out", str(tmp_path / "x"), *words)
    assert done.code == 2
    assert not (tmp_path / "x").exists()


def test_sums_of_all_have_no_cost_model(contract: Contract) -> None:
    pooled = contract.replace(
        federation={"trust": "pooled", "local_steps": 1},
        pooled={"colluders": 1, "dropouts": 0},
        privacy={"noise_multiplier": 2.0},
    )
    with pytest.raises(ContractError, match="no cost model"):
        what_if(pooled)
