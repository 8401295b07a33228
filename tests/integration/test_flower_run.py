"""The same two apps under `flwr run`, on Flower's own simulation engine: the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fakes.instruments.superlink import APP, LOOPBACK, SIMULATION, SuperLink
from tests.fakes.made_runs import write_run

from presspool.common.runs.result_file import read_result
from presspool.common.runs.run_file import read_run_file
from presspool.server.rounds.server_app import serve
from presspool.simulations.grids.local_grid import LocalGrid
from presspool.simulations.simulate import SimulateOptions, prepare

ENGINE = "num-supernodes=2 client-resources-num-cpus=1 init-args-num-cpus=1"


@pytest.fixture
def superlink(tmp_path: Path) -> Iterator[SuperLink]:
    pytest.importorskip("ray", reason="Flower's engine needs Ray: pip install 'flwr[simulation]'")
    link = SuperLink(tmp_path / "flower", SIMULATION)
    try:
        yield link
    finally:
        left = link.stop()
    assert left == []


def adapter(folder: Path) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def test_flwr_run_makes_the_bytes_of_the_local_grid(
    tmp_path: Path, contract_body: dict[str, Any], superlink: SuperLink
) -> None:
    run = read_run_file(write_run(tmp_path, contract_body))
    here, there = (
        prepare(run, SimulateOptions(out=tmp_path / "runs" / name, deterministic=7)).folder
        for name in ("local-grid", "flower")
    )
    torch.set_num_threads(1)
    outlets = [here.outlets / f"{name}.toml" for name in contract_body["outlets"]]
    with LocalGrid(outlets, workers=0) as grid:
        expected = serve(grid, here)

    streamed = superlink.run(
        "--federation-config", ENGINE, run_folder=there.path, outlets_folder=there.outlets
    )
    assert there.adapter.exists(), streamed
    assert adapter(there.path) == adapter(here.path)
    result = read_result(there.path)
    assert result.status == "complete"
    assert result.statement == expected.statement
    for one, other in zip(result.rounds, expected.rounds, strict=True):
        assert (one.outlets, one.refused) == (other.outlets, other.refused)
        assert (one.metrics, one.bytes_up, one.bytes_down) == (
            other.metrics,
            other.bytes_up,
            other.bytes_down,
        )
    assert superlink.listened
    assert superlink.listened <= LOOPBACK


def test_the_flower_app_holds_no_code() -> None:
    """A module of the bundle would win over the outlet's installed one of the same name."""
    assert sorted(path.name for path in APP.iterdir()) == ["README.md", "pyproject.toml"]
