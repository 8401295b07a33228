"""`presspool bench secagg`: every contestant sums, is counted, and has its row on the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.instruments.typed import Command, typed

from presspool.common.base.errors import SelfTestError
from presspool.simulations.bench.sums import secagg_bench
from presspool.simulations.bench.sums.flower_sums import flower_sum
from presspool.simulations.bench.sums.secagg_bench import SumCost, SumFigures, SumSizes
from presspool.simulations.bench.sums.secagg_report import sums_section

SMALL = SumSizes(outlets=5, parameters=100, turns=2, dropouts=1)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    run = typed(monkeypatch, capsys)
    return lambda *options: run("bench", "secagg", *options)


def test_all_are_measured_and_written(tmp_path: Path, bench: Command) -> None:
    page = tmp_path / "page.md"
    sizes = ("--outlets", "5", "--parameters", "100", "--turns", "2", "--dropouts", "1")
    answer = bench(*sizes, "--page", str(page), "--json")
    assert answer.code == 0
    found = json.loads(answer.out)
    assert len(found["costs"]) == 7
    assert all(len(cost["work"]) == 2 and cost["bytes"] > 0 for cost in found["costs"].values())
    assert len(found["claims"]) == 8
    text = page.read_text(encoding="utf-8")
    assert text.count("<!-- secagg: ") == 2
    assert "| ring of 32 bits, 1 dropouts | " in text
    assert "| Flower SecAgg+, 1 dropouts | " in text


def test_too_many_dropouts_are_told_with_the_numbers(bench: Command) -> None:
    answer = bench("--outlets", "5", "--dropouts", "3")
    assert answer.code == 2
    assert "t <= K - d = 2" in answer.err


def test_advance_is_called_as_often_as_it_was_told() -> None:
    calls: list[int] = []
    secagg_bench.bench_sums(SMALL, advance=lambda: calls.append(1))
    assert len(calls) == secagg_bench.units_of_sums(SMALL)


def test_a_sum_that_is_false_ends_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:

    def off_by_one(*arguments: Any, **rest: Any) -> Any:
        total, sent = flower_sum(*arguments, **rest)
        return total + 1, sent

    monkeypatch.setattr(f"{secagg_bench.__name__}.flower_sum", off_by_one)
    with pytest.raises(SelfTestError, match=r"Flower SecAgg\+, 0 dropouts: does not sum"):
        secagg_bench.bench_sums(SMALL)


@pytest.mark.parametrize(("over", "met"), [(0.0, True), (0.01, False)])
def test_a_target_is_met_or_said_not_to_be(over: float, met: bool) -> None:
    costs = {"plain sum": SumCost(work=[1.0], seconds=[1.0], bytes=1000)}
    for bits, size in ((32, 1100), (64, 2200)):
        for gone in (0, 1):
            made = SumCost(work=[2.5 + over], seconds=[9.0], bytes=size + int(1000 * over))
            costs[secagg_bench.contestant(bits, gone)] = made
    held = {32: 3.0 + over, 64: 3.0 + over}
    plain: dict[str, Any] = {"keys": 0.1, "load": (0.0, 0.0), "cores": 2}
    found = SumFigures(sizes=SMALL, costs=costs, vectors=held, **plain)
    assert {claim.met for claim in found.claims()} == {met}
    assert ("not met" in sums_section(found)) != met
