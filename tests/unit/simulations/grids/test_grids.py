"""The door of simulations' grids: closed, and another grid is one file and one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.fakes.made_house import made_house
from tests.fakes.made_runs import write_run

from presspool.common.base.errors import ContractError
from presspool.common.runs.run_file import read_run_file
from presspool.simulations.grids import GRIDS
from presspool.simulations.grids.simulation_grid import SimulationGrid
from presspool.simulations.simulate import SimulateOptions, simulate

BACKWARDS = '''"""A grid that asks the last outlet first."""

from presspool.simulations.grids.local_grid import LocalGrid


class Backwards(LocalGrid):
    """Serves the messages from the last to the first; replies keep their order."""

    def send_and_receive(self, messages, *, timeout=None):
        replies = super().send_and_receive(list(messages)[::-1], timeout=timeout)
        return list(replies)[::-1]
'''


def named(folder: Path, body: dict[str, Any], grid: str) -> Path:
    """A run file whose simulation names a grid."""
    path = write_run(folder, body)
    text = path.read_text()
    assert "simulation = { " in text
    path.write_text(text.replace("simulation = { ", f'simulation = {{ "grid" = "{grid}", ', 1))
    return path


def test_every_grid_of_the_list_is_one() -> None:
    assert all(issubclass(GRIDS[name], SimulationGrid) for name in GRIDS.names)


def test_an_unknown_grid_is_refused_before_anything_is_written(
    contract_body: dict[str, Any], tmp_path: Path
) -> None:
    run = read_run_file(named(tmp_path, contract_body, "lokal"))
    with pytest.raises(ContractError, match="did you mean 'local'"):
        simulate(run, SimulateOptions(out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_another_grid_is_one_file_and_one_line(
    contract_body: dict[str, Any], tmp_path: Path
) -> None:
    house = made_house(tmp_path)
    house.add("simulations/grids/backwards.py", BACKWARDS)
    house.register(
        "grid",
        '"backwards": "presspool.simulations.grids.backwards:Backwards",',
        path="simulations/grids/__init__.py",
    )
    runs = []
    for grid in ("local", "backwards"):
        (tmp_path / grid).mkdir()
        runs.append((named(tmp_path / grid, contract_body, grid), tmp_path / grid / "run"))
    house.simulate(*runs, seed=7)
    file = Path("adapter", "adapter_model.safetensors")
    first, second = ((out / file).read_bytes() for _, out in runs)
    assert first == second
