"""A sweep whose trials are tasks of a Ray cluster."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.made_runs import write_run

from presspool.common.base.errors import InputError
from presspool.common.runs.run_file import read_run_file
from presspool.simulations.grids.ray_cluster import imported
from presspool.simulations.grids.simulation_grid import Place
from presspool.simulations.sweeps.sweep_file import parse_sweep
from presspool.simulations.sweeps.sweep_request import SweepRequest, checked
from presspool.simulations.sweeps.sweeping import Swept, sweep

pytest.importorskip("ray", reason="pip install 'presspool[ray]'")

LOOPBACK = "127.0.0.1"


@pytest.fixture
def one_node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of one node with two cores."""
    imported(Place(address=f"{LOOPBACK}:1"))
    monkeypatch.setenv("RAY_worker_niceness", "0")
    from ray.cluster_utils import Cluster

    at_term = signal.getsignal(signal.SIGTERM)
    node = {"num_cpus": 2, "include_dashboard": False, "node_ip_address": LOOPBACK}
    made = Cluster(initialize_head=True, head_node_args=node)
    yield made
    made.shutdown()
    signal.signal(signal.SIGTERM, at_term)  # Ray had taken it


def swept(run: Path, out: str, **changes: Any) -> Swept:
    space = {"privacy": {"noise_multiplier": [0.8, 1.6]}, "adapter": {"layers": [1, 99]}}
    request = SweepRequest(
        run=read_run_file(run),
        file=parse_sweep(space, where="sweep.toml"),
        out=run.parent / out,
        deterministic=7,
        **changes,
    )
    return sweep(request, checked(request))


@pytest.mark.soak
def test_tasks_of_a_cluster_make_the_rows_of_processes(
    tmp_path: Path, contract_body: dict[str, Any], one_node: Any
) -> None:
    run = write_run(tmp_path, contract_body)
    found = swept(run, "cluster", ray_address=one_node.address)
    rows = [{**row.flat(), "seconds": 0} for row in found.rows]
    assert rows == [{**row.flat(), "seconds": 0} for row in swept(run, "processes").rows]
    assert [row.state for row in found.rows] == ["complete", "failed"] * 2
    assert one_node.remaining_processes_alive()


def test_an_address_where_no_cluster_answers_is_refused(
    tmp_path: Path, contract_body: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="no Ray cluster answers"):
        swept(write_run(tmp_path, contract_body), "none", ray_address=f"{LOOPBACK}:1")
    assert not (tmp_path / "none").exists()
