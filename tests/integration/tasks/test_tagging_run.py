"""A federation that finds named entities, from its run file to answers about a text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import REPOSITORY
from tests.fakes.instruments.typed import Command, simulated_twice, typed
from tests.fakes.made_runs import toml

from presspool.common.base.errors import ContractError
from presspool.common.runs.run_file import read_run_file
from presspool.simulations.attack.tasks.attacked_task import attacked

EXAMPLE = REPOSITORY / "examples" / "entities.toml"


@pytest.fixture
def presspool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, width=100)


@pytest.fixture
def run(tmp_path: Path, contract_body: dict[str, Any]) -> Path:
    """The example's data on the tiny base, without noise."""
    task = read_run_file(EXAMPLE).contract.body()["task"]
    body = contract_body | {
        "task": task,
        "outlets": {"oldermoor-courier": 60, "brackwell-herald": 60, "fennport-gazette": 60},
        "privacy": contract_body["privacy"] | {"noise_multiplier": 0.0, "sampling_rate": 1.0},
        "server": {"name": "adam", "learning_rate": 0.1},
        "simulation": {
            "data": str(EXAMPLE.parent / "entities.csv"),
            "partition": "column:outlet",
            "workers": 1,
        },
        "evaluation": {"data": str(EXAMPLE.parent / "entities_held_out.csv")},
    }
    path = tmp_path / "run.toml"
    path.write_text(toml(body))
    return path


def test_the_example_is_a_whole_contract() -> None:
    contract = read_run_file(EXAMPLE).contract
    assert contract.adapter.method == "head"
    assert contract.server.name == "adam"
    assert contract.privacy.epsilon == 8.0


def test_a_run_is_simulated_reported_and_asked(
    presspool: Command, run: Path, tmp_path: Path
) -> None:
    out, result = simulated_twice(presspool, run, tmp_path)
    before, *_, after = (entry["metrics"] for entry in result["rounds"])
    assert after["loss"] < before["loss"]
    assert set(after) >= {"f1", "precision", "recall", "f1_PER", "f1_LOC", "f1_ORG"}
    assert "Entity F1" in (out / "report.html").read_text()

    asked = tmp_path / "asked.csv"
    asked.write_text("title\nPia Norvane meets Moor Bank.\n")
    said = presspool("predict", out, asked, "--column", "title")
    assert said.code == 0, said.err
    document = json.loads(said.out)
    assert document["row"] == 1
    for entity in document["entities"]:
        assert entity["text"] == "Pia Norvane meets Moor Bank."[entity["start"] : entity["end"]]
    said = presspool("predict", out, asked, "--column", "title", "--format", "csv")
    assert said.out.splitlines()[0] == "row,entities"
    assert said.code == 0, said.err


def test_what_is_not_offered_is_refused_by_name(presspool: Command) -> None:
    with pytest.raises(ContractError, match="task that can be attacked") as caught:
        attacked(read_run_file(EXAMPLE).contract)
    assert caught.value.got == "tagging"
    data = EXAMPLE.parent / "entities.csv"
    said = presspool("outlet", "check-data", data, "--task", "tagging")
    assert said.code == 2
    assert "--run" in said.err
