"""From a finished run into use and back, as the newsroom's guide types it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.fakes.registry.made_gate import ROOMY, handed, public_rows, trained
from tests.fakes.registry.made_registry import finished
from tests.journeys.guides import journey
from tests.journeys.people import People

from presspool.common.contract.contract import parse_contract
from presspool.server.registry.adapter_registry import open_registry


def test_the_gate_lets_one_pass_and_names_a_missing_ledger(
    tmp_path: Path, contract_body: dict[str, Any]
) -> None:
    with People(tmp_path, {"editor": ["editor"]}) as people:
        home, desks = people.home("editor"), []
        for number, name in enumerate(("first", "second")):
            contract = parse_contract(contract_body | ROOMY | {"seed": number})
            desks.append(trained(tmp_path / name, contract, seed=number))
            shutil.copytree(desks[-1].run, home / "runs" / name)
        for export, name in zip(desks[0].exports, ("one.export", "other.export"), strict=True):
            shutil.copy2(export, home / name)
        public_rows(home / "public.jsonl", 60)
        shutil.copy2(handed(desks[0]).attack or "", home / "attack.json")
        people.follow(journey("gate"))
        stages = open_registry(str(home / "registry")).shelves.entries.values()
        assert [one.stage for one in stages] == ["production", "candidate"]
        assert not any(one.overrides for one in stages)
        said = json.loads((home / "second.json").read_text())
        missing = {one["check"] for one in said["findings"] if one["verdict"] == "failed"}
        assert {"ledgers", "attack_bound"} <= missing


def test_an_adapter_comes_into_use_and_goes(tmp_path: Path) -> None:
    with People(tmp_path, {"editor": ["editor"]}) as people:
        home = people.home("editor")
        for number, name in enumerate(("first", "second")):
            desk = finished(tmp_path / name, number)
            shutil.copytree(desk.run, home / "runs" / name)
        desk = finished(tmp_path / "exports", 0)
        for export, name in zip(desk.exports, ("one.export", "other.export"), strict=True):
            shutil.copy2(export, home / name)
        people.follow(journey("registry"))
        stages = open_registry(str(home / "registry")).shelves.entries.values()
        assert [one.stage for one in stages] == ["production", "retired"]
        assert len(people.typed) == 13
