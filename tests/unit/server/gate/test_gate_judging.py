"""The release gate on real adapters: what it lets pass, and each thing that it refuses, by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.bases.wide_base import attacked_contract
from tests.fakes.made_evidence import Desk, signer_of
from tests.fakes.registry.made_gate import (
    ROOMY,
    added,
    attacked,
    handed,
    judged,
    public_rows,
    trained,
)
from tests.fakes.registry.made_registry import (
    MOVE,
    OVERRIDE,
    MadeRegistry,
    make_registry,
    write_card,
)

from presspool.common.accounting import pld
from presspool.common.audit.cards.card import EMPIRICAL_FILE
from presspool.common.audit.cards.model_card import CARD_FILE
from presspool.common.audit.evidence import audit_console
from presspool.common.audit.evidence.sources import Brought
from presspool.common.base.errors import EvidenceError, InputError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.ledger import recompute
from presspool.common.transparency.notes import NOTE, Signer
from presspool.server.gate import gate_page
from presspool.server.gate.checks import attack_bound, floors, ledgers, papers, production
from presspool.server.gate.finding import Finding
from presspool.server.gate.gate_case import Check, GateCase
from presspool.server.gate.gate_judging import CHECKS, FullReport
from presspool.server.gate.release_policy import read_policy
from presspool.simulations.attack import attack_report
from presspool.simulations.attack.attack import Options, attack

ELSEWHERE = {"contract": "sha256:" + "0" * 64}


@pytest.fixture
def made(tmp_path: Path) -> MadeRegistry:
    return make_registry(tmp_path)


@pytest.fixture
def contract(contract_body: dict[str, Any]) -> Contract:
    """With noise that the desk's ledgers have room for."""
    return parse_contract(contract_body | ROOMY)


@pytest.fixture
def desk(tmp_path: Path, contract: Contract) -> Desk:
    return trained(tmp_path / "desk", contract)


def failed(report: FullReport) -> set[tuple[str, str]]:
    return {(found.check, found.what) for found in report.failures}


def test_all_that_is_asked_for_is_there(made: MadeRegistry, desk: Desk) -> None:
    title = added(made, desk).title
    policy = "[evidence]\nlargest_epsilon = 50.0\n[floors]\naccuracy = 0.8\n[production]\n"
    report = judged(made, title, handed(desk, policy))
    assert report.passed, report.failures
    said = [(found.check, found.verdict) for found in report.findings]
    assert said[:4] == [("papers", "passed")] * 4
    assert said[4:] == [
        *[("ledgers", "passed")] * 2,
        *[("attack_bound", "passed")] * 3,
        ("floors", "passed"),
        ("production", "not_applicable"),
    ]


# --- Papers ---------------------------------------------------------------------------------------


def test_a_card_with_a_blank_is_refused_by_the_path_of_its_field(
    made: MadeRegistry, tmp_path: Path, contract: Contract
) -> None:
    unmeasured = trained(tmp_path / "unmeasured", contract, empirical=None, approver="TBD.")
    report = judged(made, added(made, unmeasured).title, handed(unmeasured))
    assert failed(report) == {("papers", "privacy card")}
    assert report.failures[0].figures["blanks"] == 3, report.failures[0].said
    assert "governance.approver, governance.empirical_epsilon" in report.failures[0].said
    assert "presspool audit attack" in report.failures[0].advice


def test_who_writes_the_card_does_not_choose_whose_ledger_is_asked_for(
    made: MadeRegistry, desk: Desk
) -> None:
    first, second = sorted(desk.contract.outlets)
    write_card(desk, covers=[first])
    brought = handed(desk, ledgers=[path for path in desk.exports if first in path.name])
    report = judged(made, added(made, desk).title, brought)
    assert failed(report) == {("ledgers", second)}


@pytest.mark.parametrize(
    "change", [{"interval": [400.0, 500.0]}, {"contract": f"sha256:{1:064x}"}, {"confidence": 0.6}]
)
def test_what_the_card_itself_says_of_an_attack_counts(
    made: MadeRegistry, tmp_path: Path, contract: Contract, change: dict[str, Any]
) -> None:
    desk = trained(tmp_path / "leaks", contract)
    card = json.loads((desk.adapter / CARD_FILE).read_text())
    card["governance"]["empirical_epsilon"] |= change
    (desk.adapter / CARD_FILE).write_text(json.dumps(card))
    report = judged(made, added(made, desk).title, handed(desk))
    assert failed(report) == {("papers", "measured ε")}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": {"b": None}}, "a.b"),
        ({"a": [{"b": " "}]}, "a.0.b"),
        ({"a": "Unknown, n/a"}, "a"),
        ({"a": []}, "a"),
        ({"a": {"status": "not measured", "why": "no time"}}, "a"),
        ({"by": {}, "count": 1, "note": "one"}, "by"),
    ],
)
def test_what_is_blank(value: dict[str, Any], path: str) -> None:
    assert list(papers.blanks(value)) == [path]


def test_what_says_that_there_is_none_is_not_blank() -> None:
    said = {"by": {}, "count": 0, "note": "no witness cosigned a head of this ledger"}
    assert not list(papers.blanks({"a": said, "b": 0, "c": "none", "d": False}))


def test_a_run_s_own_readme_is_no_model_card(
    made: MadeRegistry, tmp_path: Path, contract: Contract
) -> None:
    desk = trained(tmp_path / "desk", contract)
    (desk.adapter / "README.md").unlink()
    run = added(made, desk, language="en")
    assert failed(judged(made, run.title, handed(desk))) == {("papers", "model card")}


def test_an_epsilon_above_the_policy_s_is_refused(made: MadeRegistry, desk: Desk) -> None:
    claimed = desk.contract.trust.epsilon(desk.contract)
    title = added(made, desk).title
    for limit, expected in ((claimed, set()), (claimed - 1e-6, {("papers", "claimed ε")})):
        report = judged(made, title, handed(desk, f"[evidence]\nlargest_epsilon = {limit!r}\n"))
        assert failed(report) == expected


# --- Ledgers --------------------------------------------------------------------------------------


def test_without_a_ledger_the_outlet_is_named(made: MadeRegistry, desk: Desk) -> None:
    report = judged(made, added(made, desk).title, handed(desk, ledgers=desk.exports[:1]))
    assert failed(report) == {("ledgers", "south-echo")}
    assert "presspool/south-echo" in report.failures[0].said


def test_a_ledger_s_own_file_is_no_export(made: MadeRegistry, desk: Desk) -> None:
    brought = handed(desk, ledgers=[desk.exports[0], desk.ledgers[1]])
    report = judged(made, added(made, desk).title, brought)
    assert failed(report) == {("ledgers", "south-echo")}


def test_a_ledger_that_was_written_anew_does_not_continue_the_card_s_head(
    made: MadeRegistry, desk: Desk, tmp_path: Path
) -> None:
    """Same key, same name, all sums right: only the card's head tells."""
    other = trained(tmp_path / "anew", desk.contract)
    brought = handed(desk, ledgers=[desk.exports[0], other.exports[1]])
    with pytest.raises(EvidenceError, match="south-echo"):
        judged(made, added(made, desk).title, brought)


def test_what_is_known_of_a_ledger_from_elsewhere_is_held_against_it(
    made: MadeRegistry, desk: Desk
) -> None:
    """The card's head alone does not tell that an export's end was cut off."""
    title = added(made, desk).title
    plain = judged(made, title, handed(desk), [ledgers])
    assert all("was not compared" in found.said for found in plain.findings)
    keys = [signer_of(name).key.text for name in sorted(desk.contract.outlets)]
    heads = [desk.folder / "north-post.checkpoint"]
    known = replace(handed(desk), known=Brought.of(keys, heads))
    first, second = judged(made, title, known, [ledgers]).findings
    assert "is the one from elsewhere (--key), 1 kept heads agree" in first.said
    assert "is the one from elsewhere (--key), 0 kept heads agree" in second.said
    with audit_console.opened(desk.ledgers[0]) as ledger:
        ledger.refuse(run="sha256:" + "e" * 64, reason="policy-noise")
        heads[0].write_bytes(ledger.checkpoint(signer_of("north-post")).encode())
    later = replace(handed(desk), known=Brought.of(None, heads))
    with pytest.raises(EvidenceError, match="shorter than a head"):
        judged(made, title, later)
    forged = Signer.load("presspool/north-post", b"k" * 32, kind=NOTE).key.text
    with pytest.raises(EvidenceError, match="first key"):
        judged(made, title, replace(handed(desk), known=Brought.of([forged], None)))
    strange = replace(handed(desk, ledgers=desk.exports[1:]), known=Brought.of(keys[:1], None))
    with pytest.raises(InputError, match="of another ledger"):
        judged(made, title, strange)


def test_a_ledger_of_another_run_is_refused(
    made: MadeRegistry, desk: Desk, tmp_path: Path, contract: Contract
) -> None:
    """The run of the candidate is paid for nowhere."""
    other = trained(tmp_path / "other", parse_contract(contract.body() | {"seed": 9}))
    title = added(made, desk).title
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("presspool.server.gate.gate_judging._heads", lambda _: iter(()))
        report = judged(made, title, handed(desk, ledgers=other.exports))
    assert failed(report) == {("ledgers", "north-post"), ("ledgers", "south-echo")}


def test_costs_that_do_not_recompute_are_refused(
    made: MadeRegistry, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accountants find more than the outlet wrote: as if it had declared more noise."""
    title, brought = added(made, desk).title, handed(desk)
    real = pld.epsilon
    monkeypatch.setattr(pld, "epsilon", lambda *a, **k: 2 * real(*a, **k))
    again = recompute.library_pld
    monkeypatch.setattr(recompute, "library_pld", lambda *a, **k: 2 * again(*a, **k))
    report = judged(made, title, brought)
    assert failed(report) == {("ledgers", "north-post"), ("ledgers", "south-echo")}
    assert "recomputed ε" in report.failures[0].said


# --- The attack's bound ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (ELSEWHERE, "contract"),
        ({"outlet": "nobody-post"}, "contract"),
        ({"reproducible": True}, "power"),
        ({"confidence": 0.9}, "power"),
    ],
)
def test_an_attack_that_says_nothing_of_this_run_passes_nothing(
    made: MadeRegistry, desk: Desk, changes: dict[str, Any], what: str
) -> None:
    brought = handed(desk, attack=attacked(desk.contract, changes))
    report = judged(made, added(made, desk).title, brought, [attack_bound])
    assert failed(report) == {("attack_bound", what)}


def test_an_attack_whose_control_did_not_fire_passes_nothing(
    made: MadeRegistry, desk: Desk
) -> None:
    blind = {"any_mechanism": 0.0, "this_mechanism": 0.0, "fired": False}
    said = attacked(desk.contract, {"updates": blind, "adapter": blind})
    report = judged(made, added(made, desk).title, handed(desk, attack=said), [attack_bound])
    assert failed(report) == {("attack_bound", "power"), ("attack_bound", "ε at least")}


def test_what_an_attack_without_power_shows_is_said_and_above_the_claim_it_is_in_the_way(
    made: MadeRegistry, desk: Desk
) -> None:
    claim = desk.contract.trust.epsilon(desk.contract)
    title = added(made, desk).title
    for shown, expected in ((claim - 0.1, set()), (claim + 0.1, {("attack_bound", "ε at least")})):
        silent = {"any_mechanism": 0.0, "this_mechanism": shown, "fired": False}
        brought = handed(desk, attack=attacked(desk.contract, {"adapter": silent}))
        report = judged(made, title, brought, [attack_bound])
        assert failed(report) == expected
        assert f"by the final adapter at least {shown:.3f}" in report.findings[-1].said
        assert report.findings[-1].figures["value"] == 0.7


def test_without_an_attack_nothing_passes(made: MadeRegistry, desk: Desk) -> None:
    brought = replace(handed(desk), attack=None)
    assert failed(judged(made, added(made, desk).title, brought)) == {("attack_bound", "evidence")}


def by_attack(made: MadeRegistry, home: Path, contract: Contract, scale: float) -> FullReport:
    """The report on a run of an engine whose noise is so much of what it declares, attacked."""
    options = Options(out=home / "attack", canaries=600)
    found = attack(contract, max(contract.outlets), options, _noise_scale=scale)
    run = trained(home / "desk", contract, empirical=found.card)
    attack_report.keep(found, home / "attack", run.run)
    brought = replace(handed(run), attack=home / "attack" / "attack.json")
    return judged(made, added(made, run).title, brought)


@pytest.mark.parametrize(
    ("scale", "passes"),
    [
        (1.0, True),
        (0.02, False),
        # One attack on so small a run shows it two times of three.
        pytest.param(0.1, False, marks=pytest.mark.soak),
    ],
)
def test_less_noise_than_is_declared_is_refused_for_what_an_attack_shows(
    made: MadeRegistry, tmp_path: Path, scale: float, passes: bool
) -> None:
    """Ledgers, card and contract say nothing of it; the same engine, attacked, does."""
    report = by_attack(made, tmp_path, seldom(attacked_contract(tmp_path / "base")), scale)
    leaks = {("attack_bound", "ε at least"), ("papers", "measured ε")}  # the card was made after it
    assert failed(report) == (set() if passes else leaks)


def seldom(contract: Contract) -> Contract:
    """ε = 1 of few readers a step and many steps: canaries hardly disturb each other."""
    body = contract.body()
    privacy = {name: body["privacy"][name] for name in ("delta", "records_per_reader")}
    privacy |= {"epsilon": 1.0, "sampling_rate": 0.02, "clip": 0.05}
    return parse_contract(
        body | {"privacy": privacy, "federation": body["federation"] | {"rounds": 8}}
    ).with_noise()


# --- Floors and production ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("floor", "passes"),
    [
        ("accuracy = 0.8", True),
        ("accuracy = 0.81", False),
        ("loss = 1.3", True),
        ("loss = 1.1", False),
        ("macro_f1 = 0.1", False),  # was not measured
    ],
)
def test_a_floor_is_the_least_or_of_a_loss_the_most(
    made: MadeRegistry, desk: Desk, floor: str, passes: bool
) -> None:
    brought = handed(desk, f"[floors]\n{floor}\n")
    report = judged(made, added(made, desk).title, brought, [floors])
    assert report.passed is passes


def test_a_floor_of_no_metric_is_wrong_input(made: MadeRegistry, desk: Desk) -> None:
    with pytest.raises(InputError, match="accuracy, loss, macro_f1"):
        judged(made, added(made, desk).title, handed(desk, "[floors]\nacuracy = 0.5\n"))


def public(desk: Desk) -> str:
    """A policy that compares on public rows."""
    public_rows(desk.folder / "rows.jsonl")
    return '[public]\nfile = "rows.jsonl"\n[production]\n'


def in_production(made: MadeRegistry, desk: Desk) -> str:
    title = added(made, desk).title
    made.promote(title, MOVE)
    return made.promote(title, OVERRIDE).title


def test_one_that_is_worse_than_production_is_refused_and_the_better_is_not(
    made: MadeRegistry, tmp_path: Path, contract: Contract
) -> None:
    """Of two drawn adapters one is better on the rows; which, the interval must tell both ways."""
    one, other = (trained(tmp_path / f"d{seed}", contract, seed=seed) for seed in (5, 6))
    in_production(made, one)
    there = judged(made, added(made, other).title, handed(other, public(other)), [production])
    made.promote("test@2", MOVE)
    made.promote("test@2", OVERRIDE)
    back = judged(made, "test@1", handed(one, public(one)), [production])
    first, second = there.findings[0], back.findings[0]
    assert (there.production, back.production) == ("test@1", "test@2")
    assert first.figures["value"] == pytest.approx(-_number(second, "value"))
    assert first.figures["low"] == pytest.approx(-_number(second, "high"))
    assert {first.verdict, second.verdict} == {"passed", "failed"}
    worse = first if first.verdict == "failed" else second
    assert _number(worse, "low") < _number(worse, "value") < _number(worse, "high") < 0


def _number(found: Finding, name: str) -> float:
    value = found.figures[name]
    assert isinstance(value, float)
    return value


def test_the_same_weights_are_as_good_as_themselves(
    made: MadeRegistry, tmp_path: Path, contract: Contract
) -> None:
    one = trained(tmp_path / "one", contract)
    in_production(made, one)
    again = trained(tmp_path / "again", parse_contract(contract.body() | {"seed": 4}))
    report = judged(made, added(made, again).title, handed(again, public(again)), [production])
    assert report.passed
    assert report.findings[0].figures["value"] == 0


def test_other_labels_are_not_compared(
    made: MadeRegistry, tmp_path: Path, contract: Contract
) -> None:
    in_production(made, trained(tmp_path / "one", contract))
    task = {**contract.body()["task"], "labels": ["money", "sport", "world"]}
    other = trained(tmp_path / "other", parse_contract(contract.body() | {"task": task}))
    report = judged(made, added(made, other).title, handed(other, public(other)), [production])
    assert failed(report) == {("production", "comparison")}
    assert "another question" in report.failures[0].said


# --- The frame ------------------------------------------------------------------------------------


def test_a_report_names_all_that_was_looked_at_by_digest(made: MadeRegistry, desk: Desk) -> None:
    files = {"forbidden": "never.txt", "canaries": "canaries.txt", "swaps": "swaps.csv"}
    for name in files.values():
        (desk.folder / name).write_text(f"{name},b2\n")
    rows = public_rows(desk.folder / "rows.jsonl", 10)
    policy = '[public]\nfile = "rows.jsonl"\n[fairness]\nswaps = "swaps.csv"\n[generation]\n'
    policy += 'forbidden = "never.txt"\ncanaries = "canaries.txt"\n'
    brought = handed(desk, policy)
    lies = {name: desk.folder / file for name, file in files.items()} | {"rows": rows}
    lies |= {"policy": brought.policy, "attack": desk.folder / "attack.json"}
    lies |= {f"ledger presspool/{path.stem}": path for path in desk.exports}
    report = judged(made, added(made, desk).title, brought, [floors])
    by_hand = {name: sha256(path.read_bytes()).hexdigest() for name, path in lies.items()}
    assert report.inputs == {name: f"sha256:{digest}" for name, digest in by_hand.items()}
    page = gate_page.render(report)
    assert all(digest in page for digest in by_hand.values())


@pytest.mark.parametrize("name", ["rows.jsonl", "release.toml", "south-echo.export"])
def test_a_file_that_becomes_another_while_it_is_judged_by_leaves_no_report(
    made: MadeRegistry, desk: Desk, name: str
) -> None:
    """What is read while the policy stays as it was read: that one is not asked for again."""
    title, brought = added(made, desk).title, handed(desk, public(desk))

    class Meddling:
        def findings(self, case: GateCase) -> Iterator[Finding]:
            assert case.policy.public is not None
            (desk.folder / name).write_bytes(b"other")
            yield from floors.findings(case)

    if name == "release.toml":
        assert judged(made, title, brought, [Meddling()]).passed
        return
    with pytest.raises(InputError, match="changed while they were judged by"):
        judged(made, title, brought, [Meddling()])


class Blind:
    """A planted mistake: a check that always passes."""

    def __init__(self, name: str) -> None:
        self.name = name

    def findings(self, _: GateCase) -> Iterator[Finding]:
        yield Finding(check=self.name, what="all", verdict="passed", said="fine")


BAD: dict[Check, str] = {
    papers: "[evidence]\nlargest_epsilon = 0.01\n",
    ledgers: "",
    attack_bound: "",
    floors: "[floors]\naccuracy = 0.99\n",
    production: "[production]\n",
}


@pytest.mark.parametrize("blind", list(BAD), ids=lambda one: one.__name__.rpartition(".")[2])
def test_a_check_that_always_passes_is_caught(made: MadeRegistry, desk: Desk, blind: Check) -> None:
    """An adapter with every fault: each check alone is what finds its own."""
    in_production(made, desk)
    worse = trained(desk.folder / "worse", parse_contract(desk.contract.body() | {"seed": 7}))
    policy = "".join(BAD.values())
    brought = handed(worse, policy, ledgers=[], attack=attacked(worse.contract, ELSEWHERE))
    title = added(made, worse).title
    whole = judged(made, title, brought)
    names = {check: check.__name__.rpartition(".")[2] for check in BAD}  # type: ignore[attr-defined]
    assert {found.check for found in whole.failures} == set(names.values())
    mended = [Blind(names[blind]) if one is blind else one for one in CHECKS]
    fewer = judged(made, title, brought, mended)
    assert {found.check for found in fewer.failures} == set(names.values()) - {names[blind]}


def test_the_page_says_what_is_in_the_way_and_escapes(made: MadeRegistry, desk: Desk) -> None:
    report = judged(made, added(made, desk).title, handed(desk, ledgers=[]))
    strange = Finding(
        check="floors", what="<b>", verdict="passed", said="<script>", rows=({"a": 1},)
    )
    page = gate_page.render(report.model_copy(update={"findings": (*report.findings, strange)}))
    assert "may not go into production" in page
    assert "<script" not in page
    assert page.count("presspool audit export") == 2
    assert "http" not in page.replace("http-equiv", "")


def test_the_card_carries_what_the_attack_left(desk: Desk) -> None:
    assert json.loads((desk.run / EMPIRICAL_FILE).read_text())["status"] == "measured"


def test_a_policy_that_is_too_large_is_refused_and_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "release.toml"
    path.write_text("#" * (1 << 20) + "\n[evidence]\nlargest_epsilon = 1.0\n")
    with pytest.raises(InputError, match="too large"):
        read_policy(path)
