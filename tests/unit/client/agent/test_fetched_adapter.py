"""The privacy card that comes with a fetched adapter: its own, or none."""

from __future__ import annotations

import json
from functools import reduce
from pathlib import Path

import pytest
from tests.fakes.made_evidence import make_desk

from presspool.client.agent.fetched_adapter import folder_of
from presspool.common.audit.cards import card_making
from presspool.common.audit.cards.card_reading import card_beside, read_card
from presspool.common.audit.cards.model_card import CARD_FILE
from presspool.common.audit.evidence import governance, sources
from presspool.common.base.errors import CardError


def test_a_card_is_believed_of_its_own_adapter_only(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    evidence = sources.read([*desk.exports, desk.run])
    made = card_making.make(
        evidence.runs[0], evidence.outlets, governance.read(desk.fields), covers=()
    )
    data, weights = made.model_dump_json().encode(), made.governance.hashes.adapter
    assert read_card(data, weights, desk.contract) == made
    with pytest.raises(CardError, match="another adapter's privacy card"):
        read_card(data, "sha256:" + "0" * 64, desk.contract)
    for damaged in (b"", b"[]", b"{", b"\xff", data[:-1], b"[" * 100_000):
        with pytest.raises(CardError):
            read_card(damaged, weights, desk.contract)
    assert card_beside(tmp_path, weights, desk.contract) is None
    (tmp_path / CARD_FILE).write_bytes(data)
    assert card_beside(tmp_path, weights, desk.contract) == made


@pytest.mark.parametrize(
    ("field", "lie"),
    [
        ("governance.hashes.contract", "sha256:" + "0" * 64),
        ("registry.privacy_loss.privacy_parameters.epsilon", 0.1),
        ("registry.privacy_loss.privacy_parameters.delta", 1e-12),
        ("training.noise_multiplier", 99.0),
        ("statement", "{} is perfectly private."),
    ],
)
def test_a_coordinators_card_that_claims_another_privacy_is_refused(
    tmp_path: Path, field: str, lie: object
) -> None:
    desk = make_desk(tmp_path)
    evidence = sources.read([*desk.exports, desk.run])
    fields = governance.read(desk.fields)
    made = card_making.make(evidence.runs[0], evidence.outlets, fields, covers=())
    body, weights = made.model_dump(mode="json"), made.governance.hashes.adapter
    *path, last = field.split(".")
    reduce(lambda part, key: part[key], path, body)[last] = (
        lie.format(weights) if isinstance(lie, str) else lie
    )
    with pytest.raises(CardError, match=r"another run's|a false") as caught:
        read_card(json.dumps(body).encode(), weights, desk.contract)
    assert caught.value.fields[0] in (field, "training")


def test_the_folders_name_comes_from_the_contract(tmp_path: Path) -> None:
    contract = make_desk(tmp_path).contract
    found = folder_of(tmp_path, contract)
    assert found.parent == tmp_path / "adapters"
    assert found.name == f"{contract.name}-{contract.digest[7:19]}"
