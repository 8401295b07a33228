"""Signed headers: what is signed is what is read, and nothing else is a header."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

import pytest
import rfc8785
from tests.fakes.made_pool import CONTRACT_KEY, made_outlet, made_task, signed_update, task_body

from presspool.common.base.canonical_json import canonical_v1
from presspool.common.base.errors import EvidenceError
from presspool.common.pki.keys import SigningKey
from presspool.common.wire.envelope import (
    TASK_TAG,
    UPDATE_TAG,
    Signed,
    TaskHeader,
    UpdateHeader,
    open_task,
    open_update,
    sign_update,
    task_id,
)

BODY = task_body(1)
TASK, SIGNED_TASK = made_task("north-post", BODY)
OUTLET = made_outlet("north-post")
SIGNED_UPDATE = signed_update(TASK, b"body")


def resigned(tag: str, key: SigningKey, body: bytes) -> Signed:
    return Signed(body, key.sign(tag, body))


def test_a_header_that_was_signed_is_read_back() -> None:
    assert open_task(SIGNED_TASK, CONTRACT_KEY.public) == TASK
    update = open_update(SIGNED_UPDATE, OUTLET.update_key)
    assert (update.task, update.nonce, update.bytes) == (TASK.task, TASK.nonce, 4)


def test_a_header_binds_all_that_an_exchange_consists_of() -> None:
    common = {"outlet", "key", "run", "contract", "round", "task", "base", "body", "bytes", "nonce"}
    common |= {"phase"}
    assert {field.name for field in fields(TaskHeader)} == common | {"allowance"}
    assert {field.name for field in fields(UpdateHeader)} == common | {"reserve", "root", "failure"}


def test_a_task_id_depends_on_run_round_phase_and_outlet_and_on_nothing_else() -> None:
    assert task_id("r", 1, 1, "a") == task_id("r", 1, 1, "a")
    assert (
        len(
            {
                task_id("r", 1, 1, "a"),
                task_id("r", 2, 1, "a"),
                task_id("r", 1, 2, "a"),
                task_id("r", 1, 1, "b"),
                task_id("s", 1, 1, "a"),
                task_id("r1", 1, 1, "a"),
            }
        )
        == 6
    )


@pytest.mark.parametrize("position", [0, 40, -1])
def test_a_flipped_bit_anywhere_is_refused(position: int) -> None:
    for which in ("body", "signature"):
        parts = asdict(SIGNED_UPDATE)
        spoiled = bytearray(parts[which])
        spoiled[position] ^= 1
        with pytest.raises(EvidenceError):
            open_update(Signed(**parts | {which: bytes(spoiled)}), OUTLET.update_key)


def test_a_task_s_signature_is_none_of_an_update_and_the_reverse() -> None:
    as_update = resigned(TASK_TAG, OUTLET.update, SIGNED_UPDATE.body)
    with pytest.raises(EvidenceError, match="does not verify"):
        open_update(as_update, OUTLET.update_key)
    as_task = resigned(UPDATE_TAG, CONTRACT_KEY, SIGNED_TASK.body)
    with pytest.raises(EvidenceError, match="does not verify"):
        open_task(as_task, CONTRACT_KEY.public)


def test_a_header_of_another_version_is_refused_by_name() -> None:
    older = {name: value for name, value in GOOD.items() if name != "phase"}
    for version, said in ((1, older), (3, GOOD | {"more": 1})):
        tag = UPDATE_TAG.replace("v2", f"v{version}")
        with pytest.raises(EvidenceError) as caught:
            open_update(resigned(tag, OUTLET.update, rfc8785.dumps(said)), OUTLET.update_key)
        assert (caught.value.where, caught.value.got) == ("header: version", f"version {version}")
        stranger = resigned(tag, SigningKey.generate(), rfc8785.dumps(said))
        with pytest.raises(EvidenceError, match="does not verify"):
            open_update(stranger, OUTLET.update_key)


def test_another_outlet_s_key_signs_nothing_for_this_one() -> None:
    with pytest.raises(EvidenceError, match="does not verify"):
        open_update(SIGNED_UPDATE, made_outlet("south-echo").update_key)
    stranger = SigningKey.generate()
    with pytest.raises(EvidenceError, match="names another key"):
        open_update(resigned(UPDATE_TAG, stranger, SIGNED_UPDATE.body), stranger.public)


GOOD: dict[str, Any] = json.loads(SIGNED_UPDATE.body)


@pytest.mark.parametrize("field", sorted(GOOD))
def test_a_missing_field_is_refused(field: str) -> None:
    body = rfc8785.dumps({name: value for name, value in GOOD.items() if name != field})
    with pytest.raises(EvidenceError, match="not a header"):
        open_update(resigned(UPDATE_TAG, OUTLET.update, body), OUTLET.update_key)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("outlet", "North"),
        ("outlet", "../x"),
        ("outlet", 3),
        ("key", "0" * 15),
        ("run", "a/b"),
        ("run", ""),
        ("run", "x" * 65),
        ("contract", "0" * 64),
        ("round", 0),
        ("round", "1"),
        ("round", 1.0),
        ("round", True),
        ("round", 10_001),
        ("phase", 0),
        ("phase", 17),
        ("phase", True),
        ("task", "0" * 32),
        ("base", None),
        ("body", "sha256:" + "A" * 64),
        ("bytes", -1),
        ("bytes", 2**31),
        ("nonce", ""),
        ("reserve", -1),
        ("reserve", True),
        ("root", "0" * 63),
        ("failure", 0),
        ("failure", 99),
        ("failure", True),
        ("failure", "internal-error"),
        ("failure", 5),
        ("bytes", 0),
    ],
)
def test_a_wrong_value_is_refused(field: str, value: object) -> None:
    body = canonical_v1(GOOD | {field: value})  # which tells 1.0 from 1
    with pytest.raises(EvidenceError):
        open_update(resigned(UPDATE_TAG, OUTLET.update, body), OUTLET.update_key)


@pytest.mark.parametrize(
    "body",
    [
        rfc8785.dumps(GOOD | {"more": 1}),
        json.dumps(GOOD).encode(),
        b"",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 5000,
        rfc8785.dumps(GOOD | {"outlet": "x" * 5000}),
        SIGNED_UPDATE.body[:-1] + b',"bytes":4}',
        b'{"round":NaN}',
    ],
)
def test_bytes_that_are_not_the_one_form_of_a_header_are_refused(body: bytes) -> None:
    with pytest.raises(EvidenceError):
        open_update(resigned(UPDATE_TAG, OUTLET.update, body), OUTLET.update_key)


def test_a_failure_has_no_body() -> None:
    signed = signed_update(TASK, b"", failure=5)
    assert open_update(signed, OUTLET.update_key).failure == 5
    with pytest.raises(EvidenceError, match="failure"):
        signed_update(TASK, b"body", failure=5)
    assert sign_update(open_update(signed, OUTLET.update_key), OUTLET.update) == signed
