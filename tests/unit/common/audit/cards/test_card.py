"""The privacy card: whole or refused by name; its figures are the contract's and the ledgers'."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from tests.conftest import REPOSITORY
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_evidence import (
    ADAPTER,
    FIELDS,
    OUTLETS,
    Desk,
    change_result,
    kept,
    made_contract,
    make_desk,
    pay,
    signer_of,
    write_run,
)
from tests.fakes.made_runs import toml

from presspool.common.audit.cards import card as cards
from presspool.common.audit.cards import card_making, model_card
from presspool.common.audit.cards.card_reading import read_card
from presspool.common.audit.cards.code_digest import SUFFIXES, code_digest
from presspool.common.audit.evidence import governance, sources
from presspool.common.audit.evidence.evidence import Evidence
from presspool.common.base.errors import CardError
from presspool.common.contract.contract import parse_contract
from presspool.common.ledger.store import Ledger
from presspool.common.runs.result_file import read_result
from presspool.common.runs.run_folder import RunFolder

SCHEMA_FILE = REPOSITORY / "docs" / "privacy-card.schema.json"
FIRST_CARD = REPOSITORY / "tests" / "golden" / "files" / "card-v1.json"
Body = dict[str, Any]
Path_ = tuple[str | int, ...]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return make_desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def made(desk: Desk) -> cards.Card:
    evidence = sources.read([*desk.exports, desk.run])
    return card_making.make(
        evidence.runs[0], evidence.outlets, governance.read(desk.fields), covers=()
    )


@pytest.fixture(scope="module")
def body(made: cards.Card) -> Body:
    return made.model_dump(mode="json")


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, "audit")


def ledgers(desk: Desk) -> list[str]:
    return [word for path in desk.exports for word in ("--ledger", str(path))]


# --- No blanks -----------------------------------------------------------------------------------


def paths(value: Any, here: Path_ = ()) -> Iterator[Path_]:
    """Every field of a card: tables, texts, numbers, and entries of maps."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*here, key)
            yield from paths(inner, (*here, key))


def holder(body: Body, path: Path_) -> Any:
    found: Any = body
    for part in path[:-1]:
        found = found[part]
    return found


def named(error: CardError, path: Path_) -> bool:
    """Whether the message names the field, or for an entry of a map at least its map."""
    text, field = str(error), ".".join(map(str, path))
    last, table = str(path[-1]), ".".join(map(str, path[:-1]))
    return field in text or (table in text and last in text) or f"{last}:" in text


def test_a_card_with_any_field_deleted_is_refused(body: Body) -> None:
    fields = list(paths(body))
    assert len(fields) > 130
    for path in fields:
        torn = copy.deepcopy(body)
        del holder(torn, path)[path[-1]]
        with pytest.raises(CardError) as refused:
            cards.parse(torn)
        # Which groups or witnesses there were, only the map as a whole can say.
        field = path[:-1] if path[-2:-1] in (("clip",), ("by",)) else path
        assert named(refused.value, field), (path, str(refused.value))
        assert refused.value.exit_code == 2


@pytest.mark.parametrize("blank", [None, "", "  \n", [], {}])
def test_a_card_with_any_blank_field_is_refused_by_name(body: Body, blank: object) -> None:
    for path in paths(body):
        value = holder(body, path)[path[-1]]
        if value in ({}, []) and blank in ({}, []):
            continue  # nobody cosigned, and `note` says so
        torn = copy.deepcopy(body)
        holder(torn, path)[path[-1]] = blank
        with pytest.raises(CardError) as refused:
            cards.parse(torn)
        assert ".".join(map(str, path)) in refused.value.fields or named(refused.value, path), path


def test_several_blanks_are_named_at_once(body: Body) -> None:
    torn = copy.deepcopy(body)
    del torn["governance"]["retention"]
    torn["registry"]["basic"]["name"] = " "
    with pytest.raises(CardError) as refused:
        cards.parse(torn)
    assert set(refused.value.fields) == {"governance.retention", "registry.basic.name"}
    assert "2 fields are blank or wrong" in str(refused.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("registry", "privacy_loss", "privacy_parameters", "epsilon"), 0),
        (("registry", "privacy_loss", "privacy_parameters", "epsilon"), float("inf")),
        (("registry", "privacy_loss", "privacy_parameters", "delta"), float("nan")),
        (("registry", "basic", "publication_date"), "2026-02-30"),
        (("registry", "deployment_model", "data_source_type"), "Unknown"),
        (("training", "joint_sensitivity"), 1.0),
        (("training", "steps"), 5),
        (("governance", "hashes", "adapter"), "sha256:" + "0" * 64),
        (("governance", "hashes", "code"), "unknown"),
        (("governance", "empirical_epsilon"), {"status": "not measured", "why": " "}),
        (("governance", "empirical_epsilon"), {"status": "fine"}),
        (("governance", "outlets", "north-post", "cosignatures", "count"), 7),
        (("outlets_covered",), ["north-post"]),
        (("statement",), "It is private."),
        (("surprise",), "x"),
    ],
)
def test_what_cannot_be_is_refused(body: Body, path: Path_, value: object) -> None:
    torn = copy.deepcopy(body)
    holder(torn, path)[path[-1]] = value
    with pytest.raises(CardError):
        cards.parse(torn)


def test_the_published_schema_is_the_classes_own_and_refuses_the_same(body: Body) -> None:
    schema = cards.CARDS.json_schema()
    assert json.loads(SCHEMA_FILE.read_text()) == schema, (
        "write it again: json.dumps(CARDS.json_schema(), indent=2, ensure_ascii=False)"
    )
    validator = jsonschema.Draft202012Validator(schema)
    assert [error.message for error in validator.iter_errors(body)] == []
    by_name = re.compile(r"^(outlets|population|expected_batch|clip|by|versions)$")
    for path in paths(body):
        if by_name.match(str(path[-2] if len(path) > 1 else "")):
            continue  # which outlets and groups there are is beyond a schema
        torn = copy.deepcopy(body)
        del holder(torn, path)[path[-1]]
        assert not validator.is_valid(torn), path
        torn = copy.deepcopy(body)
        holder(torn, path)[path[-1]] = "  " if isinstance(holder(body, path)[path[-1]], str) else ""
        assert not validator.is_valid(torn), path


def test_a_card_of_format_1_is_read_as_it_was_written() -> None:
    """Of the golden run, as cards were written before there was format 2."""
    data, run = FIRST_CARD.read_bytes(), FIRST_CARD.parent / "given" / "run"
    contract = RunFolder(run).read_contract()
    weights = json.loads(data)["governance"]["hashes"]["adapter"]
    read = read_card(data, weights, contract)
    assert isinstance(read, cards.CardOne)
    text = json.dumps(read.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    assert text.encode() == data
    assert "## Data protection" not in model_card.render(
        read, governance.parse(FIELDS).card, contract
    )
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))
    assert validator.is_valid(json.loads(data))


def test_a_card_has_what_its_format_has_and_nothing_of_the_others(body: Body) -> None:
    first = json.loads(FIRST_CARD.read_text())
    for torn in (
        {**first, "format": cards.FORMAT},
        {**body, "format": cards.FIRST_FORMAT},
        {**first, "data_protection": body["data_protection"]},
        {**first, "registry": body["registry"]},
        {**body, "registry": first["registry"]},
        {**body, "format": "presspool-privacy-card/3"},
    ):
        with pytest.raises(CardError):
            cards.parse(torn)


@pytest.mark.parametrize("answer", ["not applicable", "N/A", "None.", "Not applicable, because ."])
@pytest.mark.parametrize("part", ["lawfulness", "controllers", "impact_assessment", "attack_tests"])
def test_not_applicable_needs_its_reason(body: Body, part: str, answer: str) -> None:
    for key in body["data_protection"][part]:
        torn = copy.deepcopy(body)
        many = key == "tcf_purposes"
        torn["data_protection"][part][key] = [answer] if many else answer
        with pytest.raises(CardError, match=f"data_protection.{part}.{key}"):
            cards.parse(torn)
        reason = f"not applicable, because {key} is not"
        torn["data_protection"][part][key] = [reason] if many else reason
        cards.parse(torn)


@pytest.mark.parametrize("wrong", ["1", "12 Nothing", "10 Store things", "0 x", "1.0 y"])
def test_a_purpose_is_one_of_tcf_by_its_own_name(body: Body, wrong: str) -> None:
    torn = copy.deepcopy(body)
    torn["data_protection"]["lawfulness"]["tcf_purposes"] = [wrong]
    with pytest.raises(CardError, match="a purpose of IAB TCF"):
        cards.parse(torn)


# --- What stands on it ---------------------------------------------------------------------------


def test_every_figure_is_the_contracts_or_the_ledgers(desk: Desk, body: Body) -> None:
    plan, training = desk.contract.plan, body["training"]
    assert body["registry"]["privacy_loss"]["privacy_parameters"] == {
        "epsilon": plan.epsilon(),
        "delta": plan.delta,
    }
    for key, value in {
        "clip": dict(plan.clip),
        "noise_multiplier": plan.noise_multiplier,
        "steps": plan.steps,
        "sampling_rate": plan.sampling_rate,
        "records_per_reader": plan.records_per_reader,
        "joint_sensitivity": plan.sensitivity,
        "population": dict(desk.contract.outlets),
        "expected_batch": {"north-post": 30.0, "south-echo": 20.0},
    }.items():
        assert training[key] == value, key
    for name, path in zip(OUTLETS, desk.ledgers, strict=True):
        said = body["governance"]["outlets"][name]
        with Ledger(path) as ledger:
            book = ledger.book
            known = book.reserved(desk.contract.digest)
            assert known is not None
            assert said["ledger_index"] == known[0]
            room = book.room(book.caps.epsilon_max)
            assert said["budget_used"] == book.spent / room
            assert said["budget_left"] == (room - book.spent) / room
            assert said["claim_epsilon"] == book.highest.epsilon_max
            assert said["runs_composed"] == 2
            assert said["ledger"] == book.opened.origin
            assert said["claim_delta"] == book.opened.delta
            assert said["checkpoint"] == {"entries": book.size, "root": ledger.head().root.hex()}
            assert said["cosignatures"]["count"] == 1
    whole = read_result(desk.run).worst_case
    assert whole is not None
    sums = body["governance"]["reader_of_every_outlet"]
    assert (Decimal(sums["epsilon"]), Decimal(sums["delta"])) == whole
    hashes = body["governance"]["hashes"]
    assert hashes["adapter"] == f"sha256:{ADAPTER}"
    assert hashes["contract"] == desk.contract.digest
    assert hashes["base_model"] == desk.contract.model.weights
    assert hashes["code"] == code_digest()
    assert body["statement"].startswith(f"Adapter sha256:{ADAPTER} is (ε = ")
    assert "north-post, south-echo from 2026-01-01 to 2026-06-30" in body["statement"]
    assert body["governance"]["empirical_epsilon"]["status"] == "not measured"
    units = body["registry"]["privacy_loss"]["number_of_privacy_units"]
    assert units == sum(desk.contract.outlets.values())
    tests = body["data_protection"]["attack_tests"]
    assert tests["membership_inference"].startswith("not tested: no attack was run")


def test_a_statements_epsilon_is_never_below_the_plans(body: Body) -> None:
    found = re.search(r"ε = ([0-9.]+)", body["statement"])
    assert found is not None
    exact = body["registry"]["privacy_loss"]["privacy_parameters"]["epsilon"]
    assert exact <= float(found[1]) <= exact + 0.001


def test_the_code_hash_names_every_file_and_its_content(tmp_path: Path) -> None:
    package = tmp_path / "presspool"
    (package / "common").mkdir(parents=True)
    (package / "a.py").write_text("1")
    (package / "common" / "b.html").write_text("2")
    (package / "common" / "b.pyc").write_text("compiled")
    first = code_digest(package)
    (package / "common" / "b.pyc").write_text("compiled again")
    assert code_digest(package) == first
    seen = {first}
    for change in (
        lambda: (package / "a.py").write_text("2"),
        lambda: (package / "a.py").rename(package / "c.py"),
        lambda: (package / "common" / "d.toml").write_text(""),
        lambda: (package / "c.py").rename(package / "common" / "c.py"),
    ):
        change()
        seen.add(code_digest(package))
    assert len(seen) == 5
    assert ".py" in SUFFIXES


# --- As typed ------------------------------------------------------------------------------------


def test_a_card_and_a_model_card_beside_the_adapter(audit: Command, tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    found = audit("card", desk.adapter, *ledgers(desk), "--fields", desk.fields)
    assert found.code == 0, found.err
    written = json.loads((desk.adapter / "privacy_card.json").read_text())
    assert cards.parse(written).statement == re.sub(r"\s+", " ", found.out).strip()
    readme = (desk.adapter / "README.md").read_text()
    front, _, text = readme.removeprefix("---\n").partition("---\n")
    assert yaml.safe_load(front) == {
        "language": ["en"],
        "license": "apache-2.0",
        "library_name": "peft",
        "pipeline_tag": "text-classification",
        "base_model": "sentence-transformers/all-MiniLM-L6-v2",
        "tags": ["differential-privacy", "federated-learning", "lora", model_card.MARK],
        "model_name": "Topics",
    }
    assert f"`sha256:{ADAPTER}`" in text
    assert str(tmp_path) not in readme + json.dumps(written)
    again = audit("card", desk.run, *ledgers(desk), "--fields", desk.fields, "--json")
    assert json.loads(again.out) == written  # made again from the same evidence, it is the same
    assert "replaced" not in found.err
    for name in ("privacy_card.json", "README.md"):
        assert f"replaced the earlier {desk.adapter / name}" in again.err


def test_a_card_for_one_outlet_needs_only_its_ledger(audit: Command, tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    found = audit(
        "card",
        desk.run,
        "--ledger",
        desk.exports[0],
        "--outlet",
        OUTLETS[0],
        "--fields",
        desk.fields,
        "--json",
    )
    assert found.code == 0, found.err
    card = json.loads(found.out)
    assert card["outlets_covered"] == list(card["governance"]["outlets"]) == [OUTLETS[0]]
    assert f"at {OUTLETS[0]} from 2026-01-01" in card["statement"]
    assert Decimal(card["governance"]["reader_of_every_outlet"]["epsilon"]) == Decimal(
        repr(desk.contract.plan.epsilon())
    )


def test_a_ledger_that_the_card_does_not_cover_is_refused(audit: Command, desk: Desk) -> None:
    typed = ("card", desk.run, *ledgers(desk), "--outlet", OUTLETS[0], "--fields", desk.fields)
    with kept(desk.folder):
        found = audit(*typed)
    assert found.code == 2
    said = re.sub(r"\s+", " ", found.err)
    assert f"{desk.exports[1].name}: a ledger that has nothing to say on this card" in said
    assert f"got {OUTLETS[1]}'s" in said


def test_a_ledger_without_the_run_is_refused(audit: Command, tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    later = Desk(folder=tmp_path, contract=made_contract(name="later"))
    shutil.rmtree(desk.run)
    write_run(later)
    with kept(tmp_path):
        found = audit("card", later.run, *ledgers(desk), "--fields", desk.fields)
    assert found.code == 2
    said = re.sub(r"\s+", " ", found.err)
    assert f"in which run {later.contract.digest} was reserved" in said
    assert f"got {OUTLETS[0]}'s, without that run" in said


def test_without_a_ledger_its_fields_are_refused_and_the_contracts_are_not(
    audit: Command, desk: Desk
) -> None:
    with kept(desk.folder):
        found = audit("card", desk.run, "--ledger", desk.exports[0], "--fields", desk.fields)
    said = re.sub(r"\s+", " ", found.err)
    assert found.code == 2
    for key in cards.OutletGovernance.model_fields:
        assert f"governance.outlets.south-echo.{key}: blank" in said
    assert "north-post" not in said
    assert "training." not in said
    assert "give --ledger of south-echo, or leave them out with --outlet" in said


NEEDED = [(table, key) for table, key, _ in governance.needed(governance.Fields())]


@pytest.fixture(scope="module")
def evidence(desk: Desk) -> Evidence:
    return sources.read([*desk.exports, desk.run])


@pytest.mark.parametrize(("table", "key"), NEEDED)
def test_every_field_of_the_operators_is_needed(evidence: Evidence, table: str, key: str) -> None:
    """Left out, it is refused by the name it has in the file, and nothing else is."""
    rest = {name: value for name, value in FIELDS[table].items() if name != key}
    said, run = governance.parse({**FIELDS, table: rest}), evidence.runs[0]

    def made() -> str:
        card = card_making.make(run, evidence.outlets, said, covers=())
        return model_card.render(card, said.card, run.contract)

    with pytest.raises(CardError) as refused:
        made()
    assert f"[{table}]" in str(refused.value)
    assert str(refused.value).rstrip().endswith(key)


def test_an_unsigned_head_does_not_vouch_for_a_run(audit: Command, tmp_path: Path) -> None:
    """A ledger's own file whose newest signed head is older than the run."""
    desk = make_desk(tmp_path)
    contract = made_contract(name="later")
    later = Desk(folder=tmp_path, contract=contract)
    shutil.rmtree(desk.run)
    write_run(later)
    for path in desk.ledgers:
        with Ledger(path) as ledger:
            pay(ledger, contract, "0" * 32)
    given = [word for path in desk.ledgers for word in ("--ledger", str(path))]
    found = audit("card", desk.run, *given, "--fields", desk.fields)
    assert found.code == 2
    assert "governance.outlets.north-post.checkpoint: blank" in re.sub(r"\s+", " ", found.err)
    with Ledger(desk.ledgers[0]) as ledger:
        ledger.checkpoint(signer_of(OUTLETS[0]))
    alone = ("--ledger", desk.ledgers[0], "--outlet", OUTLETS[0])
    found = audit("card", desk.run, *alone, "--fields", desk.fields)
    assert found.code == 0, found.err


def test_nobody_protected_gets_no_card(audit: Command, tmp_path: Path) -> None:
    privacy = {"noise_multiplier": 0.0, "clip": 1.0, "sampling_rate": 0.1}
    bare = make_desk(tmp_path / "bare", made_contract(privacy=privacy))
    again = make_desk(tmp_path / "again", deterministic=7)
    for desk, said in ((bare, "a run without noise"), (again, "can be drawn again")):
        with kept(desk.folder):
            found = audit("card", desk.run, *ledgers(desk), "--fields", desk.fields)
        assert found.code == 2
        assert said in re.sub(r"\s+", " ", found.err)


def test_another_adapter_or_another_epsilon_gets_no_card(audit: Command, tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    typed = ("card", desk.run, *ledgers(desk), "--fields", desk.fields)
    whole = read_result(desk.run)
    outlets = tuple(
        type(o)(**{**o.__dict__, "epsilon": (o.epsilon or 0) + 1e-4}) for o in whole.outlets
    )
    change_result(desk, outlets=outlets)
    found = audit(*typed)
    assert (found.code, "another ε than the contract's plan costs" in found.err) == (1, True)
    change_result(desk, outlets=whole.outlets)
    file = desk.adapter / "adapter_model.safetensors"
    right = file.read_bytes()
    file.write_bytes(b"another")
    found = audit(*typed)
    assert (found.code, "not the adapter that the run released" in found.err) == (2, True)
    file.unlink()
    found = audit(*typed)
    assert (found.code, "no released adapter" in found.err) == (2, True)
    file.write_bytes(right)
    assert audit(*typed).code == 0


def test_an_attacks_result_is_taken_over_and_checked(audit: Command, tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    measured = {
        "status": "measured",
        "contract": desk.contract.digest,
        "attack": "one-run canaries",
        "confidence": 0.95,
        "interval": [0.4, 2.1],
        "claimed": 3.0,
        "control": "fires at 60 % TPR",
        "sentence": "s.",
    }
    path = desk.run / "empirical.json"
    typed = ("card", desk.run, *ledgers(desk), "--fields", desk.fields, "--json")
    path.write_text(json.dumps(measured))
    card = json.loads(audit(*typed).out)
    assert card["governance"]["empirical_epsilon"] == measured
    tests = card["data_protection"]["attack_tests"]
    assert tests["membership_inference"] == "one-run canaries: s."
    elsewhere = {**measured, "contract": "sha256:" + "0" * 64}
    strange: list[object] = [
        {**measured, "control": ""},
        {**measured, "reader": "r1"},
        [],
        "x",
    ]
    told = [(wrong, "not an attack's result") for wrong in strange]
    for wrong, said in [*told, (elsewhere, "an attack on another run")]:
        path.write_text(json.dumps(wrong))
        found = audit(*typed)
        assert (found.code, said in found.err) == (2, True)


def test_bad_input_is_the_users_mistake_and_writes_nothing(
    audit: Command, desk: Desk, tmp_path: Path
) -> None:
    for arguments, said in (
        ([], "Missing argument"),
        ([tmp_path], "not a run folder"),
        ([tmp_path / "none"], "not a run folder"),
        ([desk.exports[0]], "not a run folder"),
        ([desk.run, "--ledger", tmp_path / "none"], "No such file"),
        ([desk.run, "--outlet", "east"], "no such outlet in the run"),
        ([desk.run, "--fields", tmp_path / "none"], "cannot read the fields"),
        ([desk.run, "--key", "x"], "not a verifier key"),
    ):
        with kept(desk.folder):
            found = audit("card", *arguments)
        assert found.code == 2, (arguments, found.err)
        assert said in re.sub(r"\s+", " ", found.err), (arguments, found.err)


def test_somebodys_own_readme_is_kept(audit: Command, tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    (desk.adapter / "README.md").write_text("What I wrote about this model.")
    with kept(desk.folder):
        found = audit("card", desk.run, *ledgers(desk), "--fields", desk.fields)
    assert (found.code, "somebody wrote this file" in found.err) == (2, True)
    (desk.adapter / "README.md").write_text("# PEFT's\n[More Information Needed]\n")
    assert audit("card", desk.run, *ledgers(desk), "--fields", desk.fields).code == 0


HOSTILE = "</td><script>alert(1)</script> | x\n---\nlicense: mit\n# head [a](javascript:b) `c`"


def test_hostile_texts_add_no_markup_and_no_key(audit: Command, tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    hostile = {k: HOSTILE for k, v in FIELDS["card"].items() if isinstance(v, str)}
    fixed = ("publication_date", "data_source", "records_since", "records_until")
    words = {**FIELDS["card"], **hostile, **{key: FIELDS["card"][key] for key in fixed}}
    desk.fields.write_text(toml({**FIELDS, "card": words}))
    found = audit("card", desk.run, *ledgers(desk), "--fields", desk.fields)
    assert found.code == 0, found.err
    readme = (desk.adapter / "README.md").read_text()
    front, _, text = readme.removeprefix("---\n").partition("\n---\n")
    assert [line.split(":")[0] for line in front.splitlines()].count("license") == 1
    assert "<script" not in text
    assert re.search(r"(?<!\\)\]\(javascript", text) is None
    assert [line for line in text.splitlines() if line.startswith("# ")] == [
        line for line in text.splitlines()[:1] if line.startswith("# ")
    ]
    values = yaml.safe_load(front)
    assert values["license"] == values["model_name"] == HOSTILE
    assert len(values) == 7


def test_a_card_says_what_a_tasks_records_are(desk: Desk) -> None:
    writes = desk.contract.body() | {"task": {"kind": "generation", "max_length": 64}}
    writes["privacy"] |= {"clip": 1.0}
    writes["optimizer"] = {"learning_rate": 1.0}
    said = [
        card_making._protected(contract, 3.0, "2026", ["north-post"])["dp_variant"]
        for contract in (desk.contract, parse_contract(writes))
    ]
    assert "Any set of labelled texts of readers" in said[0]["data_domain"]
    assert (
        "Any set of texts, prompts with answers, chats, or articles with summaries of readers"
        in said[1]["data_domain"]
    )
    assert "at most 64 tokens" in said[1]["data_domain"]
    assert "label" not in str(said[1])
