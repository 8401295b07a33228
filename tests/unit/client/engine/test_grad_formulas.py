"""The formulas of tapped layers against Opacus's, and which layers have one."""

from typing import Any

import pytest
import torch
from opacus.grad_sample.grad_sample_module import GradSampleHooks
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm
from transformers.pytorch_utils import Conv1D

from presspool.client.engine.grad_formulas import formula_for
from presspool.client.engine.reader_gradients import ReaderGradients

LAYERS: dict[str, Any] = {
    "linear": lambda: nn.Linear(6, 3),
    "linear without bias": lambda: nn.Linear(6, 3, bias=False),
    "conv1d": lambda: Conv1D(3, 6),
    "layer norm": lambda: nn.LayerNorm(6),
    "layer norm without bias": lambda: nn.LayerNorm(6, bias=False),
    "llama norm": lambda: LlamaRMSNorm(6),
    "t5 norm": lambda: T5LayerNorm(6),
}


def sampled(layer: nn.Module, x: torch.Tensor, force_functorch: bool) -> dict[str, torch.Tensor]:
    hooks = GradSampleHooks(layer, loss_reduction="sum", force_functorch=force_functorch)
    layer(x).square().sum().backward()
    rows = {name: p.grad_sample.clone() for name, p in layer.named_parameters()}  # type: ignore[attr-defined]
    hooks.cleanup()
    layer.zero_grad(set_to_none=True)
    return rows


@pytest.mark.parametrize("tokens", [(), (4,), (2, 3)])
@pytest.mark.parametrize("name", LAYERS)
def test_formulas_are_those_of_opacus(name: str, tokens: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer: nn.Module = LAYERS[name]()
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_()
    x = torch.randn(5, *tokens, 6)
    # Opacus knows neither Conv1D nor Hugging Face's norms, and no norm without bias: functorch
    own = type(layer) is nn.Linear or name == "layer norm"
    expected = sampled(layer, x, force_functorch=not own)
    with ReaderGradients(layer) as engine:
        losses = layer(x).square().flatten(1).sum(1)
        engine.backward(losses, torch.arange(5), 5)
        got = {name: p.grad_sample for name, p in layer.named_parameters()}  # type: ignore[attr-defined]
    assert got.keys() == expected.keys()
    for key, rows in expected.items():
        torch.testing.assert_close(got[key], rows, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("trained", ["weight", "bias"])
@pytest.mark.parametrize("name", ["linear", "conv1d", "layer norm"])
def test_only_what_is_trained_is_delivered(name: str, trained: str) -> None:
    layer: nn.Module = LAYERS[name]()
    for key, p in layer.named_parameters():
        p.requires_grad_(key == trained)
    with ReaderGradients(layer) as engine:
        engine.backward(layer(torch.randn(2, 6)).sum(1), torch.arange(2), 2)
        got = {key for key, p in layer.named_parameters() if hasattr(p, "grad_sample")}
    assert got == {trained}
    assert {key for key, p in layer.named_parameters() if p.requires_grad} == {trained}


def test_unknown_layers_have_no_formula() -> None:
    class LlamaRMSNorm(nn.Module):  # the name alone does not make it transformers' own
        pass

    for layer in (nn.Embedding(3, 2), nn.Conv1d(1, 1, 1), nn.LayerNorm((2, 2)), LlamaRMSNorm()):
        assert formula_for(layer) is None
