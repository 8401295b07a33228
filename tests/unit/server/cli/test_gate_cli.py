"""`presspool adapters gate` as it is typed, and what follows from its report."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.bases.made_paraphrasers import untrained
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_evidence import Desk, signer_of
from tests.fakes.registry.made_gate import ROOMY, added, handed, public_rows, trained
from tests.fakes.registry.made_registry import MOVE, MadeRegistry, make_registry

from presspool.common.contract.contract import parse_contract
from presspool.common.models.base_model import examine
from presspool.common.tasks.records.writing import Writer
from presspool.common.transparency.notes import NOTE, Signer

WHO = ("--by", "A. Editor", "--reason", "weekly run")


@pytest.fixture
def adapters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    monkeypatch.chdir(tmp_path)
    return typed(monkeypatch, capsys, "adapters")


@pytest.fixture
def made(tmp_path: Path) -> MadeRegistry:
    return make_registry(tmp_path)


@pytest.fixture
def desk(made: MadeRegistry, tmp_path: Path, contract_body: dict[str, Any]) -> Desk:
    """A candidate `test@1`, and what is brought to the gate."""
    desk = trained(tmp_path / "desk", parse_contract(contract_body | ROOMY))
    added(made, desk)
    handed(desk, "[floors]\naccuracy = 0.5\n")
    return desk


def brought(desk: Desk, ledgers: int = 2) -> list[object]:
    words: list[object] = ["--policy", desk.folder / "release.toml"]
    words += ["--attack", desk.folder / "attack.json"]
    for export in desk.exports[:ledgers]:
        words += ["--ledger", export]
    return words


def test_a_report_leads_into_production_by_its_own_policy_alone(
    adapters: Command, made: MadeRegistry, desk: Desk
) -> None:
    answer = adapters("gate", "test@1", *brought(desk), "--json")
    assert answer.code == 0, answer.err
    said = json.loads(answer.out)
    assert said == json.loads(Path("gate.json").read_text())
    assert (said["passed"], said["title"]) == (True, "test@1")
    assert "may go into production" in Path("gate.html").read_text()
    made.promote("test@1", MOVE)
    Path("other.toml").write_text("[floors]\naccuracy = 0.1\n")
    into = ("promote", "test@1", *WHO, "--gate", "gate.json", "--policy")
    refused = adapters(*into, "other.toml")
    assert (refused.code, "not judged by this file: policy" in refused.err) == (2, True)
    Path("late.json").write_text(json.dumps(said | {"production": "test@7"}))
    late = ("promote", "test@1", *WHO, "--gate", "late.json")
    refused = adapters(*late)
    assert (refused.code, "judged beside another adapter" in refused.err) == (2, True)
    short = said | {"findings": [one for one in said["findings"] if one["check"] != "ledgers"]}
    Path("late.json").write_text(json.dumps(short))
    refused = adapters(*late, "--policy", desk.folder / "release.toml")
    assert (refused.code, "what is always looked at" in refused.err) == (2, True)
    assert adapters(*into, desk.folder / "release.toml").out == "test@1 is production\n"
    assert made.open().shelves.find("test@1").overrides == []
    assert adapters("verify", "test@1").code == 0
    shown = json.loads(adapters("show", "test@1", "--json").out)
    assert shown["judged_by"] == said["inputs"]
    assert f"judged by policy {said['inputs']['policy']}\n" in adapters("show", "test@1").out
    (kept,) = Path("registry/blobs").glob(sha256(Path("gate.json").read_bytes()).hexdigest())
    kept.chmod(0o600)
    kept.write_bytes(kept.read_bytes().replace(b'"0.5"', b'"0.9"') + b" ")
    damaged = adapters("verify", "test@1")
    assert (damaged.code, "the registry is damaged" in damaged.err) == (1, True)


def test_a_promotion_holds_the_rows_that_the_policy_names_against_those_that_were_judged_on(
    adapters: Command, made: MadeRegistry, desk: Desk
) -> None:
    rows = public_rows(desk.folder / "rows.jsonl", 20)
    policy = handed(desk, '[public]\nfile = "rows.jsonl"\n').policy
    assert adapters("gate", "test@1", *brought(desk)).code == 0
    made.promote("test@1", MOVE)
    into = ("promote", "test@1", *WHO, "--gate", "gate.json", "--policy", policy)
    before = rows.read_bytes()
    rows.write_bytes(before.splitlines(keepends=True)[0])
    refused = adapters(*into)
    assert (refused.code, "not judged by this file: rows" in refused.err) == (2, True)
    rows.write_bytes(before)
    assert adapters(*into).code == 0


def test_keys_and_heads_of_ledgers_are_taken(adapters: Command, desk: Desk) -> None:
    known = (
        "--key",
        signer_of("north-post").key.text,
        "--head",
        desk.folder / "south-echo.checkpoint",
    )
    answer = adapters("gate", "test@1", *brought(desk), *known)
    assert (answer.code, answer.out.count("1 kept heads agree")) == (0, 1), answer.err
    refused = adapters("gate", "test@1", *brought(desk), "--key", "no key")
    assert (refused.code, "not a verifier key" in refused.err) == (2, True)
    other = Signer.load("presspool/north-post", b"k" * 32, kind=NOTE).key.text
    refused = adapters("gate", "test@1", *brought(desk), *known, "--key", other)
    assert (refused.code, "two first keys" in refused.err) == (2, True)
    assert not Path("gate.json").exists()


def test_what_is_in_the_way_is_said_and_the_report_opens_nothing(
    adapters: Command, made: MadeRegistry, desk: Desk
) -> None:
    answer = adapters("gate", "test@1", *brought(desk, ledgers=1))
    assert answer.code == 1
    assert "FAILED ledgers, south-echo: no export was brought" in answer.out
    assert "does not let it pass, for 1 reason" in answer.err
    made.promote("test@1", MOVE)
    for changes in ({}, {"passed": True}):
        report = json.loads(Path("gate.json").read_text()) | changes
        Path("gate.json").write_text(json.dumps(report))
        refused = adapters("promote", "test@1", *WHO, "--gate", "gate.json")
        assert (refused.code, "gate" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("[floor]\naccuracy = 0.5\n", "floor"),
        ("[floors]\nacuracy = 0.5\n", "accuracy"),
        ('[public]\nfile = "none.csv"\n', "none.csv"),
        ('[public]\nfile = "/dev/zero"\n', "no such file"),
        ('[fairness]\nswaps = "a\\u0000b"\n', "no such file"),
        ("[fairness]\nswaps = true\n", "swaps"),
        ('[robustness]\nkinds = ["paraphrase"]\n', "typos"),
        ("[robustness.paraphrases]\n", "model"),
        ('[robustness.paraphrases]\nmodel = "nowhere"\n', "no base model here"),
        ('[robustness.paraphrases]\nmodel = "m"\ntexts = 0\n', "texts"),
        ('[robustness.paraphrases]\nmodel = "m"\ntexts = 9\nfewest = 10\n', "at most texts, 9"),
        ('[robustness.paraphrases]\nmodel = "m"\nnearness = 2\n', "nearness"),
    ],
)
def test_what_cannot_be_read_leaves_no_report(
    adapters: Command, desk: Desk, policy: str, said: str
) -> None:
    (desk.folder / "release.toml").write_text(policy)
    answer = adapters("gate", "test@1", *brought(desk))
    assert (answer.code, said in answer.err) == (2, True), answer.err
    assert not Path("gate.json").exists()
    assert not Path("gate.html").exists()


def test_the_model_that_paraphrases_is_named_by_its_digest_and_can_be_stopped(
    adapters: Command, desk: Desk, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = untrained(desk.folder / "model")
    public_rows(desk.folder / "rows.jsonl", 20)
    models = f'model = "model"\nencoder = "{tiny_base}"'
    asked = f"[robustness.paraphrases]\n{models}\ntexts = 20\n"
    handed(desk, f'[public]\nfile = "rows.jsonl"\n{asked}')
    answer = adapters("gate", "test@1", *brought(desk))
    assert (answer.code, "FAILED robustness, paraphrase: 0 of 20" in answer.out) == (1, True)
    said = json.loads(Path("gate.json").read_text())
    assert said["inputs"]["paraphraser"] == examine(model).manifest
    assert said["inputs"]["encoder"] == examine(tiny_base).manifest

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Writer, "continued", stopped)
    answer = adapters("gate", "test@1", *brought(desk))
    assert (answer.code, "stopped" in answer.err) == (2, True)
    assert not Path("gate.json").exists()


def test_keys_are_not_made_inside_the_registry(adapters: Command, tmp_path: Path) -> None:
    answer = adapters("init", "--name", "x", "--registry", "here", "--keys", "here/../here/keys")
    assert (answer.code, "private keys inside" in answer.err) == (2, True)
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("place", [".", "/", "report.html", "release.toml", "missing/gate.json"])
def test_a_report_has_a_place_of_its_own_and_an_older_one_does_not_stand_for_it(
    adapters: Command, desk: Desk, place: str
) -> None:
    refused = adapters("gate", "test@1", *brought(desk), "--out", place)
    assert (refused.code, "no place for a report" in refused.err) == (2, True)
    Path("gate.json").write_text("{}")
    garbage = Path("garbage.json")
    garbage.write_text("[]")
    refused = adapters(
        "gate", "test@1", "--policy", desk.folder / "release.toml", "--attack", garbage
    )
    assert refused.code == 2
    assert not Path("gate.json").exists()
