"""Norms of branches beside their layers: against the whole product, and never too small."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import METHODS
from presspool.common.methods.method import Branch
from presspool.common.methods.parts.added_layers import Bottleneck, Rescaled
from presspool.common.models.adapters import State, load, read
from presspool.common.models.models import build
from presspool.common.models.spectral import branch_norm, layer_norm, ratios


def branch(up: Tensor, down: Tensor, *, scale: float = 1.0) -> Branch:
    return Branch(layer="it", frozen=torch.ones(1, 1), up=up, down=down, scale=scale)


@given(st.integers(0, 10_000), st.integers(1, 8), st.sampled_from([1e-30, 0.5, 4.0, 1e4]))
def test_a_branch_s_norm_is_that_of_the_whole_product(seed: int, rank: int, scale: float) -> None:
    torch.manual_seed(seed)
    up, down = torch.randn(9, rank), torch.randn(rank, 13)
    right = float(torch.linalg.svdvals(scale * up.double() @ down.double())[0])
    assert branch_norm(branch(up, down, scale=scale)) == pytest.approx(right, rel=1e-12)


def test_numbers_at_the_ends_of_float32_are_neither_lost_nor_overflow() -> None:
    tiny, huge = torch.full((4, 2), 1e-42), torch.full((2, 4), 1e38)
    right = float(torch.linalg.svdvals(tiny.double() @ huge.double())[0])
    assert branch_norm(branch(tiny, huge)) == pytest.approx(right, rel=1e-12)
    assert branch_norm(branch(huge.T, huge, scale=1e308)) == math.inf
    assert branch_norm(branch(torch.zeros(4, 2), huge, scale=1e308)) == 0


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12))
def test_a_layer_s_norm_comes_from_below(seed: int, rows: int, columns: int) -> None:
    torch.manual_seed(seed)
    weight = torch.randn(rows, columns)
    right = float(torch.linalg.svdvals(weight.double())[0])
    assert right * 0.9 <= layer_norm(weight) <= right * (1 + 1e-12)


def test_a_layer_of_zeros_outweighs_nothing() -> None:
    assert layer_norm(torch.zeros(3, 2)) == 0


@pytest.mark.parametrize("name", ["ffa", "fedit", "head", "rslora", "rolora"])
def test_ratios_are_those_of_what_the_model_does(name: str, contract: Contract) -> None:
    """Against PEFT's own product of the loaded adapter; the one that came is what counts."""
    contract = contract.replace(adapter={"method": name})
    model = build(contract)
    rng = np.random.default_rng(0)
    state = {n: rng.standard_normal(a.shape).astype(np.float32) for n, a in read(model).items()}
    found = dict(ratios(model, contract.method, state))
    with torch.no_grad():
        for parameter, array in state.items():
            model.get_parameter(parameter).copy_(torch.from_numpy(array))
    assert len(found) == 4  # query and value of two layers
    for layer, ratio in found.items():
        module = model.get_submodule(layer)
        with torch.no_grad():
            product = torch.linalg.svdvals(module.get_delta_weight("default"))[0]  # type: ignore[operator]
            frozen = torch.linalg.svdvals(module.base_layer.weight)[0]  # type: ignore[union-attr]
        assert ratio == pytest.approx(float(product / frozen), rel=0.1, abs=1e-9)
        assert (ratio == 0) == (name == "head")


def moved(contract: Contract) -> tuple[nn.Module, dict[str, NDArray[np.float32]]]:
    """A model, and an adapter that is not its own."""
    rng, model = np.random.default_rng(0), build(contract)
    state = {
        n: (a + rng.standard_normal(a.shape)).astype(np.float32) for n, a in read(model).items()
    }
    return model, state


@pytest.mark.parametrize("name", METHODS.names)
def test_every_trained_tensor_of_a_method_is_in_a_branch(name: str, contract: Contract) -> None:
    """What is in none is held by the adapter's norm alone: let nobody forget one."""
    contract = contract.replace(adapter={"method": name})
    model, state = moved(contract)
    before = dict(ratios(model, contract.method, state))
    touched = set()
    for parameter in state:
        marked = state | {parameter: state[parameter] * np.float32(3)}
        if dict(ratios(model, contract.method, marked)) != before:
            touched.add(parameter)
    assert {n for n in state if not n.startswith("head.") and ".head." not in n} == touched


@pytest.mark.parametrize("name", ["dora", "fed-sb", "bottleneck", "ia3", "bitfit", "layernorm"])
def test_no_layer_moves_further_than_its_ratio_says(name: str, contract: Contract) -> None:
    """‖what the layer says more‖ ≤ ratio · ‖what it is held against‖ · ‖x‖, for many x."""
    contract = contract.replace(adapter={"method": name})
    model, state = moved(contract)
    found = dict(ratios(model, contract.method, state))
    held = {one.layer: layer_norm(one.frozen) for one in contract.method.branches(model, state)}
    for layer in {key.removesuffix(".weight").removesuffix(".bias") for key in held}:
        allowed = sum(found[key] * held[key] for key in held if key.startswith(layer))
        assert 0 < farthest(model, state, layer) <= allowed * (1 + 1e-4)


def test_factors_that_cancel_do_not_hide_how_loud_a_bottleneck_is(contract: Contract) -> None:
    """B A is zero, and B · gelu(A y) is not: gelu(t) + gelu(-t) is about |t|."""
    contract = contract.replace(adapter={"method": "bottleneck", "rank": 2})
    model = build(contract)
    state = dict(read(model))
    for name, array in state.items():
        if name.endswith("down.weight"):
            row = np.full(array.shape[1], 50.0, np.float32)
            state[name] = np.stack([row, -row])
        elif name.endswith("up.weight"):
            state[name] = np.full(array.shape, 0.5, np.float32)
    found = dict(ratios(model, contract.method, state))
    layer = next(iter(found))
    moved_by = farthest(model, state, layer)
    assert moved_by > 50
    assert found[layer] >= moved_by


def test_a_row_that_is_cancelled_and_stretched_again_is_as_loud_as_what_it_took(
    contract: Contract,
) -> None:
    """DoRA: what is left of W + s·B A is a millionth of W, and divided by its own length."""
    contract = contract.replace(adapter={"method": "dora", "rank": 2, "alpha": 2})
    model = build(contract)
    state = dict(read(model))
    layer = next(iter(dict(ratios(model, contract.method, state))))
    weight = model.get_submodule(layer).base_layer.weight.detach().numpy()  # type: ignore[union-attr,operator]
    a, b = f"{layer}.lora_A.default.weight", f"{layer}.lora_B.default.weight"
    state[a], state[b] = state[a].copy(), np.zeros_like(state[b])
    state[a][0], state[b][0, 0] = weight[0] * np.float32(1 - 1e-6), -1.0
    assert dict(ratios(model, contract.method, state))[layer] > 1e4


def test_a_square_that_the_factors_cancel_counts_as_what_it_is(contract: Contract) -> None:
    """Fed-SB with a rank above the layer's width: B R is zero for some R of any size."""
    contract = contract.replace(adapter={"method": "fed-sb", "rank": 64, "alpha": 64})
    model = build(contract)
    state = dict(read(model))
    layer = next(iter(dict(ratios(model, contract.method, state))))
    up = model.get_submodule(layer).up.weight.detach().double()  # type: ignore[union-attr,operator]
    assert up.shape[0] < up.shape[1]
    nothing = torch.linalg.svd(up)[2][-1]
    state[f"{layer}.square.weight"] = (1e6 * nothing[:, None].expand(-1, 64)).float().numpy()
    assert dict(ratios(model, contract.method, state))[layer] > 1e4


def farthest(model: nn.Module, state: State, layer: str) -> float:
    """How far a layer moves, by the length of what the moving part of it reads."""
    module: Any = model.get_submodule(layer)
    x = torch.nn.functional.normalize(torch.randn(500, int(module.weight.shape[-1])), dim=1)
    start = read(model)
    with torch.no_grad():
        plain = module(x)
        load(model, state)
        change = module(x) - plain
        load(model, start)
    reads_outputs = isinstance(module, Rescaled | Bottleneck | nn.LayerNorm)
    size = plain.norm(dim=1) if reads_outputs else x.norm(dim=1)
    return float((change.norm(dim=1) / size).max())
