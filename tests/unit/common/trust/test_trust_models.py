"""Trust models: what each must hold, and that the local one changes nothing on its way."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.fakes.made_runs import made_update

from presspool.common.accounting import events
from presspool.common.base.errors import ContractError
from presspool.common.contract.contract import EXAMPLE, parse_contract
from presspool.common.contract.doors import TRUST_MODELS
from presspool.common.trust.trust_model import MOST_PHASES, TRAIN

CONTRACT = parse_contract(json.loads(EXAMPLE))


@pytest.mark.parametrize("name", TRUST_MODELS.names)
def test_a_trust_model_trains_in_exactly_one_phase(name: str) -> None:
    model = TRUST_MODELS[name]()
    assert len(set(model.phases)) == len(model.phases) <= MOST_PHASES
    for phases in (model.phases, model.phases_where(simulated=False)):
        numbers = range(1, len(phases) + 1)
        (trained,) = [phase for phase in numbers if phases.releases(phase)]
        assert phases[trained - 1] == TRAIN
        assert [phase for phase in numbers if phases.follows(phase)] == [*numbers[trained:]]


@pytest.mark.parametrize("name", TRUST_MODELS.names)
def test_a_trust_model_has_all_its_words(name: str) -> None:
    words = vars(TRUST_MODELS[name].words)
    assert all(text.strip() == text != "" for text in words.values())
    assert name in words["claim"]


def test_the_local_model_is_the_plan_s_own_noise_and_event() -> None:
    local = CONTRACT.trust
    assert local.noise_share(CONTRACT) == 1.0
    assert events.to_dp(local.event(CONTRACT)) == CONTRACT.plan.event()


def test_the_local_model_seals_and_opens_without_a_copy() -> None:
    delta = {"w": np.ones(3, np.float32)}
    assert CONTRACT.trust.seal(CONTRACT, delta) is delta
    answers = {"daily-bugle": made_update("daily-bugle", delta=delta)}
    opened, weights = CONTRACT.trust.open(CONTRACT, [answers])
    assert opened is answers
    assert weights == CONTRACT.weights()


def test_a_contract_names_a_trust_model_that_is_there() -> None:
    with pytest.raises(ContractError, match="did you mean 'local'") as caught:
        CONTRACT.replace(federation={"trust": "locale"})
    assert caught.value.where == "contract [federation] trust"
