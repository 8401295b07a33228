"""Contracts of schema 1 keep their words, bytes and digests for ever; new ones are of schema 2."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.made_runs import toml

from presspool.common.base.errors import ContractError
from presspool.common.contract.contract import EXAMPLE, Contract, parse_contract, read_canonical
from presspool.common.runs.run_file import read_run_file
from presspool.common.runs.run_folder import RunFolder, Setup

# As version 0.1 froze it, stored it and sent it.
STORED = (
    '{"adapter":{"aggregation":"fedit","alpha":7.5,"layers":2,"rank":3,"targets":["q","v"]},'
    '"federation":{"local_steps":5,"quorum":2,"rounds":11,"trust":"local","update_norm_cap":12.25},'
    '"model":{"id":"example/base","tokenizer":"sha256:'
    + "2" * 64
    + '","weights":"sha256:'
    + "1" * 64
    + '"},"name":"every-key","optimizer":{"learning_rate":{"adapter":0.0001,"head":0.3},'
    '"momentum":0.5,"name":"adamw","schedule":"cosine","warmup_steps":3,"weight_decay":0.01},'
    '"outlets":{"a-paper":99999,"m":1,"zeitung":1234},"privacy":{"clip":{"adapter":0.1,'
    '"head":1e-05},"delta":3e-07,"epsilon":9.75,"noise_multiplier":1.1,"records_per_reader":4,'
    '"sampling_rate":0.015625,"unit":"record"},"schema":1,"seed":9223372036854775807,'
    '"server":{"betas":[0.8,0.995],"learning_rate":{"adapter":0.02,"head":2.0},"name":"adam",'
    '"schedule":"cosine"},"task":{"head":"names","kind":"classification",'
    '"labels":["Kultur & Bühne","спорт","財経"],"max_length":96}}'
)
DIGEST = "sha256:f28d4b84774c7a2146706db232f8e4105f03157718145698d008c26bc15aee3e"


def example(schema: int | None = None, **adapter: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(EXAMPLE)
    said = {} if schema is None else {"schema": schema}
    return body | said | ({"adapter": adapter} if adapter else {})


def test_a_stored_contract_keeps_its_words_bytes_and_digest(tmp_path: Path) -> None:
    contract = read_canonical(STORED, digest=DIGEST)
    assert contract.canonical().decode() == STORED
    assert (contract.digest, contract.body()) == (DIGEST, json.loads(STORED))
    assert contract.adapter.method == "fedit"
    assert contract.with_noise().canonical() == contract.canonical()
    changed = contract.replace(name="other").replace(name="every-key")
    assert (changed, changed.digest) == (contract, DIGEST)
    folder = RunFolder(tmp_path / "run")
    with folder.claim(contract, Setup(), resume=False):
        pass
    assert folder.contract_file.read_bytes() == STORED.encode()
    assert folder.read_contract() == contract


def test_a_change_of_an_old_contract_is_an_old_contract() -> None:
    changed = read_canonical(STORED, digest=DIGEST).replace(adapter={"method": "ffa"}, seed=1)
    expected = json.loads(STORED) | {"seed": 1}
    expected["adapter"]["aggregation"] = "ffa"
    assert changed.body() == expected
    assert b'"head":1e-05' in changed.canonical()


def test_the_example_had_this_digest_in_version_0_1() -> None:
    old = parse_contract(example(schema=1))
    assert old.digest == "sha256:924e02dbedc7bf64c72267103d8a07592af86a45cfda7dca51054e96b938b6e8"
    assert parse_contract(example(aggregation="ffa")) == old


def test_both_schemas_say_the_same_run() -> None:
    old, new = parse_contract(example(aggregation="head")), parse_contract(example(method="head"))
    assert (old.schema_, new.schema_) == (1, 2)
    assert old.digest != new.digest
    assert (old.adapter, old.plan, old.outlets) == (new.adapter, new.plan, new.outlets)


def test_new_contracts_are_hashed_over_rfc_8785() -> None:
    contract = parse_contract(example())
    assert (contract.schema_, contract.body()["adapter"]["method"]) == (2, "ffa")
    assert b'"delta":0.00001' in contract.canonical()
    assert b'"noise_multiplier":1.2,' in contract.canonical()
    assert b'"clip":{"all":1}' in contract.canonical()
    assert contract.canonical() == rfc8785.dumps(contract.body())
    assert contract.digest == "sha256:" + hashlib.sha256(contract.canonical()).hexdigest()


@pytest.mark.parametrize("schema", [1, 2])
@given(
    seed=st.integers(0, 2**53 - 1),
    sigma=st.floats(0.1, 1e3),
    rate=st.floats(1e-9, 1),
    clip=st.floats(min_value=5e-324, allow_nan=False, allow_infinity=False),
    labels=st.lists(st.text(st.characters(codec="utf-8")), min_size=2, max_size=4, unique=True),
)
def test_a_contract_survives_its_bytes(
    schema: int, seed: int, sigma: float, rate: float, clip: float, labels: list[str]
) -> None:
    body = example(schema=schema) | {"seed": seed, "task": {"labels": labels}}
    privacy = {"noise_multiplier": sigma, "sampling_rate": rate, "clip": clip}
    contract = parse_contract(body | {"privacy": privacy})
    again = parse_contract(json.loads(contract.canonical()))
    assert (again, again.canonical()) == (contract, contract.canonical())


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("seed", {"seed": 2**53}),
        ("outlets.daily-bugle", {"outlets": {"daily-bugle": 2**53}}),
        ("optimizer.warmup_steps", {"optimizer": {"learning_rate": 1, "warmup_steps": 2**53}}),
    ],
)
def test_whole_numbers_that_json_has_not_are_refused_in_schema_2(
    key: str, change: dict[str, Any]
) -> None:
    privacy = {"noise_multiplier": 1.2, "clip": 1.0, "sampling_rate": 0.15, "delta": 1e-20}
    with pytest.raises(ContractError, match=rf"my\.toml: {key}: .* 2\^53 - 1"):
        parse_contract(example() | {"privacy": privacy} | change, where="my.toml")
    parse_contract(example(schema=1) | {"privacy": privacy} | change)
    less = json.loads(json.dumps(change).replace(str(2**53), str(2**53 - 1)))
    assert parse_contract(example() | {"privacy": privacy} | less).digest


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (example(method="ffa", aggregation="ffa"), "aggregation and [adapter] method are one key"),
        (example(schema=2, aggregation="ffa"), "aggregation is called method since schema 2"),
        (example(schema=3), "schema"),
        (example(agregation="ffa"), "agregation"),
    ],
)
def test_a_mixture_of_schemas_is_refused(body: dict[str, Any], words: str) -> None:
    with pytest.raises(ContractError) as caught:
        parse_contract(body, where="my.toml")
    assert "my.toml" in caught.value.where
    assert words in str(caught.value)


def test_a_digest_of_the_other_schema_is_another_contract() -> None:
    """Nobody can pass a contract off as one of the other schema."""
    for other in (
        STORED.replace('"schema":1', '"schema":2').replace("aggregation", "method"),
        STORED.replace('"schema":1,', "").replace("9223372036854775807", "7"),
    ):
        with pytest.raises(ContractError):
            read_canonical(other, digest=DIGEST)


@pytest.mark.parametrize(
    "old", [{"schema": 1}, {"adapter": {"aggregation": "fedit"}}, {"adapter": {"method": "fedit"}}]
)
def test_an_operator_with_an_old_run_file_is_told_once(
    old: dict[str, Any], contract: Contract, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = example() | old
    path = tmp_path / "run.toml"
    path.write_text(toml(body), encoding="utf-8")
    with caplog.at_level(logging.WARNING, "presspool"):
        found = read_run_file(path).contract
    assert found == parse_contract(body)
    if "method" in str(old):
        assert (found.schema_, caplog.messages) == (2, [])
        return
    assert found.schema_ == 1
    (line,) = caplog.messages
    for word in (str(path), "[adapter] method", "aggregation", "0.3"):
        assert word in line
