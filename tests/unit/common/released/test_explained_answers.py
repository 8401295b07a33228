"""Integrated gradients against a sum that is taken slowly, and what does not add up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import LABELS
from tests.fakes.served.made_adapters import made_adapter

from presspool.common.base.errors import InputError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.models.models import headed_of
from presspool.common.released.adapter_model import AdapterModel
from presspool.common.released.explained_answers import explain
from presspool.common.tasks.records.label_modes import mode_of

TEXT = "the minister says goal in final after unheard words"


def slow_shares(model: AdapterModel, text: str, place: int, steps: int = 2000) -> list[float]:
    """Each token's: midpoints of the line, one pass each, embeddings put in place by hand."""
    network, task = model.network, model.task
    ids = task.encode([text])["input_ids"]
    bare = ids.clone()
    bare[0, 1:-1] = task.tokenizer.pad_token_id
    table = headed_of(network).encoder.get_input_embeddings()
    with torch.no_grad():
        there, without = table(ids), table(bare)
    added = torch.zeros(ids.shape[1], dtype=torch.float64)
    for step in range(steps):
        at = (without + (step + 0.5) / steps * (there - without)).requires_grad_()
        put = table.register_forward_hook(lambda *_, at=at: at)
        try:
            outputs = network(input_ids=ids, attention_mask=torch.ones_like(ids))
        finally:
            put.remove()
        chance = mode_of(task.table).chances(outputs.double())[0, place]
        (slope,) = torch.autograd.grad(chance, at)
        added += ((there - without) * slope)[0].double().sum(-1) / steps
    shares: list[float] = added.tolist()
    return shares


@pytest.fixture
def model(contract: Contract, tmp_path: Path) -> AdapterModel:
    return AdapterModel.load(made_adapter(tmp_path / "adapter", contract, scale=0.5))


def test_shares_are_those_of_a_slow_sum(model: AdapterModel) -> None:
    found = explain(model, TEXT)
    assert [each.label for each in found] == list(LABELS)
    for place, each in enumerate(found):
        expected = slow_shares(model, TEXT, place, steps=300)
        assert [share for _, share in each.words] == pytest.approx(expected[1:-1], abs=2e-4)
        assert expected[0] == expected[-1] == 0  # the tokenizer's own tokens add nothing
    assert max(abs(share) for each in found for _, share in each.words) > 0.01


def test_words_and_probability_are_those_of_the_answer(model: AdapterModel) -> None:
    (said,) = model.predict([TEXT])
    for each in explain(model, TEXT):
        assert each.probability == pytest.approx(said.probabilities[each.label], abs=1e-6)
        total = sum(share for _, share in each.words)
        assert abs(total - (each.probability - each.without)) == pytest.approx(each.gap, abs=1e-9)
        assert each.gap < 1e-3
    cut = TEXT.split()[: model.contract.task.max_length - 2]
    assert [word for word, _ in explain(model, TEXT, ["sport"])[0].words] == cut


def test_too_few_steps_are_seen_in_the_gap(contract: Contract, tmp_path: Path) -> None:
    """A completeness that nobody looks at would be zero, whatever is asked."""
    wild = AdapterModel.load(made_adapter(tmp_path / "wild", contract, scale=3.0))
    gaps = [max(each.gap for each in explain(wild, TEXT, steps=steps)) for steps in (1, 64)]
    assert gaps[0] > 1e-3
    assert gaps[1] < gaps[0] / 100


@pytest.mark.parametrize("mode", ["multi", "ordinal"])
def test_labels_of_every_mode_are_explained(
    contract_body: dict[str, Any], tmp_path: Path, mode: str
) -> None:
    task = contract_body["task"] | {"mode": mode}
    folder = made_adapter(
        tmp_path / mode, parse_contract(contract_body | {"task": task}), scale=0.5
    )
    model = AdapterModel.load(folder)
    (said,) = model.predict([TEXT])
    found = explain(model, TEXT)
    assert np.array([e.probability for e in found]) == pytest.approx(
        np.array([said.probabilities[name] for name in LABELS]), abs=1e-6
    )
    assert max(each.gap for each in found) < 1e-3


def test_only_labels_are_explained(writing_body: Any, tmp_path: Path) -> None:
    from presspool.common.models.base_model import resolve

    body = writing_body("text")
    body["model"] |= resolve(body["model"]["id"], weights=None, tokenizer=None).pins
    folder = made_adapter(tmp_path / "writer", parse_contract(body), scale=0.01)
    with pytest.raises(InputError, match="only labels can be explained"):
        explain(AdapterModel.load(folder), TEXT)
