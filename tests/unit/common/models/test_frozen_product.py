"""Products with frozen matrices: the same values and gradients by either library."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from presspool.common.models import frozen_product
from presspool.common.models.frozen_product import FEWEST_ROWS, FrozenLinear, product, quicken

ROWS = FEWEST_ROWS


def made(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each product that oneDNN computes."""
    asked, real = list[int](), frozen_product._onednn

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        asked.append(x.numel() // x.shape[-1])
        return real(x, weight, bias)

    monkeypatch.setattr(frozen_product, "_onednn", counted)
    monkeypatch.setattr(frozen_product, "ONEDNN", True)  # also on a processor without AVX-512
    return asked


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("turned", [False, True], ids=["as it lies", "transposed"])
@pytest.mark.parametrize("shape", [(ROWS, 24), (4, ROWS, 24), (2, 3, ROWS, 24)])
def test_value_and_gradient_are_those_of_torchs_linear(
    shape: tuple[int, ...], turned: bool, biased: bool, quick: list[int]
) -> None:
    x = made(*shape).requires_grad_()
    weight = made(24, 40).T if turned else made(40, 24)
    bias = made(40) if biased else None
    there = made(*shape[:-1], 40)
    value, expected = product(x, weight, bias), F.linear(x, weight, bias)
    (found,) = torch.autograd.grad(value, x, there)
    assert len(quick) == 2  # forward and backward
    (wanted,) = torch.autograd.grad(expected, x, there)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_weight_or_bias_that_is_trained_has_its_gradient(quick: list[int]) -> None:
    x = made(ROWS, 8)
    for trained in ("weight", "bias"):
        layer = FrozenLinear(8, 4).requires_grad_(False)
        layer.get_parameter(trained).requires_grad_()
        layer(x).sum().backward()
        assert layer.get_parameter(trained).grad is not None
    assert not quick


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (made(ROWS - 1, 8), made(4, 8)),
        (made(ROWS, 8).double(), made(4, 8).double()),
        (made(ROWS, 8).to("meta"), made(4, 8).to("meta")),
    ],
    ids=["few rows", "another dtype", "another device"],
)
def test_elsewhere_torchs_own_product_runs(x: Tensor, weight: Tensor, quick: list[int]) -> None:
    assert product(x, weight).shape == (len(x), 4)
    assert not quick


def test_a_processor_that_is_slower_by_it_has_torchs_own_product(
    monkeypatch: pytest.MonkeyPatch, quick: list[int]
) -> None:
    monkeypatch.setattr(frozen_product, "ONEDNN", False)
    x, weight = made(ROWS, 8), made(4, 8)
    assert torch.equal(product(x, weight), F.linear(x, weight))
    assert not quick


def test_under_autocast_the_product_has_autocasts_dtype(quick: list[int]) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert product(made(ROWS, 8), made(4, 8)).dtype == torch.bfloat16
    assert not quick


def test_only_plain_linear_layers_are_quickened() -> None:
    class Other(nn.Linear):
        """Computes in its own way."""

    model = nn.Sequential(nn.Linear(2, 2), Other(2, 2), nn.LayerNorm(2))
    quicken(model)
    assert [type(module) for module in model] == [FrozenLinear, Other, nn.LayerNorm]
