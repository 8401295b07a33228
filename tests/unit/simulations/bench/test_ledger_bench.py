"""`presspool bench ledger`: real ledgers, figures for all four, a section that a page can carry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from presspool.cli import app
from presspool.common.base.console import guarded
from presspool.common.ledger import recompute, verification
from presspool.common.ledger.store import Ledger
from presspool.common.transparency import notes
from presspool.simulations.bench import ledger_bench
from presspool.simulations.bench.ledger_bench import Figures, Sizes

SMALL = Sizes(entries=50, turns=3, verified=60, runs=2, starts=1)


def test_all_four_are_measured_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    command = [
        "bench",
        "ledger",
        "--entries",
        "50",
        "--turns",
        "3",
        "--verified",
        "60",
        "--runs",
        "2",
        "--page",
        str(page),
        "--json",
    ]
    with pytest.raises(SystemExit) as ended:
        guarded(lambda: app(command))
    assert ended.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sizes"] == {"entries": 50, "turns": 3, "verified": 60, "runs": 2, "starts": 10}
    assert all(found[key] > 0 for key in ("median", "p99", "help"))
    assert all(min(found[key]) > 0 for key in ("verify", "recompute"))
    text = page.read_text(encoding="utf-8")
    assert text.count("<!-- ledger: ") == 2
    assert "| recompute of 2 different runs |" in text


def test_advance_is_called_as_often_as_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    ledger_bench.bench_ledger(SMALL, advance=lambda: calls.append(1))
    assert len(calls) == ledger_bench.units_of_work(SMALL)


def test_what_is_measured_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The long ledger opens whole and is as long as was said; the recomputed runs do not fail."""
    signer = notes.Signer.generate(ledger_bench.ORIGIN, kind=notes.NOTE)
    assert len(ledger_bench._turns(tmp_path / "ledger.db", signer, SMALL)) == 3
    with Ledger(tmp_path / "ledger.db") as long:
        assert long.book.size == 50 + 2 * 3
    seen: list[Any] = []
    real = recompute.recompute

    def kept(*arguments: Any, **rest: Any) -> Any:
        seen.append(real(*arguments, **rest))
        return seen[-1]

    monkeypatch.setattr(recompute, "recompute", kept)
    ledger_bench._recompute(tmp_path / "runs.export", signer, 3, lambda: None)
    assert seen[0].failures == ()
    assert len({run.epsilon_pld for run in seen[0].runs}) == 3
    ledger_bench._verify(tmp_path / "long.export", signer, 61)
    with (tmp_path / "long.export").open("rb") as stream:
        assert verification.verify(stream, key=signer.key).head.size == 61


def figures() -> Iterator[tuple[Figures, bool]]:
    plain: dict[str, Any] = {"sizes": SMALL, "median": 0.001, "load": (0.0, 0.0), "cores": 2}
    yield Figures(**plain, p99=0.005, verify=(30.0, 1.0), recompute=(60.0, 1.0), help=0.6), True
    yield Figures(**plain, p99=0.0051, verify=(30.1, 1.0), recompute=(60.1, 1.0), help=0.61), False


@pytest.mark.parametrize(("found", "met"), figures())
def test_a_target_is_met_or_said_not_to_be(found: Figures, met: bool) -> None:
    assert {row[3] for row in found.rows()} == {met}
    assert ("not met" in ledger_bench.section(found)) != met
