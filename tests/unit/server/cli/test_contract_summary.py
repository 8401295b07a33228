"""`presspool contract check`: what a contract costs, and a warning before budget buys noise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from presspool.common.base.console import Screen
from presspool.common.base.errors import ContractError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.server.cli.contract_summary import render, summarise


def page(summary: dict[str, Any]) -> str:
    console = Screen(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
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


def test_the_warning_says_how_many_readers_would_do(contract: Contract) -> None:
    few = contract.replace(outlets={"north-post": 400, "south-echo": 300})
    words = " ".join(page(summarise(few)).split())
    assert "would probably make it worse here, not better" in words
    assert "noise that hides each reader" in words
    assert "700 readers together" in words
    found = re.search(r"about ([0-9.]+) times as many readers", words)
    assert found
    for factor, pays in ((0.9, False), (1.1, True)):
        more = {name: round(n * float(found[1]) * factor) for name, n in few.outlets.items()}
        assert summarise(few.replace(outlets=more))["adapter_pays"] is pays


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"adapter": {"targets": ["o_proj", "dwn_proj"]}}, "expected names among .*down_proj"),
        ({"adapter": {"targets": ["o_proj"], "layers": 3}}, "expected at most 2"),
        ({"task": {"max_length": 512}}, "expected at most 128 tokens"),
        ({"task": {"max_length": 4, "prompt": "News headline:"}}, "nothing of what should be said"),
        ({}, None),
    ],
)
def test_what_does_not_fit_a_language_model_is_told(
    contract: Contract, tiny_llama: Path, changes: dict[str, Any], said: str | None
) -> None:
    tables: dict[str, Any] = {"task": {}, "adapter": {"targets": ["o_proj"]}} | changes
    tables["task"] = {"kind": "generation"} | tables["task"]
    asked = parse_contract(contract.body() | tables | {"model": {"id": str(tiny_llama)}})
    if said is None:
        assert summarise(asked)["adapter_pays"]
        return
    with pytest.raises(ContractError, match=said):
        summarise(asked)
