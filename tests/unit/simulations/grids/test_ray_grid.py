"""The grid of Ray actors: what it refuses, what it sends, and what dies on it."""

from __future__ import annotations

import logging
import os
import platform
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from tests.fakes.grids.grid_parts import OUTLETS, alive, task_for, wait_until
from tests.fakes.instruments.superlink import LOOPBACK
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_runs import toml, write_run

from presspool import __version__
from presspool.common.base.errors import InputError, PressPoolError
from presspool.common.contract.contract import Contract
from presspool.common.models import adapters
from presspool.common.wire.update import unpack_update
from presspool.simulations.grids import ray_cluster, ray_grid
from presspool.simulations.grids.local_grid import LocalGrid
from presspool.simulations.grids.ray_grid import RayGrid
from presspool.simulations.grids.simulation_grid import Place

pytest.importorskip("ray", reason="pip install 'presspool[ray]'")

Body = dict[str, Any]


@pytest.fixture
def presspool(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return typed(monkeypatch, capsys)


@pytest.fixture(scope="module")
def before() -> set[int]:
    """This process's children before there is a Ray: other tests' pools leave a tracker behind."""
    return children_of(os.getpid())


@pytest.fixture(scope="module")
def grid(outlets: dict[str, Path], before: set[int]) -> Iterator[RayGrid]:
    with RayGrid([outlets[name] for name in OUTLETS], workers=2) as grid:
        yield grid


def actors(grid: RayGrid) -> list[int]:
    """Process ids of its actors, when all are idle."""
    assert wait_until(lambda: bool(grid._go_on(1) or not (grid._starting or grid._working)))
    while grid._starting:
        grid._go_on(1)
    asked = [actor.__ray_call__.remote(lambda _: os.getpid()) for actor in grid._idle]
    found: list[int] = grid._ray.get(asked)
    return found


def digests(replies: list[Message]) -> dict[str, str]:
    updates = [unpack_update(reply.content) for reply in replies]
    return {update.outlet: adapters.digest(update.delta) for update in updates}


def tasks(grid: Any, contract: Contract) -> list[Message]:
    return [task_for(grid, contract, node) for node in grid.get_node_ids()]


def test_a_phase_s_content_is_stored_once(
    grid: RayGrid, contract_here: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[Any] = []
    put = grid._ray.put

    def counted(content: Any) -> Any:
        stored.append(content)
        return put(content)

    content = task_for(grid, contract_here, 2).content
    monkeypatch.setattr(grid._ray, "put", counted)
    nodes = [*grid.get_node_ids()] * 2
    messages = [grid.create_message(content, "train", node, "1") for node in nodes]
    replies = list(grid.send_and_receive(messages))
    assert len(replies) == 4
    assert stored == [content]
    assert all(message.content is content for message in messages)  # the caller's are whole


def test_a_killed_actor_is_replaced_and_its_work_done_again_with_the_same_bytes(
    grid: RayGrid,
    contract_here: Contract,
    outlets: dict[str, Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with LocalGrid([outlets[name] for name in OUTLETS], workers=0) as local:
        expected = digests(list(local.send_and_receive(tasks(local, contract_here))))
    grid.push_messages(tasks(grid, contract_here)[:0])
    before = actors(grid)
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    os.kill(before[1], signal.SIGKILL)
    with caplog.at_level(logging.WARNING):
        assert digests(list(grid.send_and_receive(tasks(grid, contract_here)))) == expected
    assert "it is done again by another" in caplog.text
    assert not set(actors(grid)) & set(before)


def test_work_that_kills_its_actors_is_given_up_with_one_sentence(
    grid: RayGrid, contract_here: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_grid, "MOST_TRIES", 1)
    grid.push_messages([])
    for pid in actors(grid):
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(PressPoolError, match="died 1 times") as caught:
        grid.send_and_receive(tasks(grid, contract_here))
    assert caught.value.exit_code == 1
    assert "--resume" in caught.value.advice


def listening(pids: set[int]) -> set[str]:
    """Addresses, in the kernel's hexadecimal, on which processes listen."""
    handles = set[str]()
    for pid in pids:
        with suppress(OSError):  # it has just ended
            for handle in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):  # or this has just been closed
                    handles.add(str(handle.readlink()))
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    heard = (row for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in handles)
    return {row[1].partition(":")[0] for row in heard}


def children_of(pid: int) -> set[int]:
    found = set[int]()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            child = int(entry.parent.name)
            found |= {child} | children_of(child)
    return found


def test_a_ray_of_its_own_listens_on_the_loopback_and_leaves_nothing(
    grid: RayGrid, before: set[int]
) -> None:
    grid.push_messages([])
    actors(grid)
    here = children_of(os.getpid()) - before
    folder = Path(grid._ray._private.worker._global_node.get_temp_dir_path()).parent
    assert folder.stat().st_mode & 0o77 == 0
    found = listening(here)
    assert found
    assert found <= LOOPBACK
    at_term = signal.getsignal(signal.SIGTERM)
    grid.close()
    assert wait_until(lambda: not any(alive(pid) for pid in here))
    assert not folder.exists()
    assert signal.getsignal(signal.SIGTERM) != at_term  # Ray had taken it


def test_what_a_node_cannot_read_is_named_before_anything_trains(
    contract_here: Contract, outlets: dict[str, Path], tmp_path: Path
) -> None:
    lost = tmp_path / "north-post.toml"
    gone = tmp_path / "gone.parquet"
    lost.write_text(f'name = "north-post"\ndata = "{gone}"\n')
    with RayGrid([lost, outlets["south-echo"]], workers=1) as grid:
        with pytest.raises(InputError, match="north-post has a file") as caught:
            grid.send_and_receive(tasks(grid, contract_here))
        assert caught.value.expected == str(gone)
        assert caught.value.where.startswith("Ray node ")
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("what", ["Python", "PressPool"])
def test_another_version_on_a_node_is_refused(what: str) -> None:
    ours = ray_cluster.NodeFacts(
        node="n",
        python=platform.python_version(),
        presspool=__version__,
        key="1",
        missing={},
        elsewhere=frozenset(),
    )
    ours.require_fit()
    field = {what.lower(): "0.0"}
    with pytest.raises(InputError, match=f"another version of {what}"):
        ray_cluster.NodeFacts(**{**vars(ours), **field}).require_fit()


def on_ray(folder: Path, body: Body, **more: object) -> Path:
    path = write_run(folder, body)
    said = {"data": "data", "grid": "ray", "workers": 1, **more}
    path.write_text(toml({**body, "simulation": said}))
    return path


def refused(presspool: Command, path: Path, *more: str) -> str:
    """The message of what is refused before anything is written."""
    found = presspool("simulate", path, "--out", path.parent / "new", *more)
    assert found.code == 2, found.err
    assert "Traceback" not in found.err
    assert found.err.count("error:") == 1
    assert not (path.parent / "new").exists()
    return found.err


def test_without_ray_the_command_that_installs_it_is_said(
    tmp_path: Path, contract_body: Body, presspool: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    said = refused(presspool, on_ray(tmp_path, contract_body))
    assert "pip install 'presspool[ray]'" in said


@pytest.mark.parametrize("address", ["nowhere", "ray://127.0.0.1:10001", "127.0.0.1:x"])
def test_what_is_no_address_is_refused(
    tmp_path: Path, contract_body: Body, presspool: Command, address: str
) -> None:
    said = refused(presspool, on_ray(tmp_path, contract_body), "--ray-address", address)
    assert "HOST:PORT" in said


def test_an_address_where_no_cluster_answers_is_refused(
    tmp_path: Path, contract_body: Body, presspool: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody listens, and where somebody does who never says a word."""
    monkeypatch.setattr(ray_cluster, "ANSWERS", 1.0)
    run = on_ray(tmp_path, contract_body)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert "no Ray cluster answers there" in refused(presspool, run, "--ray-address", address)
    assert "no Ray cluster answers there" in refused(presspool, run, "--ray-address", address)


def test_more_gpus_than_there_are_are_refused(
    tmp_path: Path, contract_body: Body, presspool: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_grid, "gpus_here", lambda: 1)
    run = on_ray(tmp_path, contract_body, gpus_per_worker=0.5, workers=2)
    said = refused(presspool, run, "--workers", "3")
    assert "at most 1 for 3 workers together" in said
    ray_cluster.require_gpus(1, Place(gpus=0.5), workers=2)
    said = refused(presspool, on_ray(tmp_path, contract_body, gpus_per_worker=1.5))
    assert "gpus_per_worker" in said


@pytest.mark.parametrize(
    ("key", "more"), [({}, ["--ray-address", "a:1"]), ({"gpus_per_worker": 1}, [])]
)
def test_the_local_grid_has_no_cluster_and_counts_no_gpus(
    tmp_path: Path, contract_body: Body, presspool: Command, key: Body, more: list[str]
) -> None:
    path = on_ray(tmp_path, contract_body, grid="local", **key)
    assert 'say grid = "ray"' in refused(presspool, path, *more)
