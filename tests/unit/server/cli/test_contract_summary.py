"""`presspool contract check`: what a contract costs, and a warning before budget buys noise."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from presspool.common.contract.contract import Contract
from presspool.server.cli.contract_summary import render, summarise


def page(summary: dict[str, Any]) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    render(summary, console)
    return console.export_text()


def test_the_cost_is_the_plans(contract: Contract) -> None:
    summary = summarise(contract)
    assert summary["epsilon"] == contract.plan.epsilon()
    assert summary["worst_case"]["epsilon"] == 2 * contract.plan.epsilon()
    assert f"ε = {contract.plan.epsilon():.3f}" in page(summary)


@pytest.mark.parametrize(
    ("readers", "method", "warned"),
    [(40, "ffa", True), (40_000, "ffa", False), (40, "head", False)],
)
def test_an_adapter_that_would_learn_noise_is_warned_of(
    contract: Contract, readers: int, method: str, warned: bool
) -> None:
    contract = contract.replace(
        outlets={"north-post": readers, "south-echo": readers}, adapter={"method": method}
    )
    summary = summarise(contract)
    assert summary["adapter_pays"] == (not warned)
    assert ('method = "head"' in page(summary)) == warned
