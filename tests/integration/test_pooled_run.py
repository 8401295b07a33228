"""Whole runs whose outlets share their noise, on one machine: what is trained, charged and said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_runs import write_run

from presspool.common.accounting import events, filter, pooled
from presspool.common.accounting.pooled_plan import of_contract
from presspool.common.contract.contract import Contract
from presspool.common.ledger import entries
from presspool.common.ledger.recompute import recompute
from presspool.common.runs.result_file import read_result
from presspool.common.runs.run_file import read_run_file
from presspool.common.runs.run_folder import RunFolder
from presspool.simulations.simulate import SimulateOptions, simulate

Body = dict[str, Any]


@pytest.fixture
def presspool(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """A function that runs a command and gives exit code, output and messages."""
    return typed(monkeypatch, capsys)


@pytest.fixture
def pooled_body(contract_body: Body) -> Body:
    """Four outlets, three steps, both LoRA factors; one outlet may collude."""
    privacy = {k: v for k, v in contract_body["privacy"].items() if k != "noise_multiplier"}
    return contract_body | {
        "adapter": contract_body["adapter"] | {"method": "fedit"},
        "federation": {"trust": "pooled", "rounds": 3, "local_steps": 1},
        "outlets": {"east-star": 25, "north-post": 30, "south-echo": 20, "west-sun": 25},
        "privacy": privacy | {"epsilon": 6.0},
        "pooled": {"colluders": 1, "dropouts": 0},
        "server": {"name": "adam", "learning_rate": 0.05},
    }


def ran(path: Path, out: Path, **changes: Any) -> Path:
    """A whole run on a grid without worker processes."""
    torch.set_num_threads(1)
    simulate(read_run_file(path), SimulateOptions(out=out, workers=0, **changes))
    return out


def test_a_pooled_run_from_run_file_to_card(tmp_path: Path, pooled_body: Body) -> None:
    out = ran(write_run(tmp_path, pooled_body), tmp_path / "x", ledgers=True)
    contract, result = RunFolder(out).read_contract(), read_result(out)
    print(result.statement)
    print(contract.body())
    print(result.pooled, result.epsilon, result.worst_case)
    for path in (out / "ledgers").iterdir():
        with path.open("rb") as s:
            f = recompute(s)
        print(f.failures, f.sentence, f.runs)
    assert 0
