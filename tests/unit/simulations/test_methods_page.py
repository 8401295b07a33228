"""`presspool methods` and the page that it writes: every method, its numbers, or its refusal."""

from __future__ import annotations

import re

import pytest
from tests.conftest import REPOSITORY

from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import METHODS
from presspool.simulations.planning.method_costs import MethodCost, compare_methods, noise_of
from presspool.simulations.planning.methods_page import markdown

PAGE = (REPOSITORY / "docs" / "methods.md").read_text(encoding="utf-8")


def test_the_page_has_every_method_and_every_reason() -> None:
    for name in METHODS.names:
        assert re.search(rf"^\| `{name}`.* \|", PAGE, re.MULTILINE), name
        assert re.search(rf"^\| {name} \| [\d,]+ \| 1,540 \| [\d,]+ \|", PAGE, re.MULTILINE), name
    for name, reason in METHODS.refused.items():
        assert f"| `{name}` | {reason} |" in PAGE


@pytest.fixture(scope="module")
def costs(request: pytest.FixtureRequest) -> dict[str, MethodCost]:
    from presspool.common.contract.contract import parse_contract

    contract = parse_contract(request.getfixturevalue("contract_body"))
    return {cost.name: cost for cost in compare_methods(contract)}


def test_numbers_are_those_of_the_layers(costs: dict[str, MethodCost]) -> None:
    """Two layers of 32 with q and v, rank 2, three labels; 4 bytes a number."""
    layers, hidden, rank, head = 4, 32, 2, 3 * 33
    adapter = {
        "ffa": layers * hidden * rank,
        "rslora": layers * 2 * hidden * rank,
        "dora": layers * (2 * hidden * rank + hidden),
        "fed-sb": layers * rank * rank,
        "bottleneck": layers * 2 * hidden * rank,
        "ia3": layers * hidden,
        # a layer's q, v, two outputs and two norms are 32 wide, its feed-forward 64
        "bitfit": 2 * (6 * 32 + 64),
        "layernorm": 2 * 2 * 64,
    }
    for name, numbers in adapter.items():
        assert costs[name].parameters == {"adapter": numbers, "head": head}
        assert costs[name].bytes == 4 * (numbers + head)
    assert costs["head"].parameters == {"head": head}


def test_noise_is_what_the_plan_says(costs: dict[str, MethodCost], contract: Contract) -> None:
    """E‖s·N A‖² is s²·τ²·(outputs)·‖A‖² in each layer; four draws are within a third of it.

    Where A has noise of its own, τ²·rank·(inputs) comes to ‖A‖²; what takes turns has half of τ².
    """
    from presspool.common.models.models import build

    chosen = contract.replace(adapter={"method": "ffa"})
    factors = [value for _, value in chosen.method.constants(build(chosen), chosen)]
    squares = [float(factor.square().sum()) for factor in factors]
    scale, variance = chosen.method.scale(chosen), noise_of(chosen) ** 2
    for name, up, down in (("ffa", 1.0, 0.0), ("fedit", 1.0, 1.0), ("rolora", 0.5, 0.5)):
        own = [square + down * variance * 2 * 32 for square in squares]
        right = scale**2 * up * variance * 32 * sum(own)
        assert costs[name].product_noise == pytest.approx(right, rel=0.33), name
    assert all(costs[name].product_noise is None for name in ("bitfit", "ia3", "layernorm"))
    assert costs["head"].feature_noise is None
    assert all((costs[n].feature_noise or 0) > 0 for n in METHODS.names if n != "head")


def test_the_section_is_both_tables(costs: dict[str, MethodCost]) -> None:
    text = markdown(list(costs.values()), 0.002)
    assert "| ffa | 256 | 99 | 1,420 |" in text
    assert "standard deviation 0.002 " in text
    assert len([line for line in text.splitlines() if line.startswith("| `")]) == len(
        METHODS.refused
    )
