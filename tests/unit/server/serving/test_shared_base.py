"""One base model under many adapters: shared in memory, and changed by none."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.served.made_adapters import made_adapter
from torch import nn

from presspool.common.base.errors import FolderError, InputError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.released.adapter_folder import AdapterFolder, read_adapter
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf, FolderSource
from presspool.server.serving.shelf.shared_base import SharedBase


def numbers(model: nn.Module) -> str:
    """Of all parameters and buffers, by their names."""
    hasher = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        hasher.update(name.encode() + value.numpy().tobytes())
    return hasher.hexdigest()


METHODS = ("ffa", "fedit", "dora", "bitfit", "layernorm", "ia3", "bottleneck", "fed-sb", "head")


@pytest.mark.parametrize("method", METHODS)
def test_no_adapter_changes_the_base_or_doubles_it(
    tmp_path: Path, contract: Contract, contract_body: dict[str, Any], method: str
) -> None:
    if method == "head":
        table: dict[str, Any] = {"method": method}
    elif method in ("bitfit", "layernorm", "bottleneck"):
        table = {"method": method}
    else:
        table = {**contract_body["adapter"], "method": method}
    adapted = parse_contract({**contract_body, "adapter": table})
    path = made_adapter(tmp_path / "adapter", adapted, scale=0.5)
    base = SharedBase(contract)
    before = numbers(base._loaded)
    places = {p.data_ptr() for p in base._loaded.parameters()}
    model = base.restored(read_adapter(path))
    assert numbers(base._loaded) == before
    copied = [p for p in model.parameters() if p.data_ptr() not in places]
    shared = sum(p.numel() for p in model.parameters() if p.data_ptr() in places)
    whole = sum(p.numel() for p in base._loaded.encoder.parameters())
    assert shared + sum(p.numel() for p in copied if p.requires_grad) >= whole
    assert any(p.requires_grad for p in copied)


def test_weights_that_change_while_they_are_read_are_not_served(
    tmp_path: Path, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made_adapter(tmp_path / "cup", contract)
    restored = SharedBase.restored

    def meanwhile(self: SharedBase, folder: AdapterFolder) -> nn.Module:
        model = restored(self, folder)
        with (path / "adapter_model.safetensors").open("ab") as stream:
            stream.write(b" ")
        return model

    monkeypatch.setattr(SharedBase, "restored", meanwhile)
    with pytest.raises(FolderError, match="not the weights"):
        AdapterShelf.of([("cup", path)])


@pytest.mark.parametrize("path", ["x" * 300, "..", "nowhere", "\0"])
def test_a_folder_that_is_none_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(InputError, match="no such folder"):
        FolderSource(tmp_path).folder(path)


def test_another_base_model_is_refused_by_name(
    tmp_path: Path, contract: Contract, contract_body: dict[str, Any]
) -> None:
    shelf = AdapterShelf.of([("cup", made_adapter(tmp_path / "cup", contract))])
    folder = read_adapter(tmp_path / "cup")
    pins = {**contract_body["model"], "weights": "sha256:" + "0" * 64}
    other = parse_contract({**contract_body, "model": pins})
    with pytest.raises(InputError, match="another base model"):
        shelf.base.require(other)
    with pytest.raises(InputError, match="the name is taken"):
        shelf.put("cup", folder.path)
    with pytest.raises(InputError, match="no name"):
        shelf.put("no name", folder.path)
    assert [one.name for one in shelf] == ["cup"]
