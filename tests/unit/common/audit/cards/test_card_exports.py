"""A card for the registry, as a bill of materials and as a row: whole, valid, or not there."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from referencing import Registry, Resource
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_evidence import FIELDS, Desk, kept, make_desk
from tests.fakes.made_runs import toml

from presspool.common.audit.cards import card as cards
from presspool.common.audit.cards import card_exports, card_making
from presspool.common.audit.cards.data_protection import AttackTests
from presspool.common.audit.cards.registry_card import RegistryTwo
from presspool.common.audit.cards.registry_yaml import registry_yaml
from presspool.common.audit.evidence import governance, sources
from presspool.common.base.errors import CardError
from presspool.common.contract.contract import Contract

# github.com/opendp/deployments-registry-data, read on 2026-11-30: deployments-schema.yaml of main
# at 3e9c812 (2026-07-15); data_curators as of fe4c487 (pull request 190, 2026-07-15);
# number_of_privacy_units as of ceb409a (pull request 205, 2026-07-20). `rho` is another variant's.
TEMPLATE = re.findall(
    r"\S+",
    """
url_slug status tier
basic.name basic.data_curators.data_curator_name basic.data_curators.data_curator_type
basic.intended_use basic.data_product_type basic.data_product_region basic.description
basic.publication_date basic.data_product_sector
dp_variant.variant_name dp_variant.data_domain dp_variant.unprotected_quantities
privacy_loss.privacy_unit privacy_loss.privacy_unit_details privacy_loss.number_of_privacy_units
privacy_loss.privacy_parameters.epsilon privacy_loss.privacy_parameters.delta
privacy_loss.privacy_parameters_details
deployment_model.model_name deployment_model.model_name_details deployment_model.actors
deployment_model.release_type deployment_model.release_type_details
deployment_model.data_source_type deployment_model.data_source_type_details
deployment_model.access_type deployment_model.access_type_details
accounting.post_processing accounting.composition
implementation.preprocessing_and_hyperparameter_tuning implementation.mechanisms
implementation.justification
administrative.sources administrative.notes administrative.registry_authors
""",
)
WHOLE = {
    **FIELDS,
    "article30": {key: f"{key}, as told" for key in governance.Article30.model_fields},
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return make_desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def card(desk: Desk) -> cards.CardTwo:
    evidence = sources.read([*desk.exports, desk.run])
    fields = governance.parse(WHOLE)
    return card_making.make(evidence.runs[0], evidence.outlets, fields, covers=())


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, "audit")


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Path and value of everything that is no table; the entries of a list have its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}".removeprefix("."))
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, path)
    else:
        yield path, value


def exported(card: cards.CardTwo, contract: Contract, name: str, path: Path) -> str:
    wanted = card_exports.Wanted(**{name: path})
    return card_exports.prepare(wanted, card, governance.parse(WHOLE), contract)[path]


# --- For the registry ----------------------------------------------------------------------------


def fields_of(text: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for path, value in leaves(yaml.safe_load(text)):
        found.setdefault(path.removeprefix("deployment."), []).append(value)
    return found


def test_the_registrys_file_has_the_templates_fields_and_no_other(card: cards.CardTwo) -> None:
    found = fields_of(registry_yaml(card))
    assert sorted(found) == sorted(TEMPLATE)
    assert all(value not in (None, "") for values in found.values() for value in values)
    assert found["basic.data_curators.data_curator_type"] == ["Industry", "Nonprofit"]
    assert found["privacy_loss.number_of_privacy_units"] == [sum(card.training.population.values())]
    assert found["url_slug"] == ["topics-north-post-ltd-south-echo-ltd-2026"]


@pytest.mark.parametrize("forgotten", ["accounting", "privacy_loss"])
def test_a_field_that_the_file_forgets_is_noticed(card: cards.CardTwo, forgotten: str) -> None:
    """The planted mistake: a part of the card that never gets into the file."""
    rest = {key: part for key, part in card.registry if key != forgotten}
    torn = card.model_copy(update={"registry": RegistryTwo.model_construct(**rest)})
    assert set(TEMPLATE) - set(fields_of(registry_yaml(torn)))


def test_no_text_is_folded_or_escapes_its_field(card: cards.CardTwo) -> None:
    """The registry refuses folded texts (its check_quoting); a colon or a # must not add a key."""
    hostile = "a: b # c\n- d\n\u2028" + "word " * 200
    basic = card.registry.basic.model_copy(update={"description": hostile})
    registry = card.registry.model_copy(update={"basic": basic})
    text = registry_yaml(card.model_copy(update={"registry": registry}))
    assert yaml.safe_load(text)["deployment"]["basic"]["description"] == hostile
    styles = {token.style for token in yaml.scan(text) if hasattr(token, "style")}
    assert styles <= {None, "|", '"', "'"}


def test_a_new_sector_is_told_to_the_reviewers(card: cards.CardTwo) -> None:
    assert "# data_product_sector: a value" in registry_yaml(card)
    basic = card.registry.basic.model_copy(update={"data_product_sector": "Technology"})
    known = card.registry.model_copy(update={"basic": basic})
    assert "# data_product_sector" not in registry_yaml(card.model_copy(update={"registry": known}))


# --- As a bill of materials ----------------------------------------------------------------------


def faults(body: Any) -> list[str]:
    """By CycloneDX's own schema of 1.6, as its Python library brings it."""
    folder = resources.files("cyclonedx.schema") / "_res"
    read = {
        name: json.loads((folder / f"{name}.SNAPSHOT.schema.json").read_text(encoding="utf-8"))
        for name in ("bom-1.6", "spdx", "jsf-0.82")
    }
    at = "http://cyclonedx.org/schema"
    known = [(f"{at}/{name}.SNAPSHOT.schema.json", schema) for name, schema in read.items()]
    registry: Registry[Any] = Registry().with_resources(
        (uri, Resource.from_contents(schema)) for uri, schema in known
    )
    validator = jsonschema.Draft7Validator(read["bom-1.6"], registry=registry)
    return [error.message for error in validator.iter_errors(body)]


def test_the_bill_of_materials_is_cyclonedx(card: cards.CardTwo, desk: Desk) -> None:
    body = json.loads(exported(card, desk.contract, "aibom", Path("bom.json")))
    assert faults(body) == []
    model = body["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    assert f"sha256:{model['hashes'][0]['content']}" == card.governance.hashes.adapter
    refs = [part["bom-ref"] for part in body["components"]]
    assert body["dependencies"] == [{"ref": "adapter", "dependsOn": refs}]
    assert len(set(refs)) == len(refs)
    told = {one["name"]: one["value"] for one in model["modelCard"]["properties"]}
    assert told["presspool:statement"] == card.statement
    assert set(told) >= {f"presspool:attack_tests.{k}" for k in AttackTests.model_fields}


def test_the_schema_that_judges_it_refuses_what_is_none(card: cards.CardTwo, desk: Desk) -> None:
    body = json.loads(exported(card, desk.contract, "aibom", Path("bom.json")))
    del body["metadata"]["component"]["name"]
    body["metadata"]["component"]["modelCard"]["surprise"] = 1
    assert faults(body)


# --- As a row ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "md"])
def test_the_row_has_every_item_of_article_30(card: cards.CardTwo, desk: Desk, suffix: str) -> None:
    text = exported(card, desk.contract, "ropa", Path(f"row.{suffix}"))
    rows = list(csv.reader(text.splitlines()))
    if suffix == "md":
        lines = text.replace("\\_", "_").splitlines()
        rows = [[c.strip() for c in line.strip("|").split(" | ")] for line in lines[::2]]
    assert len(rows) == 2
    assert len(rows[0]) == len(rows[1])
    for key, what, said in governance.parse(WHOLE).article30.rows():
        assert rows[1][rows[0].index(what)] == said, key


def test_no_cell_is_a_formula(card: cards.CardTwo, desk: Desk) -> None:
    fields = governance.parse(
        {**WHOLE, "article30": {**WHOLE["article30"], "purposes": "=HYPERLINK(1)"}}
    )
    wanted = card_exports.Wanted(ropa=Path("row.csv"))
    (text,) = card_exports.prepare(wanted, card, fields, desk.contract).values()
    (row,) = csv.DictReader(text.splitlines())
    assert "'=HYPERLINK(1)" in row.values()


@pytest.mark.parametrize("key", list(governance.Article30.model_fields))
def test_a_blank_of_the_row_is_named(card: cards.CardTwo, desk: Desk, key: str) -> None:
    rest = {name: text for name, text in WHOLE["article30"].items() if name != key}
    wanted, fields = (
        card_exports.Wanted(ropa=Path("row.csv")),
        governance.parse({**WHOLE, "article30": rest}),
    )
    with pytest.raises(CardError) as refused:
        card_exports.prepare(wanted, card, fields, desk.contract)
    assert refused.value.fields == (f"[article30] {key}",)


# --- As typed ------------------------------------------------------------------------------------


def exports(desk: Desk) -> tuple[list[str], list[Path]]:
    words = [word for path in desk.exports for word in ("--ledger", str(path))]
    names = {"--registry-yaml": "topics_2026.yaml", "--aibom": "bom.json", "--ropa": "row.csv"}
    made = [desk.folder / name for name in names.values()]
    for option, path in zip(names, made, strict=True):
        words += [option, str(path)]
    return ["card", str(desk.run), *words], made


def test_all_forms_are_written_with_the_card(audit: Command, tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    desk.fields.write_text(toml(WHOLE))
    words, made = exports(desk)
    found = audit(*words, "--fields", desk.fields)
    assert found.code == 0, found.err
    assert all(path.stat().st_size for path in made)
    assert all(f"wrote {path}" in found.err for path in made)
    with kept(desk.folder):
        again = audit(*words, "--fields", desk.fields)
    assert (again.code, "the file exists" in again.err) == (2, True)


def test_what_cannot_be_written_leaves_nothing(audit: Command, tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    words, _ = exports(desk)
    wrong = {
        "topics_2026.yaml": ("Topics 2026.yml", "a file name that the registry refuses"),
        "row.csv": ("row.xlsx", "ends in .csv or .md"),
        "": ("", "[article30] representative"),  # blank in these fields
    }
    for right, (name, said) in wrong.items():
        typed_ = [word.replace(right, name) if right else word for word in words]
        with kept(desk.folder):
            found = audit(*typed_, "--fields", desk.fields)
        assert found.code == 2
        assert said in re.sub(r"\s+", " ", found.err)
