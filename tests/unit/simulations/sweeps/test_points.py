"""Points as contracts: what moves, what stays, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.fakes.made_runs import write_run

from presspool.common.base.errors import ContractError, InputError
from presspool.common.runs.run_file import RunFile, read_run_file
from presspool.simulations.sweeps.points import (
    corners,
    frozen_at,
    grid_points,
    judged_by,
    require_public,
    run_at,
)
from presspool.simulations.sweeps.sweep_file import Choices, Interval, Space, parse_sweep

Body = dict[str, Any]


@pytest.fixture
def run(tmp_path: Path, contract_body: Body) -> RunFile:
    return read_run_file(write_run(tmp_path, contract_body))


def test_a_grid_has_every_combination_once_the_last_key_fastest() -> None:
    space = {"privacy.epsilon": Choices((1, 3)), "federation.rounds": Choices((4, 8))}
    found = [tuple(point.values()) for point in grid_points(space)]
    assert found == [(1, 4), (1, 8), (3, 4), (3, 8)]
    assert grid_points({}) == [{}]


def test_corners_show_every_choice_and_both_ends() -> None:
    space: Space = {"a.b": Choices((1, 2, 3)), "c.d": Interval(low=0.1, high=9.0)}
    found = list(corners(space))
    assert {point["a.b"] for point in found} == {1, 2, 3}
    assert {point["c.d"] for point in found} == {0.1, 9.0}
    assert len(found) == 4


def test_only_the_swept_keys_and_the_seed_move(run: RunFile) -> None:
    point = {"privacy.noise_multiplier": 1.5, "optimizer.learning_rate": 2.0}
    moved = run_at(run, point, seed=9)
    was, now = run.contract.body(), moved.contract.body()
    assert moved.contract == run.contract.replace(
        seed=9, privacy={"noise_multiplier": 1.5}, optimizer={"learning_rate": 2.0}
    )
    assert {key for key in was if was[key] != now[key]} == {"seed", "privacy", "optimizer"}
    assert run_at(run, {}, seed=None).contract == run.contract
    assert run.written["seed"] == 3  # the run file itself is left as it is


def test_a_recipe_is_made_anew_at_each_point(tmp_path: Path, contract_body: Body) -> None:
    body = {
        "recipe": "default",
        "task": contract_body["task"],
        "model": contract_body["model"],
        "outlets": contract_body["outlets"],
        "privacy": {"epsilon": 3.0},
    }
    run = read_run_file(write_run(tmp_path, body))
    one, other = (
        run_at(run, {"privacy.epsilon": value}, seed=None).contract for value in (1.0, 8.0)
    )
    assert one.server.learning_rate != other.server.learning_rate
    direct = read_run_file(write_run(tmp_path / "x", {**body, "privacy": {"epsilon": 8.0}}))
    assert other == direct.contract


def test_a_point_is_priced_by_its_own_noise(run: RunFile) -> None:
    costs = [
        contract.trust.epsilon(contract)
        for sigma in (0.8, 1.6)
        for contract in [frozen_at(run_at(run, {"privacy.noise_multiplier": sigma}, seed=None))]
    ]
    assert costs[0] > costs[1] > 0


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ({"optimizer.learning_rat": 1.0}, "did you mean 'learning_rate'?"),
        ({"optimizer.learning_rate": -1.0}, "a number greater than 0"),
        ({"federation.quorum": 3}, "lists only 2"),
        ({"adapter.method": "lora"}, "adapter.method = lora"),
        ({"privacy.clip.head": 1.0}, "a value here, and the sweep a table"),
    ],
)
def test_a_point_that_is_no_contract_is_refused_by_name(
    run: RunFile, point: dict[str, Any], said: str
) -> None:
    with pytest.raises(ContractError) as told:
        run_at(run, point, seed=None, where="sweep.toml")
    assert said in str(told.value)
    assert str(told.value).startswith("sweep.toml")


def test_without_public_rows_there_is_no_sweep(run: RunFile) -> None:
    file = parse_sweep({"optimizer": {"learning_rate": [0.1, 1.0]}}, where="sweep.toml")
    assert require_public(run, file.space, "sweep.toml") is run.evaluation
    with pytest.raises(ContractError, match="nothing public to judge trials by"):
        require_public(run.model_copy(update={"evaluation": None}), file.space, "sweep.toml")


def test_epsilon_beside_a_given_sigma_is_refused(run: RunFile) -> None:
    file = parse_sweep({"privacy": {"epsilon": [1, 3]}}, where="sweep.toml")
    with pytest.raises(ContractError, match="each says what the other is"):
        require_public(run, file.space, "sweep.toml")


def test_only_what_the_task_measures_on_public_rows_judges(run: RunFile) -> None:
    assert judged_by(run.contract, None, "sweep.toml").name == "accuracy"
    assert not judged_by(run.contract, "loss", "sweep.toml").higher_is_better
    with pytest.raises(InputError, match="one of accuracy, macro_f1, loss"):
        judged_by(run.contract, "readers", "sweep.toml")
