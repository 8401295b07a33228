"""What tests of simulations' grids share: outlets' settings, tasks, and whether processes live.

Example: `grid.send_and_receive([task_for(grid, contract, node)])`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from flwr.app import Message

from presspool.common.contract.contract import Contract
from presspool.common.models import adapters
from presspool.common.models.models import build
from presspool.common.wire.flower import become_server
from presspool.common.wire.update import TrainTask, pack_task
from presspool.simulations.grids.simulation_grid import SimulationGrid

OUTLETS = ("north-post", "south-echo")


def write_settings(folder: Path, name: str) -> Path:
    data = folder / "data" / f"{name}.parquet"
    path = folder / f"{name}.toml"
    path.write_text(f'name = "{name}"\ndata = "{data}"\ndeterministic = 7\n')
    return path


def task_for(grid: SimulationGrid, contract: Contract, node: int) -> Message:
    task = TrainTask(
        contract=contract.canonical().decode(),
        digest=contract.digest,
        round=1,
        state=adapters.read(build(contract)),
    )
    become_server(run_id=1)
    return grid.create_message(pack_task(task), "train", node, "1")


def wait_until(is_so: Callable[[], bool], *, seconds: float = 200) -> bool:
    """Whether something comes true before a generous deadline."""
    deadline = time.monotonic() + seconds
    while not (now := is_so()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return now


def alive(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
