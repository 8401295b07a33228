"""Runs on Ray: the same bytes with any number of actors, and where a node goes and one comes.

Each test starts a Ray or a cluster of three; `make test` samples them, `make soak` runs them all.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import AS_TYPED
from tests.fakes.grids.grid_parts import task_for, wait_until
from tests.fakes.made_runs import checkpointed, simulated_here, write_run

from presspool.common.base.errors import InputError
from presspool.common.contract.contract import parse_contract
from presspool.common.models import adapters
from presspool.common.runs.run_file import read_run_file
from presspool.common.wire.update import unpack_update
from presspool.simulations.grids import ray_cluster
from presspool.simulations.grids.local_grid import LocalGrid
from presspool.simulations.grids.ray_cluster import imported
from presspool.simulations.grids.ray_grid import RayGrid
from presspool.simulations.grids.simulation_grid import Check, Place
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
def test_a_run_joins_its_cluster_once(
    run_toml: Path, expected: str, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[Any] = []
    connect = ray_cluster._connect

    def counted(ray: Any, place: Place, *more: Any) -> None:
        joined.append(place)
        connect(ray, place, *more)

    monkeypatch.setattr(ray_cluster, "_connect", counted)
    out = run_toml.parent / "once"
    options = SimulateOptions(
        out=out, workers=2, deterministic=SEED, ray_address=str(cluster.address)
    )
    simulate(read_run_file(run_toml), options)
    assert checkpointed(out) == expected
    assert len(joined) == 1


@pytest.mark.soak
def test_what_a_node_cannot_read_is_refused_and_nothing_stays(
    tmp_path: Path, three: Body, cluster: Any
) -> None:
    """All nodes are on one machine, so the file goes just before they look for it."""
    run, out = read_run_file(write_run(tmp_path, three)), tmp_path / "deep" / "out"
    gone = tmp_path / "data" / "west-wind.parquet"
    with RayGrid.at(Place(address=cluster.address), workers=2) as there:

        def look(outlets: Sequence[Path], check: Check) -> None:
            gone.unlink()
            RayGrid.look(there, outlets, check)

        with pytest.raises(InputError, match="west-wind has a file") as caught:
            prepare(run, SimulateOptions(out=out), look=look)
    assert caught.value.where.startswith("Ray node ")
    assert caught.value.expected == str(gone)
    assert not out.parent.exists()


@pytest.fixture
def homes(tmp_path: Path, run_toml: Path, cluster: Any) -> dict[str, Path]:
    """Two more nodes, each with records under a home folder of its own, which no other has."""
    own = {"left": ["north-post", "west-wind"], "right": ["south-echo", "west-wind"]}
    for node, names in own.items():
        (tmp_path / node).mkdir()
        for name in names:
            shutil.copy(run_toml.parent / "data" / f"{name}.parquet", tmp_path / node)
    for old in list(cluster.worker_nodes):
        cluster.remove_node(old)
    for node in own:
        cluster.add_node(
            num_cpus=1,
            node_ip_address=LOOPBACK,
            include_dashboard=False,
            env_vars={"HOME": str(tmp_path / node)},
        )
    return {node: tmp_path / node for node in own}


@pytest.mark.soak
@pytest.mark.parametrize("workers", [1, 2])
def test_records_are_read_on_the_node_that_has_them(
    tmp_path: Path, run_toml: Path, expected: str, cluster: Any, homes: Any, workers: int
) -> None:
    run = read_run_file(elsewhere(run_toml))
    options = SimulateOptions(
        out=tmp_path / "out", workers=workers, deterministic=SEED, ray_address=cluster.address
    )
    simulate(run, options)
    assert checkpointed(options.out) == expected
    assert not list(options.out.rglob("*.parquet"))


@pytest.mark.soak
def test_records_that_no_node_reaches_or_that_are_too_few_are_refused_by_name(
    tmp_path: Path, run_toml: Path, cluster: Any, homes: dict[str, Path]
) -> None:
    run, out = read_run_file(elsewhere(run_toml)), tmp_path / "deep" / "out"
    options = SimulateOptions(out=out, workers=2, ray_address=cluster.address)
    echo, wind = (homes["right"] / f"{name}.parquet" for name in ("south-echo", "west-wind"))
    shutil.copy(echo, homes["left"] / "north-post.parquet")
    with pytest.raises(InputError, match="north-post cannot be trained") as caught:
        simulate(run, options)
    assert "at least 30 readers" in str(caught.value)
    echo.unlink()
    with pytest.raises(InputError, match="no node reaches the records of south-echo"):
        simulate(run, options)
    assert wind.exists()
    assert not out.parent.exists()


def elsewhere(run_toml: Path) -> Path:
    """The run, with records where each node's home is."""
    found = run_toml.with_name("elsewhere.toml")
    text = run_toml.read_text().replace('"data" = "data"', '"data" = "file://~/{outlet}.parquet"')
    found.write_text(text)
    return found


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
