"""Finished runs with cards, and a registry of them, made by the programs' own writers.

Example: `made = make_registry(tmp_path)`; `one = made.add(made.run())`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.fakes.made_evidence import Desk, made_contract, make_desk
from tests.fakes.served.made_adapters import made_adapter

from presspool.common.audit.cards import card_making, model_card
from presspool.common.audit.evidence import governance, sources
from presspool.common.contract.contract import Contract
from presspool.common.contract.statement import statement
from presspool.common.released.adapter_folder import AdapterManifest
from presspool.common.runs.result_file import read_result, write_result
from presspool.server.registry.adapter_registry import AdapterRegistry, Move
from presspool.server.registry.intake import read_run
from presspool.server.registry.object_store import ObjectStore
from presspool.server.registry.registry_keys import RegistryKeys
from presspool.server.registry.stage_records import Shelved

MOVE = Move(by="A. Editor", reason="weekly run")
OVERRIDE = Move(by="B. Chief", reason="election night", without_gate=True)


def finished(
    folder: Path, number: int = 0, contract: Contract | None = None, *, real: bool = False
) -> Desk:
    """A desk whose run has an adapter's whole folder, with its card; another one each number.

    Its weights are a word, but for a `real` one of a contract on a base that is here.
    """
    desk = make_desk(folder, contract or made_contract(seed=number))
    file, weights = desk.adapter / "adapter_model.safetensors", f"weights of run {number}".encode()
    if real:
        made_adapter(desk.adapter, desk.contract, seed=number)
        weights = file.read_bytes()
    digest = hashlib.sha256(weights).hexdigest()
    file.write_bytes(weights)
    said = statement(desk.contract, adapter=f"sha256:{digest}", reproducible=False)
    result = replace(read_result(desk.run), adapter_sha256=digest, statement=said)
    write_result(desk.run, result)
    manifest = AdapterManifest(
        adapter=f"sha256:{digest}",
        contract_digest=desk.contract.digest,
        pooling="mean",
        statement=said,
        contract=desk.contract.body(),
    )
    (desk.adapter / "presspool.json").write_text(json.dumps(manifest.model_dump(mode="json")))
    write_card(desk)
    return desk


def write_card(desk: Desk, covers: Sequence[str] = ()) -> None:
    """The card and model card of a desk's run."""
    exports = [path for path in desk.exports if not covers or path.stem in covers]
    evidence, fields = sources.read([*exports, desk.run]), governance.read(desk.fields)
    card = card_making.make(evidence.runs[0], evidence.outlets, fields, covers=covers)
    model_card.write(desk.adapter, card, model_card.render(card, fields.card, desk.contract))


def passed(entry: str) -> Move:
    """A move with the report of a gate that lets an entry pass."""
    report = {"format": "presspool-gate/1", "entry": entry, "passed": True, "checks": ["toxicity"]}
    return Move(by="A. Editor", reason="passed", gate=json.dumps(report).encode())


def go_on(_: str) -> None:
    """Nobody watches."""


class WatchedStore(ObjectStore):
    """A store whose writes are told of before and after, to who may pull the plug then."""

    def __init__(self, url: str, step: Callable[[str], None]) -> None:
        super().__init__(url)
        self._step = step

    def create(self, name: str, content: bytes) -> bool:
        self._step(f"before {name}")
        made = super().create(name, content)
        self._step(f"after {name}")
        return made

    def remove(self, name: str) -> None:
        self._step(f"before {name}")
        super().remove(name)
        self._step(f"after {name}")


@dataclass
class MadeRegistry:
    """A registry, its keys and how to fill it."""

    folder: Path
    url: str
    keys: RegistryKeys

    def open(self, step: Callable[[str], None] = go_on) -> AdapterRegistry:
        return AdapterRegistry.open(WatchedStore(self.url, step))

    def run(self, number: int = 0) -> Path:
        """The folder of a finished run, made once."""
        folder = self.folder / f"desk-{number}"
        return folder / "run" if folder.exists() else finished(folder, number).run

    def add(self, number: int = 0, **more: Any) -> Shelved:
        run = read_run(self.run(number), language=None, task=None, ledgers={})
        return self.open(**more).add(run, self.keys, MOVE)

    def promoted(self, number: int = 0) -> Shelved:
        """An adapter of this number, added and moved into production."""
        title = self.add(number).title
        self.promote(title, MOVE)
        return self.promote(title, OVERRIDE)

    def promote(self, which: str, move: Move) -> Shelved:
        opened = self.open()
        return opened.move("promote", opened.shelves.find(which), self.keys, move)


def make_registry(folder: Path, url: str | None = None) -> MadeRegistry:
    """An empty registry in a folder, or at a URL."""
    place = url or str(folder / "registry")
    keys = RegistryKeys.made(folder / "registry-keys", name="newsroom")
    AdapterRegistry.create(ObjectStore(place), keys, name="newsroom")
    return MadeRegistry(folder=folder, url=place, keys=keys)
