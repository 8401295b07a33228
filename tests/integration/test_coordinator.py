"""The coordinator as its operator runs it: started, given runs, looked at, killed, stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from click.testing import Result
from flwr.app import Context, Message, RecordDict
from tests.made_pools import Pool
from tests.made_runs import write_run
from typer.testing import CliRunner

from presspool.cli import app as cli
from presspool.client.app import app
from presspool.client.identity import Identity
from presspool.client.link import Link
from presspool.client.node import Backoff, Node
from presspool.client.spool import Spool
from presspool.common.contract import Contract
from presspool.common.run_folder import RunFolder, Setup
from presspool.common.tls import channel
from presspool.server.rounds import run
from presspool.simulations.local_grid import LocalGrid

WAIT = 120.0  # seconds after which a test gives up
OUTLETS = ("north-post", "south-echo")
_one_at_a_time = threading.Lock()  # the app's model is the process's


def presspool(*args: object) -> Result:
    """A command, in this process."""
    return CliRunner().invoke(cli, ["coordinator", *map(str, args)])


def said(*args: object) -> Any:
    """A command's JSON."""
    done = presspool(*args, "--json")
    assert done.exception is None, done.exception
    return json.loads(done.stdout)


@contextmanager
def started(home: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "presspool.cli", "coordinator", "start", "--home", str(home)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "500"}
    with log.open("ab") as stream:
        process = subprocess.Popen([*command, "--phase", "100"], stderr=stream, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait(WAIT)


def eventually(what: Callable[[], bool], log: Path) -> None:
    until = time.monotonic() + WAIT
    while not what():
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)


def settings_file(folder: Path, name: str) -> Path:
    path = folder / f"{name}.toml"
    data = folder / "run" / "data" / f"{name}.parquet"
    path.write_text(f'name = "{name}"\ndata = "{data}"\ndeterministic = 7\n')
    return path


def trainer(settings: Path) -> Callable[[Message], Message]:
    def train(message: Message) -> Message:
        context = Context(
            run_id=1, node_id=2, node_config={"outlet-config": str(settings)}, state=RecordDict(),
            run_config={},
        )  # fmt: skip
        with _one_at_a_time:
            return app(message, context)

    return train


@contextmanager
def outlets_at_work(folder: Path, identities: list[Identity]) -> Iterator[None]:
    nodes, threads = [], []
    with ExitStack() as stack:
        for who in identities:
            spool = stack.enter_context(Spool.open(who.home / "work"))
            dial = lambda who=who: channel(who.address, who.credential, root=who.root)  # noqa: E731
            nodes.append(
                Node(
                    identity=who, spool=spool, link=Link(who.address, dial),
                    trainer=trainer(folder / f"{who.name}.toml"),
                    position=lambda _: (0, "0" * 64), backoff=Backoff(first=0.1, most=0.5),
                )
            )  # fmt: skip
        for node in nodes:
            threads.append(threading.Thread(target=node.run))
            threads[-1].start()
        try:
            yield
        finally:
            for node in nodes:
                node.stop()
            for thread in threads:
                thread.join(WAIT)


def test_a_submitted_run_goes_on_after_a_kill_and_ends_with_the_bytes_of_a_simulation(
    tmp_path: Path, contract: Contract, contract_body: dict[str, Any]
) -> None:
    torch.set_num_threads(1)
    home, log = tmp_path / "coordinator", tmp_path / "log"
    with Pool.started(tmp_path) as pool:
        members = [pool.join(pool.invite(name), tmp_path / f"home of {name}") for name in OUTLETS]
    run_toml = write_run(tmp_path / "run", contract_body)
    settings = [settings_file(tmp_path, name) for name in OUTLETS]
    here = RunFolder(tmp_path / "here")
    with here.claim(contract, Setup(), resume=False):
        pass
    with LocalGrid(settings, workers=0) as grid:
        run(grid, here)

    queued = said("submit", run_toml, "--home", home)
    again = presspool("submit", run_toml, "--home", home)
    assert "submitted before" in str(again.exception)
    folder = RunFolder(Path(queued["folder"]))
    with started(home, log):
        eventually(lambda: "run test-" in log.read_text(), log)
        second = presspool("start", "--home", home)
        assert "another process" in str(second.exception)
        with outlets_at_work(tmp_path, members):
            eventually(folder.checkpoint.exists, log)
    # Killed in or after round 2; nobody serves now.
    assert said("status", "--home", home)["serving"] is False
    with started(home, log) as process, outlets_at_work(tmp_path, members):
        eventually(lambda: "is complete" in log.read_text(), log)
        seen = said("status", "--home", home)
        assert seen["serving"] is True
        (row,) = seen["runs"]
        assert (row["run"], row["state"], row["round"]) == (queued["run"], "complete", 2)
        assert presspool("stop", "--home", home).stdout == "stopped\n"
        assert process.wait(WAIT) == 0
    file = "adapter_model.safetensors"
    assert (folder.adapter / file).read_bytes() == (here.adapter / file).read_bytes()
    assert presspool("stop", "--home", home).stdout == "nothing was serving\n"


def test_status_says_who_is_late_and_a_failed_run_says_why_and_goes_on_when_submitted_again(
    tmp_path: Path, contract_body: dict[str, Any]
) -> None:
    home, log = tmp_path / "coordinator", tmp_path / "log"
    with Pool.started(tmp_path) as pool:
        for name in OUTLETS:
            pool.join(pool.invite(name), tmp_path / f"home of {name}")
    run_toml = write_run(tmp_path / "run", contract_body)
    said("submit", run_toml, "--home", home)
    with started(home, log):
        eventually(lambda: said("status", "--home", home)["runs"][0]["round"] > 0,
                   log)  # fmt: skip
        (row,) = said("status", "--home", home)["runs"]
        assert row["state"] == "running"
        assert row["waiting"] == dict.fromkeys(OUTLETS, "no answer yet")
        for name in OUTLETS:  # then nobody is waited for, and there is no quorum
            revoked = presspool("revoke", name, "--reason", "test", "--home", home)
            assert revoked.exception is None
        eventually(lambda: "is stopped" in log.read_text(), log)
        (row,) = said("status", "--home", home)["runs"]
        assert row["state"] == "stopped"
        assert "too few admitted updates" in row["why"]
        assert "too few admitted updates" in presspool("status", "--home",
                                                       home).stdout  # fmt: skip
        said("submit", run_toml, "--home", home)
        eventually(lambda: log.read_text().count("is stopped") == 2, log)
