"""A federation that says who will click, from its run file to answers about a showing."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import REPOSITORY
from tests.fakes.instruments.typed import Command, simulated_twice, typed
from tests.fakes.made_runs import toml

import presspool
from presspool.common.base.errors import ContractError, DataError
from presspool.common.runs.run_file import read_run_file
from presspool.simulations.attack.tasks.attacked_task import attacked

EXAMPLE = REPOSITORY / "examples" / "ads.toml"


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, width=100)


@pytest.fixture
def run(tmp_path: Path, contract_body: dict[str, Any]) -> Path:
    """The example's first readers on the tiny base, without noise."""
    for name, most in (("ads.csv", 60), ("ads_held_out.csv", 40)):
        lines = (EXAMPLE.parent / name).read_text(encoding="utf-8").splitlines()
        (tmp_path / name).write_text("\n".join(lines[: most + 1]), encoding="utf-8")
    with (tmp_path / "ads.csv").open(encoding="utf-8", newline="") as stream:
        readers = len({row["reader"] for row in csv.DictReader(stream)})
    table = read_run_file(EXAMPLE).contract.body()["task"]
    body = contract_body | {
        "task": table | {"max_length": 8},
        "adapter": {"method": "head", "layers": 1},
        "outlets": {"oldermoor-courier": readers},
        "federation": contract_body["federation"] | {"quorum": 1},
        "privacy": contract_body["privacy"] | {"noise_multiplier": 0.0, "sampling_rate": 1.0},
        "server": {"name": "adam", "learning_rate": 0.3},
        "simulation": {"data": "ads.csv", "partition": "column:outlet", "workers": 1},
        "evaluation": {"data": "ads_held_out.csv"},
    }
    path = tmp_path / "run.toml"
    path.write_text(toml(body))
    return path


def test_the_example_is_a_whole_contract() -> None:
    contract = read_run_file(EXAMPLE).contract
    assert contract.adapter.method == "head"
    assert contract.privacy.epsilon == 8.0
    assert contract.body()["task"]["kept_unclicked"] == 0.2


def test_a_run_is_simulated_reported_and_asked(typing: Command, run: Path, tmp_path: Path) -> None:
    out, result = simulated_twice(typing, run, tmp_path)
    before, *_, after = (entry["metrics"] for entry in result["rounds"])
    # At the start a click is w/(1 + w) likely, everywhere.
    with (tmp_path / "ads_held_out.csv").open(encoding="utf-8", newline="") as stream:
        clicked = [int(row["clicked"]) for row in csv.DictReader(stream)]
    rate, chance = sum(clicked) / len(clicked), 0.2 / 1.2
    assert before["auc"] == 0.5
    nats = -rate * math.log(chance) - (1 - rate) * math.log(1 - chance)
    assert before["loss"] == pytest.approx(nats, abs=1e-6)
    assert before["ece"] == pytest.approx(abs(rate - chance), abs=1e-6)
    assert set(after) == {"auc", "normalised_entropy", "loss", "ece"}
    assert after["loss"] != before["loss"]
    page = (out / "report.html").read_text()
    assert "How likely, and how often it happened" in page
    assert f"It happened in {sum(clicked) / len(clicked):.1%} of 40 public" in page
    assert "Label by label" not in page
    told = (out / "adapter" / "README.md").read_text()
    assert "for a file with the columns text, section, device, hour." in told
    assert "adapter.predict" not in told

    asked = tmp_path / "asked.jsonl"
    row = {"text": "Last tickets \U0001f3c6", "section": "sport", "device": "phone", "hour": "noon"}
    asked.write_text(f"{json.dumps(row)}\n")
    said = typing("predict", out, asked)
    assert said.code == 0, said.err
    document = json.loads(said.out)
    assert document["row"] == 1
    assert 0 < document["probability"] < 1

    asked.write_text(f"{json.dumps(row)}\n{json.dumps(row | {'device': 'my own words'})}\n")
    said = typing("predict", out, asked)
    assert said.code == 2
    assert "unknown category of device" in said.err
    assert "record 2" in said.err
    assert "my own words" not in said.err
    with pytest.raises(DataError, match="no section"):
        presspool.load(out).predict(["a text alone"])


def test_what_is_not_offered_is_refused_by_name(typing: Command) -> None:
    with pytest.raises(ContractError, match="task that can be attacked") as caught:
        attacked(read_run_file(EXAMPLE).contract)
    assert caught.value.got == "ad-response"
    data = EXAMPLE.parent / "ads.csv"
    said = typing("outlet", "check-data", data, "--task", "ad-response")
    assert said.code == 2
    assert "--run" in said.err
    assert typing("outlet", "check-data", data, "--run", EXAMPLE).code == 0
