"""The fused function against PEFT's own forward and autograd, and what it keeps for backward."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from presspool.client.engine.fused_lora import FusedLora, fusable
from presspool.client.engine.reader_sums import Inbox, ReaderSums

INPUTS, OUTPUTS, RANK = 6, 10, 3


def lora_layer(kind: str = "linear", bias: bool = True, **lora: Any) -> Any:
    torch.manual_seed(0)
    base = Conv1D(OUTPUTS, INPUTS) if kind == "conv1d" else nn.Linear(INPUTS, OUTPUTS, bias=bias)
    config = LoraConfig(
        r=RANK,
        lora_alpha=5,
        target_modules=["0"],
        init_lora_weights=False,
        fan_in_fan_out=kind == "conv1d",
        **lora,
    )
    return get_peft_model(nn.Sequential(base), config).base_model.model[0]


def value_and_input_gradient(forward: Any, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_(True)
    y = forward(x)
    (y * weights).sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad


@pytest.mark.parametrize("shape", [(4, INPUTS), (4, 5, INPUTS), (4, 2, 3, INPUTS)])
@pytest.mark.parametrize(
    ("kind", "lora"),
    [
        ("linear", {}),
        ("conv1d", {}),
        ("linear", {"use_rslora": True}),
        ("linear", {"lora_bias": True}),
        ("linear", {"bias": False}),
        ("linear", {"bias": False, "lora_bias": True}),
    ],
)
def test_value_and_gradients_are_those_of_peft(
    kind: str, lora: dict[str, Any], shape: tuple[int, ...]
) -> None:
    layer = lora_layer(kind, **lora)
    x, weights = torch.randn(shape), torch.randn(*shape[:-1], OUTPUTS)
    expected = value_and_input_gradient(layer, x, weights)
    trained = [p for p in layer.parameters() if p.requires_grad]
    gradients = [p.grad for p in trained]
    layer.zero_grad(set_to_none=True)

    inbox, sums = Inbox(), ReaderSums([2, 2])
    with inbox.receiving(sums):
        got = value_and_input_gradient(FusedLora("layer", layer, inbox), x, weights)
    for mine, peft in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, peft, atol=1e-5, rtol=1e-5)
    for p, peft in zip(trained, gradients, strict=True):
        rows = sums.of(p)
        assert p.grad is None
        assert rows is not None
        torch.testing.assert_close(rows.sum(0), peft, atol=1e-5, rtol=1e-5)


@contextlib.contextmanager
def saved_shapes() -> Iterator[list[tuple[int, ...]]]:
    shapes: list[tuple[int, ...]] = []

    def pack(tensor: Tensor) -> Tensor:
        shapes.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield shapes


@pytest.mark.parametrize(
    ("frozen", "kept"),
    [
        (None, {(4, 5, INPUTS), (4, 5, RANK)}),
        ("lora_A", {(4, 5, RANK)}),
        ("lora_B", {(4, 5, INPUTS)}),
    ],
)
def test_a_frozen_factor_keeps_nothing_of_what_only_its_partner_needs(
    frozen: str | None, kept: set[tuple[int, ...]]
) -> None:
    layer = lora_layer()
    for name, p in layer.named_parameters():
        if frozen and frozen in name:
            p.requires_grad_(False)
    fused = FusedLora("layer", layer, Inbox())
    with saved_shapes() as shapes:
        fused(torch.randn(4, 5, INPUTS))
    assert {shape for shape in shapes if len(shape) == 3} == kept


def test_a_first_layer_computes_no_gradient_for_its_input() -> None:
    layer, inbox, sums = lora_layer(), Inbox(), ReaderSums([1, 1])
    x = torch.randn(2, 5, INPUTS)
    with inbox.receiving(sums):
        FusedLora("layer", layer, inbox)(x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is None
    assert sums.of(layer.lora_A["default"].weight) is not None


@pytest.mark.parametrize("how", ["merged", "disabled", "dropout", "dtype", "arguments"])
def test_peft_runs_where_the_fused_function_does_not_apply(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = lora_layer(lora_dropout=0.5 if how == "dropout" else 0.0).train()
    arguments: dict[str, Any] = {}
    if how == "merged":
        layer.merge()
    elif how == "disabled":
        layer.enable_adapters(False)
    elif how == "dtype":
        layer.base_layer.bfloat16()
    elif how == "arguments":
        arguments["adapter_names"] = ["default", "__base__"]
    fused = FusedLora("layer", layer, Inbox())
    fell_back: list[dict[str, Any]] = []

    def original(x: Tensor, **kwargs: Any) -> Any:
        fell_back.append(kwargs)
        return layer(x, **kwargs)

    monkeypatch.setattr(fused, "_forward", original)
    x = torch.randn(2, 5, INPUTS, dtype=torch.bfloat16 if how == "dtype" else torch.float32)
    torch.manual_seed(1)
    got = fused(x, **arguments)
    torch.manual_seed(1)
    torch.testing.assert_close(got, layer(x, **arguments))
    assert fell_back == [arguments]


def test_dropout_at_rest_is_fused() -> None:
    layer = lora_layer(lora_dropout=0.5).eval()
    fused, x = FusedLora("layer", layer, Inbox()), torch.randn(2, 5, INPUTS)
    assert type(fused(x).grad_fn).__name__ == "_FusedLoraBackward"
    torch.testing.assert_close(fused(x), layer(x))


def test_weights_loaded_after_attachment_are_used() -> None:
    layer = lora_layer()
    fused, x = FusedLora("layer", layer, Inbox()), torch.randn(2, INPUTS)
    layer.load_state_dict({k: v * 2 for k, v in layer.state_dict().items()}, assign=True)
    torch.testing.assert_close(fused(x), layer(x))


def test_what_is_fusable() -> None:
    layer = lora_layer()
    assert fusable(layer)
    assert fusable(lora_layer("conv1d"))
    assert not fusable(layer.base_layer)
    layer.base_layer.weight.requires_grad_(True)
    assert not fusable(layer)
