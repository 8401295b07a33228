"""The contract: what it refuses and how it says so; equal contracts have equal bytes."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presspool import __version__
from presspool.common.base.errors import ContractError, VersionError
from presspool.common.contract import schema_versions
from presspool.common.contract.contract import EXAMPLE, Contract, parse_contract, read_canonical


def digest_of(stored: bytes) -> str:
    return "sha256:" + hashlib.sha256(stored).hexdigest()


def example(**tables: dict[str, Any] | Any) -> dict[str, Any]:
    """The example's body with tables merged or keys replaced."""
    body: dict[str, Any] = json.loads(EXAMPLE)
    for key, value in tables.items():
        merge = isinstance(value, dict) and key != "outlets"
        body[key] = {**body.get(key, {}), **value} if merge else value
    return body


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nam": "x"}, ["unknown key", "nam", "did you mean 'name'"]),
        ({"privacy": {"sampling_rat": 0.1}}, ["[privacy] sampling_rat", "'sampling_rate'"]),
        ({"optimizer": {"lr": 0.1}}, ["[optimizer] lr", "unknown key", "learning_rate"]),
        ({"privacy": {"sampling_rate": 1.5}}, ["[privacy] sampling_rate", "got", "1.5"]),
        ({"privacy": {"sampling_rate": 0}}, ["[privacy] sampling_rate"]),
        ({"privacy": {"epsilon": 0}}, ["[privacy] epsilon", "greater than 0"]),
        ({"privacy": {"epsilon": -3}}, ["[privacy] epsilon", "greater than 0", "-3"]),
        ({"privacy": {"epsilon": "high"}}, ["[privacy] epsilon", "high"]),
        ({"privacy": {"delta": 0.001}}, ["delta", "1/population", "daily-bugle"]),
        ({"privacy": {"noise_multiplier": None}}, ["epsilon", "noise_multiplier"]),
        ({"privacy": {"noise_multiplier": float("nan")}}, ["[privacy] noise_multiplier"]),
        ({"optimizer": {"weight_decay": float("inf")}}, ["[optimizer] weight_decay", "finite"]),
        ({"privacy": {"clip": {"head": 1.0}}}, ["clip", "adapter", "head"]),
        ({"privacy": {"clip": -1.0}}, ["clip"]),
        ({"privacy": {"clip": True}}, ["clip"]),
        ({"privacy": {"records_per_reader": 0}}, ["records_per_reader"]),
        ({"privacy": {"unit": "household"}}, ["unit", "household"]),
        ({"task": {"labels": ["one"]}}, ["labels"]),
        ({"task": {"labels": ["one", "one"]}}, ["labels", "distinct"]),
        ({"task": {"kind": "ner"}}, ["kind", "ner"]),
        ({"federation": {"quorum": 2}}, ["quorum", "lists only 1"]),
        ({"federation": {"trust": "pooled"}}, ["trust", "pooled"]),
        ({"federation": {"rounds": 0}}, ["rounds"]),
        ({"outlets": {}}, ["outlets"]),
        ({"outlets": {"Daily Bugle": 10}}, ["outlets"]),
        ({"outlets": {"daily-bugle": 0}}, ["daily-bugle"]),
        ({"model": {"weights": "md5:1"}}, ["weights"]),
        ({"schema": 3}, ["schema"]),
        ({"seed": -1}, ["seed"]),
    ],
)
def test_refusals_name_file_key_and_value(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ContractError) as caught:
        parse_contract(example(**changes), where="my.toml")
    for word in ["my.toml", *words]:
        assert word in str(caught.value), f"{word!r} not in: {caught.value}"
    assert caught.value.exit_code == 2


def test_missing_table_is_named() -> None:
    body = example()
    del body["privacy"]
    with pytest.raises(ContractError, match=r"privacy: missing key"):
        parse_contract(body)


def test_epsilon_inf_is_unprotected_and_survives_json() -> None:
    body = example(privacy={"epsilon": "inf", "noise_multiplier": None})
    contract = parse_contract(body).with_noise()
    assert contract.privacy.noise_multiplier == 0
    assert not contract.plan.protected
    again = parse_contract(json.loads(contract.canonical()))
    assert again.digest == contract.digest
    assert b'"epsilon":"inf"' in contract.canonical()


def test_noise_is_solved_rounded_up_and_frozen_in_the_digest() -> None:
    body = example(privacy={"epsilon": 3.0, "noise_multiplier": None})
    open_contract = parse_contract(body)
    frozen = open_contract.with_noise()
    sigma = frozen.privacy.noise_multiplier
    assert sigma is not None
    assert frozen.plan.epsilon() <= 3.0
    one_less = frozen.replace(privacy={"noise_multiplier": round(sigma - 1e-3, 6), "epsilon": None})
    assert one_less.plan.epsilon() > 3.0
    assert frozen.digest != open_contract.digest
    assert frozen.with_noise() == frozen


def test_epsilon_and_a_weaker_sigma_contradict_each_other() -> None:
    body = example(privacy={"epsilon": 1.0, "noise_multiplier": 0.6})
    with pytest.raises(ContractError, match="contradict"):
        parse_contract(body).with_noise()


def test_meaningless_epsilon_is_refused() -> None:
    body = example(privacy={"epsilon": 1e6, "noise_multiplier": None})
    with pytest.raises(ContractError, match="protects nobody"):
        parse_contract(body).with_noise()


def test_a_contract_without_sigma_has_no_plan() -> None:
    contract = parse_contract(example(privacy={"epsilon": 3.0, "noise_multiplier": None}))
    with pytest.raises(ContractError, match="not frozen"):
        _ = contract.plan


@given(
    seed=st.integers(0, 2**53 - 1),
    sigma=st.floats(0.1, 100),
    rate=st.floats(1e-6, 1),
    population=st.integers(1, 90_000),
    clip=st.floats(1e-6, 1e6),
)
def test_canonical_json_round_trips_and_digests_agree(
    seed: int, sigma: float, rate: float, population: int, clip: float
) -> None:
    contract = parse_contract(
        example(
            seed=seed,
            outlets={"a": population},
            privacy={"noise_multiplier": sigma, "sampling_rate": rate, "clip": clip},
        )
    )
    again = parse_contract(json.loads(contract.canonical()))
    assert again == contract
    assert again.canonical() == contract.canonical()


def test_key_order_does_not_matter_and_every_value_does() -> None:
    body = example()
    shuffled = dict(reversed(list(copy.deepcopy(body).items())))
    assert parse_contract(body).digest == parse_contract(shuffled).digest
    changed = [
        example(seed=1),
        example(outlets={"daily-bugle": 1001}),
        example(adapter={"rank": 4}),
        example(privacy={"sampling_rate": 0.16}),
        example(optimizer={"momentum": 0.5}),
    ]
    digests = {parse_contract(b).digest for b in [body, *changed]}
    assert len(digests) == len(changed) + 1


def test_reading_canonical_json_checks_the_digest(contract: Contract) -> None:
    text = contract.canonical()
    assert read_canonical(text, digest=contract.digest) == contract
    with pytest.raises(ContractError, match="digest"):
        read_canonical(text.replace(b'"seed":3', b'"seed":4'), digest=contract.digest)
    half = text.replace(b'"name":"', b'"name":"\\ud800')
    assert half != text
    for unreadable in (b"{", half, b"[" * 100_000, b"\xff"):
        with pytest.raises(ContractError, match="not JSON"):
            read_canonical(unreadable, digest=digest_of(unreadable))
    with pytest.raises(ContractError, match="JSON object"):
        read_canonical(b"[]", digest=digest_of(b"[]"))
    with pytest.raises(ContractError, match="not JSON"):
        read_canonical("\ud800", digest=contract.digest)


def test_an_unfrozen_contract_is_not_accepted_from_the_wire() -> None:
    open_contract = parse_contract(example())
    with pytest.raises(ContractError, match="frozen"):
        read_canonical(open_contract.canonical(), digest=open_contract.digest)


def test_a_frozen_contract_cannot_be_changed(contract: Contract) -> None:
    with pytest.raises(ValueError, match="frozen"):
        contract.seed = 4
    with pytest.raises(TypeError):
        contract.plan.clip["all"] = 9.0  # type: ignore[index]


def test_weights_are_declared_shares(contract: Contract) -> None:
    assert contract.weights() == {"north-post": 0.6, "south-echo": 0.4}


def newer(contract: Contract, **tables: Any) -> tuple[bytes, str]:
    """A contract as another version would freeze it, and its digest."""
    body = contract.body()
    for key, value in tables.items():
        body[key] = {**body[key], **value} if isinstance(value, dict) and key in body else value
    stored = schema_versions.canonical({**body, "schema": 2})
    if "schema" in tables:
        stored = stored.replace(b'"schema":2', b'"schema":%d' % tables["schema"])
    return stored, digest_of(stored)


@pytest.mark.parametrize(
    ("tables", "named"),
    [
        ({"federation": {"colour": "red"}}, "federation.colour"),
        ({"privacy": {"fold": 1}, "extra": {"a": 1}}, "extra"),
        ({"schema": 3}, "schema 3"),
    ],
)
def test_a_newer_versions_contract_is_refused_by_version(
    tables: dict[str, Any], named: str, contract: Contract
) -> None:
    stored, digest = newer(contract, **tables)
    with pytest.raises(VersionError, match="a newer PressPool made this contract") as caught:
        read_canonical(stored, digest=digest)
    assert named in str(caught.value.got)
    assert __version__ in str(caught.value)
    assert "update PressPool" in caught.value.advice


def test_the_digest_is_that_of_the_bytes_that_came(contract: Contract) -> None:
    stored = contract.canonical()
    assert read_canonical(stored, digest=contract.digest) == contract
    assert read_canonical(stored.decode(), digest=contract.digest) == contract
    spaced = json.dumps(json.loads(stored)).encode()
    assert parse_contract(json.loads(spaced)).digest == contract.digest
    with pytest.raises(ContractError, match="contract digest"):
        read_canonical(spaced, digest=contract.digest)
    with pytest.raises(ContractError, match="not the bytes of a contract"):
        read_canonical(spaced, digest=digest_of(spaced))
