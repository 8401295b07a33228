"""The coordinator's step: plain averaging, and Adam against torch's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import REPOSITORY
from tests.fakes.made_house import made_house
from tests.fakes.made_runs import Arrays

from presspool.common.base.errors import ContractError
from presspool.common.base.validation import validate
from presspool.common.contract.contract_schema import Server
from presspool.common.models.adapters import State, group_of
from presspool.server.rounds.aggregators.adam import Adam
from presspool.server.rounds.aggregators.aggregator import Aggregator
from presspool.server.rounds.aggregators.average import Average

STATE: Arrays = {
    "layer.lora_B.weight": np.ones((2, 3), np.float32),
    "head.modules_to_save.default.weight": np.zeros(4, np.float32),
}


def updates(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    return [{n: rng.normal(size=a.shape) for n, a in STATE.items()} for _ in range(count)]


def walk(aggregator: Aggregator, count: int) -> list[Any]:
    """States and moments after each of `count` rounds from `STATE`."""
    state: State = dict(STATE)
    moments: State = {}
    reached = []
    for number, update in enumerate(updates(count), start=1):
        state, moments = aggregator.step(state, update, moments, number=number)
        reached.append((state, moments))
    return reached


def test_averaging_adds_the_update() -> None:
    (change,) = updates(1)
    after, moments = Average(Server(), 1).step(STATE, change, {}, number=1)
    for name, array in STATE.items():
        np.testing.assert_allclose(after[name], array + change[name], rtol=1e-6)
        assert after[name].dtype == np.float32
    assert moments == {}


def test_adam_is_torchs_adam_on_the_negative_update() -> None:
    spec = Server(name="adam", learning_rate={"all": 0.3}, betas=(0.8, 0.95))
    parameters = {n: torch.nn.Parameter(torch.tensor(a).double()) for n, a in STATE.items()}
    adam = torch.optim.Adam(parameters.values(), lr=0.3, betas=(0.8, 0.95), eps=0.0)
    for (state, _), change in zip(walk(Adam(spec, 5), 5), updates(5), strict=True):
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
    after, _ = Average(spec, 1).step(STATE, change, {}, number=1)
    assert {group_of(name) for name in STATE} == {"adapter", "head"}
    for name, array in STATE.items():
        rate = spec.learning_rate[group_of(name)]
        np.testing.assert_allclose(after[name], array + rate * change[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("number", "factor"), [(1, 1.0), (3, 0.5), (4, 0.146447)])
def test_the_cosine_ends_near_zero(number: int, factor: float) -> None:
    (change,) = updates(1)
    after, _ = Average(Server(schedule="cosine"), 4).step(STATE, change, {}, number=number)
    for name, array in STATE.items():
        np.testing.assert_allclose(after[name] - array, factor * change[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", [Average, Adam])
def test_the_tail_ends_the_run_with_the_mean_of_its_states(kind: type[Aggregator]) -> None:
    """Outlets go on from the last state all the same, and a run cut anywhere ends likewise."""
    last = [state for state, _ in walk(kind(Server(), 5), 5)]
    tailed = walk(kind(Server(tail=0.6), 5), 5)
    for name in STATE:
        for (state, _), plain in zip(tailed[:4], last[:4], strict=True):
            np.testing.assert_array_equal(state[name], plain[name])
        mean = np.mean([state[name] for state in last[2:]], axis=0)
        np.testing.assert_allclose(tailed[4][0][name], mean, rtol=1e-5)


def test_a_contract_without_a_tail_has_the_bytes_that_it_had() -> None:
    assert "tail" not in Server().model_dump()
    assert Server(tail=0.5).model_dump()["tail"] == 0.5


def test_a_coordinate_that_never_moved_stays() -> None:
    still = {name: np.zeros(array.shape) for name, array in STATE.items()}
    after, _ = Adam(Server(name="adam"), 1).step(STATE, still, {}, number=1)
    for name, array in STATE.items():
        np.testing.assert_array_equal(after[name], array)


def test_an_unknown_aggregator_is_refused_with_the_nearest_known() -> None:
    with pytest.raises(ContractError) as caught:
        validate(Server, {"name": "adm"}, where="run.toml")
    assert "did you mean 'adam'?" in str(caught.value)


def test_nobody_else_asks_for_an_aggregator_by_name() -> None:
    """The door is closed behind the registry: what an aggregator is, only its own file knows."""
    sources = [
        file
        for folder in ("client", "common", "server", "simulations")
        for file in (REPOSITORY / folder).rglob("*.py")
    ]
    asked = [f for f in sources if re.search(r"(server|spec)\.name\s*(==|!=|in)\s", f.read_text())]
    assert [f.name for f in asked if "optimizer" not in f.read_text()] == []


MEDIAN = '''"""The coordinate-wise median of the outlets' changes (Yin et al., ICML 2018)."""

import numpy as np

from presspool.server.rounds.aggregators.average import Average


class Median(Average):
    """Adds the median update times the rate; weights play no part."""

    def combine(self, updates, weights):
        names = next(iter(updates.values())).delta
        deltas = [update.delta for _, update in sorted(updates.items())]
        return {n: np.median(np.stack([d[n] for d in deltas]), axis=0) for n in names}
'''

PROGRAM = """
import numpy as np
from presspool.common.contract.contract_schema import Server
from presspool.common.wire.update import AdapterUpdate
from presspool.common.contract.doors import AGGREGATORS

spec = Server(name="median")
median = AGGREGATORS[spec.name](spec, 1)
updates = {
    name: AdapterUpdate(outlet=name, round=1, contract="", base="", delta={"w": np.float32([x])})
    for name, x in {"a": 1.0, "b": 2.0, "c": 900.0}.items()
}
state = {"w": np.zeros(1, np.float32)}
print(median.step(state, median.combine(updates, {}), {}, number=1)[0]["w"])
"""


def test_another_aggregator_is_one_file_and_one_line(tmp_path: Path) -> None:
    house = made_house(tmp_path)
    house.add("server/rounds/aggregators/median.py", MEDIAN)
    house.register("aggregator", '"median": "presspool.server.rounds.aggregators.median:Median",')
    said = house.python("-c", PROGRAM)
    assert said.stdout.strip() == "[2.]", said.stderr
