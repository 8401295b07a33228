"""The attacks on an encoder that says hidden tokens: a tiny BERT, sentences of random words."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tests.fakes.bases.masked_bases import write_masked_base

from presspool.client.engine.randomness import SecureRandom
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.models import adapters
from presspool.common.models.base_model import resolve
from presspool.common.models.models import build
from presspool.simulations.attack.attack import Options, attack
from presspool.simulations.attack.attacked_outlet import made_readers
from presspool.simulations.attack.canaries import plant
from presspool.simulations.attack.findings import Attack
from presspool.simulations.attack.tasks.attacked_task import attacked


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    """ε = 3, in three rounds of two steps; the model knows three hundred words."""
    made = ("minister", "talks", "goal", "market", "the", "new", "rates")  # of the self-test
    words = [*made, *map("".join, itertools.product("abcdefghij", "abcdefghij", "abc"))]
    folder = tmp_path_factory.mktemp("wide-bert")
    write_masked_base(folder, "bert", words, hidden_size=64, intermediate_size=128)
    return parse_contract(
        {
            "name": "attacked",
            "model": {"id": str(folder), **resolve(str(folder), weights=None, tokenizer=None).pins},
            "task": {"kind": "fill-mask", "max_length": 12},
            "adapter": {"rank": 4, "alpha": 8, "targets": ["dense"]},
            "federation": {"rounds": 3, "local_steps": 2},
            "outlets": {"north-post": 60},
            "privacy": {"epsilon": 3.0, "clip": 1.0, "sampling_rate": 0.06},
            "optimizer": {"learning_rate": 0.5},
        }
    ).with_noise()


@pytest.fixture(scope="module")
def found(contract: Contract, tmp_path_factory: pytest.TempPathFactory) -> Attack:
    out = tmp_path_factory.mktemp("attack") / "found"
    return attack(contract, "north-post", Options(out=out, canaries=400, deterministic=1))


def test_the_control_fires_and_under_the_plan_there_is_nothing(found: Attack) -> None:
    assert found.updates.fired
    assert found.updates.control.tpr >= 0.2
    assert found.epsilon is not None
    assert found.epsilon < found.claimed == pytest.approx(3.0, abs=0.05)
    assert found.tokens is None
    assert found.tokens_left_out is not None
    assert "encoder" in found.tokens_left_out


def test_canaries_are_texts_that_a_run_would_use(contract: Contract) -> None:
    task, random = attacked(contract), SecureRandom.deterministic(3)
    canaries, audience = plant(contract, 40, random), made_readers(contract, "north-post", random)
    planted = task.planted(canaries)
    assert planted.column_names == ["reader", "text"] == audience.members.column_names
    assert set(planted["text"].to_pylist()) == {
        canaries.texts[place] for place in np.flatnonzero(canaries.included)
    }
    assert len(task.records(canaries)) == 40
    assert adapters.digest(task.sent()) == adapters.digest(adapters.read(build(contract)))
