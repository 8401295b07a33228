"""The frozen trunk: the same logits and gradients as the whole model, and nothing kept too long."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.fakes.bases.language_bases import LLAMA
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    Qwen2Config,
    Qwen2Model,
    T5Config,
    T5Model,
)

from presspool.common.base.errors import ContractError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.doors import task_of
from presspool.common.models.adapters import load, trainable
from presspool.common.models.base_model import resolve
from presspool.common.models.frozen_trunk import FrozenTrunk
from presspool.common.models.models import build

TEXTS = ["goal", "the minister says a new treaty", "bank", "shares of the bank after talks"]
LAYERS = 3
SIZES: dict[str, Any] = {"vocab_size": 64, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
LLAMAS = LLAMA | SIZES
FAMILIES: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "bert": (
        lambda: BertModel(
            BertConfig(**SIZES, hidden_size=16, intermediate_size=24), add_pooling_layer=False
        ),
        ["query", "value"],
    ),
    "gpt2": (
        lambda: GPT2Model(GPT2Config(vocab_size=64, n_embd=16, n_layer=LAYERS, n_head=2)),
        ["c_attn"],
    ),
    "llama": (lambda: LlamaModel(LlamaConfig(**LLAMAS)), ["q_proj", "v_proj"]),
    "qwen2": (lambda: Qwen2Model(Qwen2Config(**LLAMAS)), ["q_proj", "v_proj"]),
    "qwen2-sliding": (
        lambda: Qwen2Model(
            Qwen2Config(**LLAMAS, use_sliding_window=True, sliding_window=2, max_window_layers=2)
        ),
        ["q_proj", "v_proj"],
    ),
    "t5": (
        lambda: T5Model(
            T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=24, num_layers=LAYERS, num_heads=2)
        ),
        ["q", "v"],
    ),
}


@pytest.fixture(params=FAMILIES)
def family(
    request: pytest.FixtureRequest, tmp_path: Path, tiny_base: Path, contract_body: dict[str, Any]
) -> Contract:
    """A contract over a tiny three-layer model of each family."""
    make, targets = FAMILIES[request.param]
    for file in tiny_base.glob("token*"):
        shutil.copy(file, tmp_path / file.name)
    torch.manual_seed(1)
    make().save_pretrained(tmp_path)
    found = resolve(str(tmp_path), weights=None, tokenizer=None)
    model = {"id": str(tmp_path), **found.pins}
    adapter = {"rank": 2, "alpha": 4, "targets": targets}
    return parse_contract({**contract_body, "model": model, "adapter": adapter})


def trained(contract: Contract, **adapter: Any) -> tuple[Any, FrozenTrunk]:
    """A model with values that make every trained tensor matter, and its trunk."""
    contract = contract.replace(adapter=adapter)
    model = build(contract).eval()
    rng = np.random.default_rng(2)
    load(
        model,
        {
            name: rng.normal(scale=0.3, size=p.shape).astype(np.float32)
            for name, p in trainable(model).items()
        },
    )
    return model, FrozenTrunk(model, contract)


CUTS = [{"layers": None}, {"layers": 2}, {"layers": 1}, {"method": "head"}]


@pytest.mark.parametrize("adapter", CUTS, ids=str)
def test_the_cut_model_gives_the_whole_models_logits_and_gradients(
    family: Contract, adapter: dict[str, Any]
) -> None:
    model, trunk = trained(family, **adapter)
    whole = model(**task_of(family).encode(TEXTS))
    cut = trunk.outputs(trunk.run(TEXTS))[: len(TEXTS)]
    torch.testing.assert_close(cut, whole, rtol=1e-4, atol=1e-5)
    parameters = list(trainable(model).values())
    expected, got = (torch.autograd.grad(y.square().sum(), parameters) for y in (whole, cut))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert any(gradient.abs().max() > 1e-3 for gradient in expected)


@pytest.mark.parametrize(
    ("adapter", "depth"),
    [
        ({"layers": None}, 0),
        ({"layers": 3}, 0),
        ({"layers": 1}, 2),
        ({"method": "head"}, None),
    ],
    ids=str,
)
def test_as_many_layers_are_cut_off_as_are_frozen(
    family: Contract, adapter: dict[str, Any], depth: int | None
) -> None:
    """But T5's layers know of each other: it is run whole, or not at all."""
    _, trunk = trained(family, **adapter)
    whole = "q" in family.adapter.targets and depth is not None
    assert trunk.depth == (0 if whole else depth)


def test_the_model_is_whole_again_after_a_cut_run(contract: Contract) -> None:
    model, trunk = trained(contract, layers=1)
    before = model(**task_of(contract).encode(TEXTS))
    names = [name for name, _ in model.named_parameters()]
    trunk.outputs(trunk.run(TEXTS))
    assert [name for name, _ in model.named_parameters()] == names
    assert torch.equal(model(**task_of(contract).encode(TEXTS)), before)


def test_activations_do_not_depend_on_the_batch(contract: Contract) -> None:
    _, trunk = trained(contract, layers=1)
    for alone, together in zip((trunk.run([t])[0] for t in TEXTS), trunk.run(TEXTS), strict=True):
        torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-6)


def test_more_layers_than_the_base_has_are_refused(contract: Contract) -> None:
    with pytest.raises(ContractError, match="at most 2"):
        build(contract.replace(adapter={"layers": 3}))
