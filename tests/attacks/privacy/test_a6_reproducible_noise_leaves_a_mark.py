"""A.6: noise that can be drawn again is refused, or marks its ledger for every audit to show.

Whoever knows the seed subtracts the noise. The attack: an outlet's `outlet.toml` has a line
`deterministic`, which nothing in a ledger told, so an audit called its runs (ε, δ)-DP.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from tests.fakes.instruments.detectors import Bench, ask, task_of, write_data, write_outlet
from tests.fakes.instruments.typed import Answer, Command, typed
from tests.fakes.made_dashboard import get, serving
from tests.fakes.made_evidence import FIELDS
from tests.fakes.made_ledgers import SIGNER
from tests.fakes.made_outlets import RealOutlet, make_real
from tests.fakes.made_runs import toml, write_run

from presspool.client import client_app
from presspool.common.audit.dashboard.views import key
from presspool.common.base.errors import InputError, LedgerError
from presspool.common.contract.contract import parse_contract
from presspool.common.ledger import entries
from presspool.common.ledger.export import export
from presspool.common.ledger.store import Ledger
from presspool.common.runs.run_file import read_run_file
from presspool.common.wire.update import FAILURES, pack_task
from presspool.simulations.simulate import SimulateOptions, simulate
from presspool.simulations.simulated_ledgers import EXPORTS

MISCONFIGURED = next(code for code, word in FAILURES.items() if word == "outlet-misconfigured")


@pytest.fixture(scope="module")
def bench(contract_body: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench.of(parse_contract(contract_body), tmp_path_factory.mktemp("bench"))


def outlet(bench: Bench, folder: Path, *, trial: bool) -> RealOutlet:
    settings = folder / "outlet.toml"
    plain = write_outlet(bench, write_data(bench, bench.readers))  # deterministic = 1
    settings.write_text(plain.read_text(encoding="utf-8"), encoding="utf-8")
    return make_real(settings, bench.contract, trial=trial)


def on_this_machine(bench: Bench, real: RealOutlet, round: int = 1) -> Message:
    """What the outlet answers to a coordinator that is known to be on loopback."""
    return ask(real.settings, pack_task(task_of(bench, round=round)), loopback=True)


def test_away_from_loopback_nothing_is_trained_and_nothing_charged(
    bench: Bench, tmp_path: Path
) -> None:
    """Stock Flower carries the task: where its coordinator is, nobody here knows."""
    real = outlet(bench, tmp_path, trial=True)
    reply = ask(real.settings, pack_task(task_of(bench)))
    assert not reply.has_content()
    assert reply.error.code == MISCONFIGURED
    assert real.kinds() == ["opened"]


@pytest.mark.parametrize("first", ["trial", "real"])
def test_a_ledger_never_holds_runs_of_both_kinds(bench: Bench, tmp_path: Path, first: str) -> None:
    """A line that slips into a real outlet's settings ruins nothing; nor does one that is lost."""
    real = outlet(bench, tmp_path, trial=True)
    lines = real.settings.read_text()
    secret = re.sub("(?m)^deterministic.*$", "", lines)
    one, other = (lines, secret) if first == "trial" else (secret, lines)
    real.settings.write_text(one)
    assert on_this_machine(bench, real).has_content()
    before = real.kinds()
    assert before[:3] == ["opened", "non-private", "reserve"][: 3 if first == "trial" else 1] + (
        [] if first == "trial" else ["reserve", "adapter-received"]
    )
    real.settings.write_text(other)
    assert on_this_machine(bench, real, 2).error.code == MISCONFIGURED
    assert real.kinds() == before
    real.settings.write_text(one)
    assert on_this_machine(bench, real, 2).has_content()


def test_the_mark_cannot_come_late_or_twice(bench: Bench, tmp_path: Path) -> None:
    real = outlet(bench, tmp_path, trial=False)
    assert on_this_machine(bench, real).has_content()
    with Ledger(real.ledger) as ledger, pytest.raises(LedgerError, match="before any run"):
        ledger.protect_nobody()
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    with Ledger(outlet(bench, fresh, trial=True).ledger) as ledger:
        marked = ledger.protect_nobody()
        assert entries.parse_entry(marked.canonical()) == marked
        with pytest.raises(LedgerError, match="once"):
            ledger.protect_nobody()


def test_an_edit_after_the_agents_start_is_refused_as_well(bench: Bench, tmp_path: Path) -> None:
    from presspool.client.identity.settings import read_settings
    from presspool.client.round import Round

    real = outlet(bench, tmp_path, trial=True)
    asked = Round.of(pack_task(task_of(bench)))
    with pytest.raises(InputError, match="protects nobody"):
        client_app.work(asked, read_settings(real.settings), kept=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


# --- Every audit shows it ------------------------------------------------------------------------


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, "audit", width=400)


def exported(real: RealOutlet, path: Path) -> Path:
    stream = io.BytesIO()
    with Ledger(real.ledger) as ledger:
        export(ledger, stream, signer=SIGNER, witnesses=[])
    path.write_bytes(stream.getvalue())
    return path


def says_so(answer: Answer) -> None:
    assert answer.code == 0, answer.err
    assert "NON-PRIVATE" in answer.out
    assert "-DP at" not in answer.out


def test_every_audit_of_such_a_ledger_shows_it_and_claims_nothing(
    bench: Bench, tmp_path: Path, audit: Command
) -> None:
    real = outlet(bench, tmp_path, trial=True)
    for round in (1, 2):
        assert on_this_machine(bench, real, round).has_content()
    file = exported(real, tmp_path / "outlet.export")
    assert real.kinds()[1] == "non-private"
    says_so(audit("verify", file))
    says_so(audit("recompute", file))
    says_so(audit("export", real.ledger, "--out", tmp_path / "again.export"))
    assert json.loads(audit("verify", file, "--json").out)["non_private"] == 1
    again = json.loads(audit("recompute", file, "--json").out)
    assert (again["claim"], again["holds"], again["epsilon_pld_together"]) == (None, True, None)
    [run] = again["runs"]
    assert (run["epsilon_renyi"], run["epsilon_pld"], run["stated"]) == ("inf", "inf", None)
    for source in (file, real.ledger):
        [said] = (body := json.loads(audit("report", source, "--format", "json").out))["outlets"]
        assert (said["claim"], body["lifetime_claims"]) == (None, None)
        assert "NON-PRIVATE" in said["sentence"]
        assert [run["stated"] for run in said["runs"]] == [None]
        assert [case["epsilon"] for case in body["worst_cases"]] == [None]
        page = audit("report", source, "--output", tmp_path / f"{source.stem}.html")
        assert page.code == 0, page.err
        assert "NON-PRIVATE" in (tmp_path / f"{source.stem}.html").read_text()


def test_the_dashboard_shows_it(bench: Bench, tmp_path: Path) -> None:
    real = outlet(bench, tmp_path, trial=True)
    assert on_this_machine(bench, real).has_content()
    file = exported(real, tmp_path / "outlet.export")
    name = key(SIGNER.key.name)
    with serving([file]) as at:
        assert "nothing claimed" in get(at, "/").body
        assert "NON-PRIVATE" in get(at, f"/outlets/{name}").body
        assert "could be drawn again" in get(at, "/alerts").body
        assert "nobody is protected" in get(at, f"/ledgers/{name}").body
        assert re.search(r"privacy_epsilon_claimed\{.*\} \+Inf", get(at, "/metrics").body)


def test_a_simulation_with_ledgers_and_a_seed_gets_no_card(
    contract_body: dict[str, Any], tmp_path: Path, audit: Command
) -> None:
    out = tmp_path / "run"
    options = SimulateOptions(out=out, workers=0, ledgers=True, deterministic=7)
    assert simulate(read_run_file(write_run(tmp_path, contract_body)), options).status == "complete"
    files = sorted((out / EXPORTS).glob("*.export"))
    for file in files:
        says_so(audit("recompute", file))
    both = json.loads(audit("report", *files, "--format", "json").out)
    assert both["lifetime_claims"] is None
    page = tmp_path / "report.html"
    assert audit("report", *files, "--output", page).code == 0
    assert "Nothing bounds what a reader of all these outlets pays" in page.read_text()
    # Even where the run's folder hides its seed, the ledgers speak against the card.
    (out / "setup.json").write_text((out / "setup.json").read_text().replace("7", "null"))
    fields = tmp_path / "fields.toml"
    fields.write_text(toml(FIELDS), encoding="utf-8")
    found = audit("card", out, "--ledger", files[0], "--fields", fields)
    assert found.code == 2
    assert "there is no privacy to put on a card" in re.sub(r"\s+", " ", found.err)
