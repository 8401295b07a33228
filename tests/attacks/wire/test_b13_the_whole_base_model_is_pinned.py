"""B.13: every file of the base model is pinned, and what a contract calls it is never looked up.

A coordinator that says "these weights" and means another model (one layer, other tokens, code from
elsewhere) is refused, or its name is ignored; nothing is asked of a hub that the policy does not
name.
"""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from tests.fakes.instruments.detectors import (
    Bench,
    ask,
    check_failure,
    task_of,
    write_data,
    write_outlet,
)
from tests.fakes.made_outlets import RealOutlet, make_real

from presspool.client import client_app
from presspool.common.base.errors import ModelError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.models import models
from presspool.common.runs.run_file import freeze
from presspool.common.wire.update import pack_task, unpack_update

Body = dict[str, Any]


@pytest.fixture
def folder(tiny_base: Path, tmp_path: Path) -> Path:
    """The outlet's own copy of the base model."""
    return Path(shutil.copytree(tiny_base, tmp_path / "base"))


@pytest.fixture
def offer(folder: Path, contract_body: Body) -> Contract:
    """A contract that the outlet's policy takes."""
    return freeze(parse_contract(contract_body | {"model": {"id": str(folder)}}))


@pytest.fixture
def bench(offer: Contract, tmp_path: Path) -> Bench:
    return Bench.of(offer, tmp_path)


@pytest.fixture
def outlet(bench: Bench, offer: Contract) -> RealOutlet:
    return make_real(write_outlet(bench, write_data(bench, bench.readers)), offer)


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was asked of the hub, and no network behind it; nothing is left of other tests."""
    said: list[str] = []

    def snapshot(id: str, **options: Any) -> str:
        if not options.get("local_files_only"):
            said.append(id)
        raise OSError("no hub here")

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    client_app._proved.cache_clear()
    models.tokenizer.cache_clear()
    yield said
    client_app._proved.cache_clear()
    models.tokenizer.cache_clear()


def changed(file: Path, **values: Any) -> None:
    body = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps(body | values), encoding="utf-8")


def said(outlet: RealOutlet, bench: Bench, contract: Contract) -> Any:
    words = contract.canonical().decode()
    return ask(outlet.settings, pack_task(task_of(bench, contract=words, digest=contract.digest)))


@pytest.mark.parametrize("name", ["folder", "attacker/forty-gigabytes"])
def test_the_name_in_a_contract_is_no_address(
    name: str, folder: Path, bench: Bench, offer: Contract, outlet: RealOutlet, asked: list[str]
) -> None:
    if name == "folder":  # the same weights with half of the layers
        name = str(shutil.copytree(folder, folder.with_name("half")))
        changed(Path(name) / "config.json", num_hidden_layers=1)
    reply = said(outlet, bench, offer.replace(model={"id": name}))
    assert reply.has_content(), reply
    assert set(unpack_update(reply.content).delta) == set(bench.state)  # of both layers
    assert asked == []


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", {"num_hidden_layers": 1}),
        ("config.json", {"hidden_act": "relu"}),
        ("tokenizer_config.json", {"do_lower_case": True}),
        ("tokenizer_config.json", {"pad_token": "the"}),
        ("special_tokens_map.json", {"pad_token": "the"}),
        ("added_tokens.json", {"the": 0}),
        ("generation_config.json", {"bos_token_id": 1}),
    ],
)
def test_a_changed_file_of_the_outlets_own_is_refused_before_anything_is_paid(
    file: str,
    change: Body,
    folder: Path,
    bench: Bench,
    offer: Contract,
    outlet: RealOutlet,
    asked: list[str],
) -> None:
    changed(folder / file, **change)
    check_failure(said(outlet, bench, offer), "model-unavailable")
    assert "reserve" not in outlet.kinds()
    assert asked == []


def test_files_beside_the_pinned_ones_are_never_looked_at(
    folder: Path, bench: Bench, offer: Contract, outlet: RealOutlet, asked: list[str]
) -> None:
    changed(
        folder / "adapter_config.json", base_model_name_or_path="attacker/other", peft_type="LORA"
    )
    (folder / "modeling_other.py").write_text("raise SystemExit('code of the base model ran')")
    assert freeze(offer).digest == offer.digest
    assert said(outlet, bench, offer).has_content()
    assert asked == []


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("config.json", {"auto_map": {"AutoModel": "attacker/other--modeling.Model"}}),
        ("tokenizer_config.json", {"auto_map": {"AutoModel": "attacker/other--modeling.Model"}}),
        ("config.json", {"attn_implementation": "attacker/kernel"}),
        ("config.json", {"_attn_implementation": "flash_attention_2"}),
        ("config.json", {"text_config": {"attn_implementation": {"": "attacker/kernel"}}}),
    ],
)
def test_a_base_model_with_code_of_its_own_is_refused_by_everybody(
    file: str, named: dict[str, Any], folder: Path, offer: Contract
) -> None:
    """Transformers fetches and runs the hub's kernels where the package kernels is installed."""
    changed(folder / file, **named)
    with pytest.raises(ModelError, match="brings its own code"):
        freeze(offer.replace(model={"id": str(folder), "manifest": None}))


def test_a_contract_that_does_not_pin_all_of_it_is_refused(
    bench: Bench, offer: Contract, outlet: RealOutlet, asked: list[str]
) -> None:
    body = offer.body()
    body["model"] = {key: body["model"][key] for key in ("id", "weights", "tokenizer")}
    check_failure(said(outlet, bench, parse_contract(body)), "policy-base-model")
    assert outlet.kinds()[-1] == "refusal"
    assert asked == []
