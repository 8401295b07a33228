"""A federation that ranks titles, from its run file to answers about an impression."""

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

EXAMPLE = REPOSITORY / "examples" / "reads.toml"


@pytest.fixture
def presspool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, width=100)


@pytest.fixture
def run(tmp_path: Path, contract_body: dict[str, Any]) -> Path:
    """The example's first readers on the tiny base, without noise."""
    for name in ("reads.csv", "reads_held_out.csv"):
        lines = (EXAMPLE.parent / name).read_text(encoding="utf-8").splitlines()
        few = [line for line in lines[:150] if not line.startswith("old") or "-0000" in line]
        (tmp_path / name).write_text("\n".join(few), encoding="utf-8")
    body = contract_body | {
        "task": {"kind": "recommendation", "history": 2, "candidates": 5, "title_length": 8},
        "adapter": {"method": "head", "layers": 1},
        "outlets": {"oldermoor-courier": 10},
        "federation": contract_body["federation"] | {"quorum": 1},
        "privacy": contract_body["privacy"] | {"noise_multiplier": 0.0, "sampling_rate": 1.0},
        "server": {"name": "adam", "learning_rate": 0.05},
        "simulation": {
            "data": "reads.csv",
            "partition": "column:outlet",
            "workers": 1,
        },
        "evaluation": {"data": "reads_held_out.csv"},
    }
    path = tmp_path / "run.toml"
    path.write_text(toml(body))
    return path


def test_the_example_is_a_whole_contract() -> None:
    contract = read_run_file(EXAMPLE).contract
    assert contract.adapter.method == "head"
    assert contract.task.max_length == 160
    assert contract.privacy.epsilon == 8.0


def test_a_run_is_simulated_reported_and_asked(
    presspool: Command, run: Path, tmp_path: Path
) -> None:
    out, result = simulated_twice(presspool, run, tmp_path)
    before, *_, after = (entry["metrics"] for entry in result["rounds"])
    assert before["auc_cold"] == 0.5  # nothing is known of who has read nothing
    assert after["auc_cold"] != 0.5
    assert set(after) >= {"auc", "mrr", "ndcg_5", "ndcg_10", "auc_known", "loss"}
    assert "nDCG@5" in (out / "report.html").read_text()

    asked = tmp_path / "asked.jsonl"
    asked.write_text('{"history": ["goal"], "candidates": ["new vote", "goal"]}\n')
    said = presspool("predict", out, asked)
    assert said.code == 0, said.err
    document = json.loads(said.out)
    assert document["row"] == 1
    assert sorted(one["title"] for one in document["ranking"]) == ["goal", "new vote"]
    assert sum(one["score"] for one in document["ranking"]) == pytest.approx(1, abs=1e-3)


def test_what_is_not_offered_is_refused_by_name(presspool: Command) -> None:
    with pytest.raises(ContractError, match="task that can be attacked") as caught:
        attacked(read_run_file(EXAMPLE).contract)
    assert caught.value.got == "recommendation"
    data = EXAMPLE.parent / "reads.csv"
    said = presspool("outlet", "check-data", data, "--task", "recommendation")
    assert said.code == 2
    assert "--run" in said.err
