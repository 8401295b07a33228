"""What headers and `/provenance` say is what statement and card of the very adapter say."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.made_evidence import Desk
from tests.fakes.registry.made_registry import finished
from tests.fakes.served.made_adapters import made_adapter

from presspool.common.base.errors import CardError, FolderError
from presspool.common.contract.contract import Contract
from presspool.common.released.adapter_folder import read_adapter
from presspool.server.serving.shelf.provenance import Provenance


def test_epsilon_is_the_statements(tmp_path: Path, contract: Contract) -> None:
    folder = read_adapter(made_adapter(tmp_path / "cup", contract))
    found = Provenance.read(folder)
    assert f"(ε = {found.headers['x-presspool-epsilon']}, " in folder.statement
    assert f"δ = {found.headers['x-presspool-delta']})" in folder.statement
    assert found.headers["x-presspool-adapter"] == folder.adapter
    assert found.headers["x-presspool-run"] == contract.digest
    assert found.card is None
    assert "x-presspool-ledger-entries" not in found.headers


@pytest.mark.parametrize("words", ["is NOT private: … would be (ε = 1.0, δ = 1e-5)-DP", "is NOT"])
def test_an_unprotected_adapter_has_no_epsilon(words: str) -> None:
    adapter = "sha256:" + "0" * 64
    found = Provenance(
        adapter=adapter, statement=f"Adapter {adapter} {words}", unit="reader", run="", card=None
    )
    assert found.headers["x-presspool-epsilon"] == "none"
    assert "x-presspool-delta" not in found.headers


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b"\xff"])
def test_a_card_that_cannot_be_read_keeps_an_adapter_out(
    tmp_path: Path, contract: Contract, body: bytes
) -> None:
    path = made_adapter(tmp_path / "cup", contract)
    (path / "privacy_card.json").write_bytes(body)
    with pytest.raises(CardError, match=r"privacy card|privacy_card"):
        Provenance.read(read_adapter(path))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A finished run whose adapter has its card."""
    return finished(tmp_path / "desk-0")


def test_card_and_headers_name_the_ledgers_entries(desk: Desk) -> None:
    own = json.loads((desk.adapter / "privacy_card.json").read_text())
    found = Provenance.read(read_adapter(desk.adapter))
    assert found.document["card"] == own
    entries = {n: o["ledger_index"] for n, o in own["governance"]["outlets"].items()}
    assert found.document["ledger_entries"] == entries
    said = found.headers["x-presspool-ledger-entries"]
    assert said == ", ".join(f"{name}={at}" for name, at in sorted(entries.items()))
    outlets = {f"outlet-{n:04d}": {"ledger_index": n} for n in range(500)}
    many = replace(found, card={"governance": {"outlets": outlets}})
    assert many.headers["x-presspool-ledger-entries"] == "500 outlets"
    assert len(many.document["ledger_entries"]) == 500


def test_a_card_of_another_adapter_keeps_an_adapter_out(desk: Desk, tmp_path: Path) -> None:
    other = finished(tmp_path / "desk-1", 1)
    shutil.copy(other.adapter / "privacy_card.json", desk.adapter)
    with pytest.raises(CardError, match="another adapter's"):
        Provenance.read(read_adapter(desk.adapter))


def test_a_card_that_claims_less_or_speaks_for_strangers_keeps_an_adapter_out(desk: Desk) -> None:
    path = desk.adapter / "privacy_card.json"
    body = json.loads(path.read_text())
    spent = body["registry"]["privacy_loss"]["privacy_parameters"]
    path.write_text(json.dumps(body).replace(f'"epsilon": {spent["epsilon"]}', '"epsilon": 0.001'))
    with pytest.raises(CardError, match="false privacy card"):
        Provenance.read(read_adapter(desk.adapter))
    body["outlets_covered"].append("stranger")
    training = body["training"]
    for known in (
        body["governance"]["outlets"],
        training["population"],
        training["expected_batch"],
    ):
        known["stranger"] = next(iter(known.values()))
    path.write_text(json.dumps(body))
    with pytest.raises(CardError, match="another run's"):
        Provenance.read(read_adapter(desk.adapter))


@pytest.mark.parametrize("what", ["ε", "δ", "adapter"])
def test_a_statement_that_was_edited_keeps_an_adapter_out(desk: Desk, what: str) -> None:
    path = desk.adapter / "presspool.json"
    body = json.loads(path.read_text())
    true = Provenance.read(read_adapter(desk.adapter)).headers
    old = {
        "ε": f"(ε = {true['x-presspool-epsilon']},",
        "δ": f"δ = {true['x-presspool-delta']})",
        "adapter": f"Adapter {body['adapter']} is",
    }
    new = {
        "ε": "(ε = 0.001,",
        "δ": "δ = 1e-9)",
        "adapter": f"Adapter sha256:{'0' * 64} is",
    }
    changed = body["statement"].replace(old[what], new[what]) + f" ({body['adapter']})"
    path.write_text(json.dumps({**body, "statement": changed}))
    with pytest.raises(FolderError, match="contract contradicts"):
        Provenance.read(read_adapter(desk.adapter))
