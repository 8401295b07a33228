"""`presspool plan`: both trust models of a run, told before anything is trained."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.fakes.instruments.typed import typed
from tests.fakes.made_runs import write_run

from presspool.common.contract.contract import Contract
from presspool.simulations.planning.trust_comparison import compare_trust
from presspool.simulations.planning.trust_page import draw, render


def pooled_contract(contract: Contract, outlets: int) -> Contract:
    names = {f"outlet-{number:02}": 100 for number in range(outlets)}
    return contract.replace(outlets=names, federation={"local_steps": 1, "quorum": 1})


@pytest.mark.parametrize(
    ("outlets", "colluders", "dropouts"),
    [(1, 0, 0), (2, 1, 0), (3, 1, 0), (4, 1, 0), (5, 1, 1), (8, 2, 1), (20, 4, 2)],
)
def test_a_fifth_and_a_tenth_are_counted_off_unless_said_otherwise(
    contract: Contract, outlets: int, colluders: int, dropouts: int
) -> None:
    many = pooled_contract(contract, outlets)
    cohort = compare_trust(many, colluders=None, dropouts=None).pool.cohort
    assert (cohort.colluders, cohort.dropouts) == (colluders, dropouts)


def test_shared_noise_is_smaller_by_the_root_of_the_shares_that_count(contract: Contract) -> None:
    found = compare_trust(pooled_contract(contract, 12), colluders=2, dropouts=1)
    local, pooled = found.sides["local"], found.sides["pooled"]
    for group in ("adapter", "head"):
        expected = local.noise_multiplier * math.sqrt(9) / pooled.noise_multiplier
        ratio = local.noise_share[group] / pooled.noise_share[group]
        assert ratio == pytest.approx(expected)
        assert found.quieter == pytest.approx(expected)
    assert pooled.epsilon <= local.epsilon < pooled.epsilon_alone
    assert local.epsilon_every == 12 * local.epsilon
    assert pooled.vector_bytes == local.vector_bytes  # 32-bit sums in place of 32-bit floats
    assert found.to_json()["pays"] == "pooled"
    assert "at most 2 of the 12 outlets" in found.verdict
    assert "In this version it can be tried in simulations" in found.verdict


def test_two_outlets_have_nothing_to_share(contract: Contract) -> None:
    found = compare_trust(pooled_contract(contract, 2), colluders=None, dropouts=None)
    assert found.to_json()["pays"] == "local"
    assert "would not pay" in found.verdict
    assert found.sides["pooled"].epsilon_alone == found.sides["pooled"].epsilon


def test_the_table_and_the_plot_say_the_same(contract: Contract, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    one = compare_trust(pooled_contract(contract, 1), colluders=None, dropouts=None)
    assert len(draw(one, tmp_path / "one")) == 2
    found = compare_trust(pooled_contract(contract, 8), colluders=None, dropouts=None)
    console = Console(width=100, record=True, file=(tmp_path / "page").open("w"))
    render(found, console)
    page = console.export_text()
    svg, png = draw(found, tmp_path / "new" / "folder")
    assert png.read_bytes().startswith(b"\x89PNG")
    drawn = svg.read_text()
    for side in found.sides.values():
        assert f"{side.noise_multiplier:.3f}" in page
    assert "adapter helps" in page
    assert "<svg" in drawn


@pytest.mark.parametrize(
    ("steps", "options", "says"),
    [
        (2, "", "local_steps = 1 and rounds = 4"),
        (1, "--colluders 1 --dropouts 1", "1 colluders and 1 dropouts of 2 outlets"),
        (1, "--colluders 0 --dropouts 1", "at most 0: 2 outlets have to sign"),
    ],
)
def test_what_cannot_be_pooled_is_said_in_one_message_and_nothing_is_written(
    contract_body: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    steps: int,
    options: str,
    says: str,
) -> None:
    federation = {**contract_body["federation"], "local_steps": steps}
    run = write_run(tmp_path, {**contract_body, "federation": federation})
    words = f"plan {run} {options} --out {tmp_path / 'plots'}".split()
    refused = typed(monkeypatch, capsys)(*words)
    assert refused.code == 2
    assert says in " ".join(refused.err.split())
    assert not (tmp_path / "plots").exists()


def test_a_program_reads_both_sides(
    contract_body: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    federation = {**contract_body["federation"], "local_steps": 1}
    run = write_run(tmp_path, {**contract_body, "federation": federation})
    told = json.loads(typed(monkeypatch, capsys)("plan", str(run), "--json").out)
    assert set(told["trust"]) == {"local", "pooled"}
    assert told["trainable"] == ["local"]
    assert told["simulated"] == ["local", "pooled"]
    assert told["plots"] == []
