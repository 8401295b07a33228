"""Runs on Ray: the same bytes with any number of actors, and where a node goes and one comes.

Each test starts a Ray or a cluster of three; `make test` samples them, `make soak` runs them all.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import AS_TYPED
from tests.fakes.grids.grid_parts import task_for, wait_until
from tests.fakes.made_runs import checkpointed, simulated_here, write_run

from presspool.common.contract.contract import parse_contract
from presspool.common.models import adapters
from presspool.common.runs.run_file import read_run_file
from presspool.common.wire.update import unpack_update
from presspool.simulations.grids.local_grid import LocalGrid
from presspool.simulations.grids.ray_cluster import imported
from presspool.simulations.grids.ray_grid import RayGrid
from presspool.simulations.grids.simulation_grid import Place
from presspool.simulations.simulate import SimulateOptions, prepare, simulate

pytest.importorskip("ray", reason="pip install 'presspool[ray]'")

Body = dict[str, Any]
SEED = 7
LOOPBACK = "127.0.0.1"


@pytest.fixture(scope="module")
def three(contract_body: Body) -> Body:
    """Three outlets, two rounds."""
    return contract_body | {"outlets": {"north-post": 30, "south-echo": 20, "west-wind": 20}}


@pytest.fixture(scope="module")
def run_toml(tmp_path_factory: pytest.TempPathFactory, three: Body) -> Path:
    folder = tmp_path_factory.mktemp("ray-run")
    return write_run(folder, three, simulation={"grid": "ray"})


@pytest.fixture(scope="module")
def expected(run_toml: Path) -> str:
    """The adapter's digest without Ray."""
    return simulated_here(run_toml, run_toml.parent / "here", deterministic=SEED)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without cores, and two nodes with one each."""
    imported(Place(address=f"{LOOPBACK}:1"))
    monkeypatch.setenv("RAY_worker_niceness", "0")
    from ray.cluster_utils import Cluster

    at_term = signal.getsignal(signal.SIGTERM)
    head = {"num_cpus": 0, "include_dashboard": False, "node_ip_address": LOOPBACK}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, node_ip_address=LOOPBACK, include_dashboard=False)
        yield cluster
    finally:
        cluster.shutdown()
        signal.signal(signal.SIGTERM, at_term)  # Ray had taken it


@pytest.mark.parametrize(
    "actors", [pytest.param(1, marks=pytest.mark.soak), 2, pytest.param(3, marks=pytest.mark.soak)]
)
def test_any_number_of_actors_makes_the_bytes_of_the_local_grid(
    run_toml: Path, expected: str, actors: int
) -> None:
    told: list[None] = []
    options = SimulateOptions(
        out=run_toml.parent / f"actors-{actors}", workers=actors, deterministic=SEED
    )
    simulate(read_run_file(run_toml), options, on_reply=lambda: told.append(None))
    assert checkpointed(options.out) == expected
    assert len(told) == 6


@pytest.mark.soak
def test_the_command_joins_a_cluster_and_leaves_it_running(
    run_toml: Path, expected: str, cluster: Any
) -> None:
    out = run_toml.parent / "joined"
    words = ["simulate", run_toml, "--out", out, "--deterministic", SEED, "--workers", 2]
    words += ["--ray-address", cluster.address]
    done = subprocess.run(
        [*AS_TYPED, *map(str, words)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert checkpointed(out) == expected
    assert cluster.remaining_processes_alive()


@pytest.mark.soak
def test_a_node_goes_in_mid_round_and_another_comes(
    tmp_path: Path, three: Body, cluster: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run = read_run_file(write_run(tmp_path, three))
    outlets = prepare(run, SimulateOptions(out=tmp_path / "out", deterministic=SEED)).outlets
    contract, found = parse_contract(three), list[dict[str, str]]()

    def tasks(grid: Any) -> list[Any]:
        return [task_for(grid, contract, node) for node in grid.get_node_ids()]

    def digests(replies: list[Any]) -> dict[str, str]:
        updates = [unpack_update(reply.content) for reply in replies]
        return {update.outlet: adapters.digest(update.delta) for update in updates}

    with LocalGrid(outlets, workers=0) as local:
        undisturbed = digests(list(local.send_and_receive(tasks(local))))
    with RayGrid(outlets, workers=2, place=Place(address=cluster.address)) as grid:
        ids = list(grid.push_messages(tasks(grid)))
        assert wait_until(lambda: bool(grid._go_on(1)) and len(grid._working) == 2)
        with caplog.at_level(logging.WARNING):
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
            replies = list[Any]()

            def all_there() -> bool:
                replies.extend(grid.pull_messages(ids))
                return len(replies) == 3

            assert wait_until(all_there, seconds=120)
        assert digests(replies) == undisturbed
        assert "it is done again by another" in caplog.text
        assert len(grid._starting) == 1  # for want of a core
        cluster.add_node(num_cpus=1, node_ip_address=LOOPBACK, include_dashboard=False)
        assert wait_until(lambda: bool(grid._go_on(1)) or not grid._starting, seconds=120)
        found.append(digests(list(grid.send_and_receive(tasks(grid)))))
    assert found == [undisturbed]


def of_command(mark: str) -> list[int]:
    """Processes with a mark in their environment, that have not ended."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.soak
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_stop_leaves_no_process(tmp_path: Path, three: Body, sent: signal.Signals) -> None:
    body = three | {"federation": three["federation"] | {"rounds": 200}}
    run = write_run(tmp_path, body, simulation={"grid": "ray"})
    mark = f"PRESSPOOL_TEST={tmp_path}"
    words = ["simulate", str(run), "--out", str(tmp_path / "out"), "--deterministic", "7"]
    with (tmp_path / "log").open("w") as log:
        command = subprocess.Popen(
            [*AS_TYPED, *words],
            env=os.environ | {"PRESSPOOL_TEST": str(tmp_path)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        point = tmp_path / "out" / "checkpoint.safetensors"
        assert wait_until(lambda: point.exists() or command.poll() is not None, seconds=150)
        time.sleep(0.5)
        assert command.poll() is None, (tmp_path / "log").read_text()
        if sent == signal.SIGINT:
            os.killpg(command.pid, sent)  # as a terminal does
        else:
            command.send_signal(sent)
        command.wait(60)
        # A worker that was just being started looks for its Ray for a while.
        assert wait_until(lambda: not of_command(mark), seconds=180)
    finally:
        for pid in of_command(mark):
            os.kill(pid, signal.SIGKILL)
    assert "Traceback" not in (tmp_path / "log").read_text()
