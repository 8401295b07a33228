"""What a wrong value in a file is told: in our words, whatever the schema asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date, datetime, time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from tests.fakes.made_runs import toml

from presspool.client.consent.policy import Policy
from presspool.client.data.snapshots import SNAPSHOT, manifest_of
from presspool.client.identity.identity import Identity
from presspool.client.identity.settings import OutletSettings
from presspool.client.witnessing.trusted_peers import PEERS, approved
from presspool.common.audit.cards.card import Card
from presspool.common.audit.evidence.governance import Fields
from presspool.common.base.errors import ContractError, InputError
from presspool.common.base.validation import FORMS, bare, expected
from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import TASKS
from presspool.common.ledger.entries import Entry
from presspool.common.runs.results import RunResult
from presspool.common.runs.run_file import EvaluationData, Simulation, read_run_file
from presspool.server.coordinator.coordinator_folder import CoordinatorSettings

TABLES = [TASKS[kind].Table for kind in TASKS.names]
WRITTEN = [Contract, *TABLES, Policy, OutletSettings, Simulation, EvaluationData, Fields]
READ = [*WRITTEN, CoordinatorSettings, Card, RunResult, Entry]
LONG = "x" * 30_000
WRONG: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2.5, 2**70, float("nan"), float("inf"), b"\xff"),
    *("", "3", "A b", "true", "\x00", "\ud800", LONG),
    *([], ["3"], [1, 2, 3], {}, {"a": 1}, {"all": "3"}, [{}], {"kind": "x"}),
    *(date(2026, 1, 1), time(1), datetime(2026, 1, 1)),
)
FOREIGN = re.compile(
    "Input should|should (match|have|be)|[Ff]ield required|valid(ation| string)|Value error|"
    "another value|another form|could not convert"
)


def nodes(schema: object) -> Iterator[dict[str, Any]]:
    """Everything that a schema is made of."""
    if isinstance(schema, dict):
        yield schema
        schema = [part for key, part in schema.items() if key != "serialization"]
    if isinstance(schema, list | tuple):
        for part in schema:
            yield from nodes(part)


def of(kind: Any, *types: str) -> list[dict[str, Any]]:
    found = nodes(TypeAdapter(kind).core_schema)
    return [node for node in found if node.get("type") in types]


def faults(kind: Any, body: dict[str, Any]) -> list[Any]:
    found, reader = list[Any](), TypeAdapter(kind)
    text = json.dumps(body, default=str)
    for read in (partial(reader.validate_python, body), partial(reader.validate_json, text)):
        try:
            read()
        except ValidationError as error:
            found += error.errors()
    return found


@pytest.mark.parametrize("kind", READ, ids=str)
def test_every_fault_of_every_field_is_told_in_our_words(kind: Any) -> None:
    keys = {key for node in of(kind, "model-fields", "typed-dict") for key in node["fields"]}
    keys |= {field["name"] for node in of(kind, "dataclass-args") for field in node["fields"]}
    assert keys
    for value in WRONG:
        flat = dict.fromkeys(keys, value)
        deeper = [dict.fromkeys(keys, inner) for inner in (flat, [flat]) if value != LONG]
        for body in (flat, *deeper):
            for fault in faults(kind, body):
                assert not FOREIGN.search(expected(fault)), fault


@pytest.mark.parametrize("damage", [b"{", b"{}", b"\xff", b'{"address": 3}'])
def test_a_damaged_file_of_ours_is_told_without_the_name_of_an_exception(
    tmp_path: Path, damage: bytes
) -> None:
    for name in ("identity/coordinator.json", PEERS, SNAPSHOT):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(damage)
    for read in (
        partial(Identity.read, tmp_path),
        partial(manifest_of, tmp_path / SNAPSHOT),
        partial(approved, tmp_path),
    ):
        with pytest.raises(InputError) as caught:
            read()
        assert not re.search("[A-Za-z]+(Error|Invalid|Exception)", str(caught.value.got))


@pytest.mark.parametrize("kind", READ, ids=str)
def test_every_pattern_has_words(kind: Any) -> None:
    patterns = {node["pattern"] for node in of(kind, "str") if "pattern" in node}
    assert {bare(pattern) for pattern in patterns} <= set(FORMS)


@pytest.mark.parametrize("kind", WRITTEN, ids=str)
def test_no_number_and_no_switch_is_taken_from_quotes(kind: Any) -> None:
    assert all(node.get("strict") for node in of(kind, "int", "float", "bool"))


@pytest.mark.parametrize(
    ("table", "key", "value", "asked"),
    [
        ("privacy", "epsilon", "3", "a number, without quotes"),
        ("privacy", "epsilon", True, "a number"),
        ("privacy", "sampling_rate", "0.5", "a number, without quotes"),
        ("federation", "rounds", "2", "a whole number, without quotes"),
        ("federation", "rounds", 2.5, "a whole number"),
        ("federation", "rounds", True, "a whole number"),
        ("task", "max_length", "64", "a whole number, without quotes"),
        ("outlets", "north-post", "900", "a whole number, without quotes"),
        ("server", "betas", [0.9, 0.99, 0.9], "2 or fewer"),
        ("model", "weights", "sha1:1", "sha256: and 64 digits 0-9 or a-f"),
        ("privacy", "unit", "person", "'reader' or 'record'"),
        ("privacy", "delta", 1, "a number less than 1"),
    ],
)
def test_a_run_file_is_told_what_was_asked(
    tmp_path: Path, contract_body: dict[str, Any], table: str, key: str, value: object, asked: str
) -> None:
    path = tmp_path / "run.toml"
    body = contract_body | {table: {**contract_body.get(table, {}), key: value}}
    path.write_text(toml(body))
    with pytest.raises(ContractError) as caught:
        read_run_file(path)
    assert caught.value.expected == asked
    assert key in caught.value.where


def test_a_key_that_no_table_resembles_is_told_all_that_may_stand(
    tmp_path: Path, contract_body: dict[str, Any]
) -> None:
    path = tmp_path / "run.toml"
    path.write_text(toml(contract_body | {"zzz": 1, "simulation": {"data": "x"}}))
    with pytest.raises(ContractError) as caught:
        read_run_file(path)
    assert str(caught.value.expected).startswith("one of ")
    assert str(caught.value.expected).endswith("optimizer, server, simulation, evaluation")
    path.write_text(toml(contract_body | {"evaluations": {"data": "x"}}))
    with pytest.raises(ContractError, match="did you mean 'evaluation'"):
        read_run_file(path)
