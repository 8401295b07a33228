"""The coordinator's step: plain averaging, and Adam against torch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.fakes.made_runs import Arrays

from presspool.common.contract.contract_schema import Server
from presspool.common.models.adapters import group_of
from presspool.server.rounds.server_optimizer import step

STATE: Arrays = {
    "layer.lora_B.weight": np.ones((2, 3), np.float32),
    "head.modules_to_save.default.weight": np.zeros(4, np.float32),
}


def updates(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    return [{n: rng.normal(size=a.shape) for n, a in STATE.items()} for _ in range(count)]


def walk(spec: Server, count: int, *, start: int = 0, moments: Arrays | None = None) -> list[Any]:
    """States and moments after each of `count` rounds from `STATE`."""
    state: Arrays = dict(STATE)
    reached, moments = [], moments or {}
    for number, update in enumerate(updates(count), start=start + 1):
        state, moments = step(
            spec, state, update, moments, done=(number - 1) / count, number=number
        )
        reached.append((state, moments))
    return reached


def test_averaging_adds_the_update() -> None:
    (change,) = updates(1)
    after, moments = step(Server(), STATE, change, {}, done=0.0, number=1)
    for name, array in STATE.items():
        np.testing.assert_allclose(after[name], array + change[name], rtol=1e-6)
        assert after[name].dtype == np.float32
    assert moments == {}


def test_adam_is_torchs_adam_on_the_negative_update() -> None:
    spec = Server(name="adam", learning_rate={"all": 0.3}, betas=(0.8, 0.95))
    parameters = {n: torch.nn.Parameter(torch.tensor(a).double()) for n, a in STATE.items()}
    adam = torch.optim.Adam(parameters.values(), lr=0.3, betas=(0.8, 0.95), eps=0.0)
    for (state, _), change in zip(walk(spec, 5), updates(5), strict=True):
        for name, parameter in parameters.items():
            parameter.grad = torch.tensor(-change[name])
        adam.step()
        for name, parameter in parameters.items():
            np.testing.assert_allclose(
                state[name], parameter.detach().numpy(), rtol=1e-4, atol=1e-5
            )


def test_groups_have_their_own_rates() -> None:
    (change,) = updates(1)
    spec = Server(learning_rate={"adapter": 0.0001, "head": 2.0})
    after, _ = step(spec, STATE, change, {}, done=0.0, number=1)
    assert {group_of(name) for name in STATE} == {"adapter", "head"}
    for name, array in STATE.items():
        rate = spec.learning_rate[group_of(name)]
        np.testing.assert_allclose(after[name], array + rate * change[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("done", "factor"), [(0.0, 1.0), (0.5, 0.5), (0.75, 0.146447)])
def test_the_cosine_ends_near_zero(done: float, factor: float) -> None:
    (change,) = updates(1)
    after, _ = step(Server(schedule="cosine"), STATE, change, {}, done=done, number=1)
    for name, array in STATE.items():
        np.testing.assert_allclose(after[name] - array, factor * change[name], rtol=1e-3, atol=1e-5)


def test_a_coordinate_that_never_moved_stays() -> None:
    still = {name: np.zeros(array.shape) for name, array in STATE.items()}
    after, _ = step(Server(name="adam"), STATE, still, {}, done=0.0, number=1)
    for name, array in STATE.items():
        np.testing.assert_array_equal(after[name], array)
