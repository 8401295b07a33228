"""Whole runs in which two of eight outlets lie: what the mean and a robust rule make of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.fakes.instruments.typed import typed
from tests.fakes.made_runs import write_run

from presspool.client import client_app
from presspool.client.release.release import release
from presspool.common.contract.contract import Contract
from presspool.common.models.adapters import State
from presspool.common.runs.run_file import read_run_file
from presspool.common.wire.update import AdapterUpdate
from presspool.simulations.simulate import SimulateOptions, simulate

Body = dict[str, Any]
Seal = Callable[[State], State]
LIARS = ("outlet-7", "outlet-8")


def trained(folder: Path, body: Body) -> np.ndarray[Any, Any]:
    """A run's adapter as one vector; its noise is the same in every run."""
    folder.mkdir()
    run = read_run_file(write_run(folder, body))
    simulate(run, SimulateOptions(out=folder / "run", workers=0, deterministic=1))
    found = load_file(folder / "run" / "adapter" / "adapter_model.safetensors")
    return np.concatenate([found[name].ravel() for name in sorted(found)])


def lying(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two outlets send 1,000 times the opposite, which leaves at the norm cap."""
    right = release

    def released(update: AdapterUpdate, contract: Contract, seal: Seal) -> bytes:
        if update.outlet in LIARS:
            against = {name: -1000 * array for name, array in update.delta.items()}
            update = replace(update, delta=against)
        return right(update, contract, seal)

    monkeypatch.setattr(client_app, "release", released)


@pytest.fixture
def body(contract_body: Body) -> Body:
    return contract_body | {
        "outlets": {f"outlet-{i}": 20 for i in range(1, 9)},
        "federation": {"rounds": 1, "local_steps": 1, "quorum": 7},
    }


@pytest.mark.parametrize("rule", ["trimmed-mean", "median", "krum", "rfa"])
def test_two_liars_move_the_mean_and_no_robust_rule(
    tmp_path: Path, body: Body, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    robust = body | {"federation": body["federation"] | {"robust": rule, "attackers": 2}}
    clean = trained(tmp_path / "clean", body)
    lying(monkeypatch)
    fooled, stood = trained(tmp_path / "mean", body), trained(tmp_path / "robust", robust)
    assert np.linalg.norm(fooled - clean) > 10 * np.linalg.norm(stood - clean)
    said = f"{rule}, which stands 2 of 8 outlets that lie"
    pages = [(tmp_path / name / "run" / "report.html").read_text() for name in ("mean", "robust")]
    assert [said in page for page in pages] == [False, True]


def test_contract_check_says_what_the_rule_stands(
    tmp_path: Path,
    body: Body,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    federation = body["federation"] | {"robust": "median", "attackers": 2}
    run = write_run(tmp_path, body | {"federation": federation})
    code, printed, _ = typed(monkeypatch, capsys)("contract", "check", str(run))
    assert code == 0
    assert "robust = median" in printed
    assert "stands 2 of 8 outlets" in printed
