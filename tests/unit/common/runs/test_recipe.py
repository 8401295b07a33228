"""The default recipe is a valid contract, and its rule of thumb measures what it says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.runs.recipe import Trained, head_recipe, noise_share, recipe


def contract_of(trained: Trained, populations: dict[str, int], epsilon: float) -> Contract:
    tables = recipe(trained=trained)
    tables["task"]["labels"] = ["a", "b"]
    tables["privacy"]["epsilon"] = epsilon
    return parse_contract({"name": "r", "outlets": populations, **tables}).with_noise()


@pytest.mark.parametrize("trained", ["head", "adapter"])
def test_a_recipe_is_a_contract_for_any_budget(trained: Trained) -> None:
    for epsilon in (1.0, 8.0):
        plan = contract_of(trained, {"one": 300, "two": 5000}, epsilon).plan
        assert plan.unit == "reader"
        assert epsilon * 0.97 < plan.epsilon() <= epsilon


def test_the_noise_share_is_that_of_simulated_noise() -> None:
    """Noise of every outlet, averaged by populations, over the run: its norm by the clip norm."""
    plan = contract_of("adapter", {"one": 500, "two": 500}, 8.0).plan
    parameters, rng = 4000, np.random.default_rng(0)
    total = np.zeros(parameters)
    for _ in range(plan.steps):
        for weight in (0.5, 0.5):
            noise = rng.normal(scale=plan.noise_std, size=parameters)
            total += weight * noise / plan.expected_batch(500)
    measured = np.linalg.norm(total) / plan.steps / plan.sensitivity
    assert noise_share(plan, {"one": 500, "two": 500}, parameters) == pytest.approx(
        measured, rel=0.05
    )


def test_more_readers_more_budget_and_fewer_parameters_help() -> None:
    plan = contract_of("adapter", {"one": 500}, 8.0).plan
    here = noise_share(plan, {"one": 500}, 1000)
    assert noise_share(plan, {"one": 1000}, 1000) == pytest.approx(here / 2)
    assert noise_share(plan, {"one": 500}, 4000) == pytest.approx(2 * here)
    assert noise_share(replace(plan, noise_multiplier=0.0), {"one": 500}, 1000) == 0
    tighter = contract_of("adapter", {"one": 500}, 1.0).plan
    assert noise_share(tighter, {"one": 500}, 1000) > here
    assert math.isfinite(here)


def head_contract(populations: dict[str, int], epsilon: float) -> Contract:
    tables = head_recipe(populations=populations, classes=3, epsilon=epsilon)
    tables["task"]["labels"] = ["a", "b", "c"]
    tables["privacy"]["epsilon"] = epsilon
    return parse_contract({"name": "r", "outlets": populations, **tables}).with_noise()


def test_the_head_goes_less_far_with_more_noise_and_stays_finite_without() -> None:
    def distance(populations: dict[str, int], epsilon: float) -> float:
        contract = head_contract(populations, epsilon)
        return contract.server.learning_rate["all"] * contract.steps

    one, two = {"one": 1000}, {"one": 500, "two": 500}
    assert distance(one, 1.0) < distance(one, 3.0) < distance(one, 8.0) < distance(one, math.inf)
    assert distance(two, 3.0) < distance(one, 3.0)  # every outlet adds noise of its own
    assert distance(two, math.inf) == distance(one, math.inf)
