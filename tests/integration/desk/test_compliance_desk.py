"""From a private run of outlets with ledgers to its report and its card, as they are typed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_evidence import FIELDS
from tests.fakes.made_runs import toml, write_run

from presspool.common.audit.cards import card as cards
from presspool.common.ledger.store import Ledger
from presspool.common.runs.result_file import read_result
from presspool.common.runs.run_file import read_run_file
from presspool.simulations.simulate import SimulateOptions, simulate
from presspool.simulations.simulated_ledgers import EXPORTS


@pytest.fixture
def presspool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys)


def desk_of(presspool: Command, run: Path, ledgers: Path, fields: Path) -> None:
    """Report and card of a run, and that what they say is what the ledgers hold."""
    fields.write_text(toml(FIELDS), encoding="utf-8")
    exports = sorted((run / EXPORTS).glob("*.export"))
    report = presspool("audit", "report", *exports, run, "--format", "json")
    assert report.code == 0, report.err
    said = {outlet["name"]: outlet for outlet in json.loads(report.out)["outlets"]}
    given = [word for path in exports for word in ("--ledger", path)]
    made = presspool("audit", "card", run, *given, "--fields", fields)
    assert made.code == 0, made.err
    card = cards.parse(json.loads((run / "adapter" / "privacy_card.json").read_text()))
    result = read_result(run)
    assert set(card.outlets_covered) == {outlet.name for outlet in result.outlets} == said.keys()
    assert re.sub(r"\s+", " ", made.out).strip() == card.statement
    for name, outlet in card.governance.outlets.items():
        with Ledger(ledgers / name / "ledger.db") as ledger:
            book = ledger.book
            share = book.spent / book.room(book.caps.epsilon_max)
            assert not book.dangling
        assert outlet.budget_used == said[name]["filter"]["share"] == share
        (run_said,) = said[name]["runs"]
        assert outlet.ledger_index == run_said["entry"] == 1
        assert [r["round"] for r in run_said["releases"]] == [1, 2]
        assert run_said["state"] == "over"
        stated = next(o.epsilon for o in result.outlets if o.name == name)
        assert run_said["stated"]["epsilon"] == pytest.approx(stated, abs=1e-9)
    for path in exports:
        assert presspool("audit", "recompute", path).code == 0


def test_a_private_runs_report_and_card(
    presspool: Command, contract_body: dict[str, Any], tmp_path: Path
) -> None:
    path, out = write_run(tmp_path, contract_body), tmp_path / "run"
    result = simulate(read_run_file(path), SimulateOptions(out=out, workers=0, ledgers=True))
    assert result.status == "complete"
    assert [done.refused for done in result.rounds] == [{}] * 3
    desk_of(presspool, out, out / "outlets", tmp_path / "fields.toml")
    own = presspool(
        "audit", "report", out / "outlets" / "north-post" / "ledger.db", "--format", "json"
    )
    (run,) = json.loads(own.out)["outlets"][0]["runs"]
    assert run["approval"]["by"] == "the simulation"


def test_a_language_models_run_is_checked_reported_carded_and_compared(
    writing_body: Callable[[str], dict[str, Any]],
    tmp_path: Path,
    presspool: Command,
) -> None:
    body = writing_body("prompt")
    # Beyond what an outlet's policy takes by default, as the recipes of the experiments are.
    body["adapter"] |= {"rank": 1, "alpha": 16}
    path, out, fields = write_run(tmp_path, body), tmp_path / "run", tmp_path / "fields.toml"
    checked = presspool("contract", "check", path)
    assert checked.code == 0, checked.err
    simulate(read_run_file(path), SimulateOptions(out=out, workers=0, ledgers=True))
    fields.write_text(toml(FIELDS), encoding="utf-8")
    exports = sorted((out / EXPORTS).glob("*.export"))
    given = [word for export in exports for word in ("--ledger", export)]
    page, again = tmp_path / "all.html", shutil.copytree(out, tmp_path / "again")
    for words in (
        ("audit", "report", *exports, out, "--fields", fields, "--output", page),
        ("audit", "card", out, *given, "--fields", fields),
        ("compare", out, again),
    ):
        done = presspool(*words)
        assert done.code == 0, done.err
    assert "perplexity" in done.out
    card = cards.parse(json.loads((out / "adapter" / "privacy_card.json").read_text()))
    assert "prompts with answers" in card.registry.dp_variant.data_domain
    assert "pipeline_tag: text-generation" in (out / "adapter" / "README.md").read_text()
    assert card.governance.hashes.adapter in page.read_text()
    assert "What it writes" in (out / "report.html").read_text()


def test_a_run_without_noise_gets_no_ledger(contract_body: dict[str, Any], tmp_path: Path) -> None:
    from presspool.common.base.errors import InputError

    privacy = {**contract_body["privacy"], "noise_multiplier": 0.0}
    path = write_run(tmp_path, {**contract_body, "privacy": privacy})
    with pytest.raises(InputError, match="has no price"):
        simulate(read_run_file(path), SimulateOptions(out=tmp_path / "run", ledgers=True))
    assert not (tmp_path / "run").exists()


@pytest.mark.soak
def test_the_card_of_the_demos_adapter_has_no_blank(presspool: Command, tmp_path: Path) -> None:
    made = presspool("demo", "--ledgers", "--out", tmp_path / "demo")
    assert made.code == 0, made.err
    run, fields = tmp_path / "demo" / "run", tmp_path / "fields.toml"
    fields.write_text(toml(FIELDS), encoding="utf-8")
    given = [w for path in (run / EXPORTS).glob("*.export") for w in ("--ledger", path)]
    card = presspool("audit", "card", run, *given, "--fields", fields, "--json")
    assert card.code == 0, card.err
    assert cards.parse(json.loads(card.out)).training.steps == 12
