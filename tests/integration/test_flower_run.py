"""The same two apps under `flwr run`, on Flower's own simulation engine: the same bytes.

A SuperLink of the test's own runs on the loopback address; whatever it starts is found again by its
environment, and nothing of it is left.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import REPOSITORY
from tests.made_runs import write_run

from presspool.common.results import read_result
from presspool.common.run_file import read_run_file
from presspool.simulations.local_grid import LocalGrid
from presspool.simulations.simulate import SimulateOptions, prepare, serve

APP = REPOSITORY / "examples" / "flower-app"
BIN = Path(sys.executable).parent

# 127.0.0.1, the same as IPv6 sees it, and ::1, as the kernel writes them.
LOOPBACK = {
    "0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000",
}  # fmt: skip

CONFIG = """\
[superlink]
default = "here"

[superlink.here]
address = "{address}"
insecure = true
"""


class SuperLink:
    """A SuperLink in simulation mode that installs nothing and listens on the loopback only.

    Attributes:
        listened: the local addresses on which it or one of its processes listened during a run.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.listened: set[str] = set()
        # Ray's sockets lie below its folder, and their paths must stay short.
        self._ray = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.environment = os.environ | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",  # Flower starts its own commands
            "FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1",
            "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": self._ray, "HF_HUB_OFFLINE": "1",
            # Without clusters, Ray takes the loopback address instead of the machine's.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "OMP_NUM_THREADS": "1",  # as a worker of ours has, so that bytes can be compared
        }  # fmt: skip
        home.mkdir()
        (home / "config.toml").write_text(CONFIG.format(address=self.address))
        self._process = subprocess.Popen(
            [
                BIN / "flower-superlink", "--insecure", "--simulation", "--host", "127.0.0.1",
                "--port", str(port), "--disable-runtime-dependency-installation",
            ],
            env=self.environment, stdout=(home / "superlink.log").open("w"),
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 120
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://{self.address}/health", timeout=5):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        pytest.fail((self.home / "superlink.log").read_text())

    def run(self, **config: Path | int) -> str:
        """`flwr run` to its end; returns what it streamed."""
        text = " ".join(f"{key.replace('_', '-')}='{value}'" for key, value in config.items())
        engine = "num-supernodes=2 client-resources-num-cpus=1 init-args-num-cpus=1"
        with (self.home / "run.log").open("w") as log:
            run = subprocess.Popen(
                [
                    BIN / "flwr", "run", APP, "--stream", "--run-config", text,
                    "--federation-config", engine,
                ],
                env=self.environment, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        while run.poll() is None:
            self.listened |= self.listening()
            time.sleep(0.3)
        return (self.home / "run.log").read_text()

    def processes(self) -> list[int]:
        """Whatever runs with this SuperLink's environment."""
        mark = f"FLWR_HOME={self.home}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue  # it has just ended
        return found

    def listening(self) -> set[str]:
        """Local addresses, in the kernel's hexadecimal, on which these processes listen."""
        inodes = set()
        for pid in self.processes():
            for handle in Path(f"/proc/{pid}/fd").glob("*"):
                try:
                    inodes.add(str(handle.readlink()))
                except OSError:
                    continue
        found = set()
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                    found.add(fields[1].partition(":")[0])
        return found

    def stop(self) -> list[int]:
        """End the SuperLink; returns what had to be ended after it."""
        self._process.terminate()
        self._process.wait(60)
        deadline = time.monotonic() + 30
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self._ray, ignore_errors=True)
        return left


@pytest.fixture
def superlink(tmp_path: Path) -> Iterator[SuperLink]:
    pytest.importorskip("ray", reason="Flower's engine needs Ray: pip install 'presspool[ray]'")
    link = SuperLink(tmp_path / "flower")
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

    streamed = superlink.run(run_folder=there.path, outlets_folder=there.outlets)
    assert there.adapter.exists(), streamed
    assert adapter(there.path) == adapter(here.path)
    result = read_result(there.path)
    assert result.status == "complete"
    assert result.statement == expected.statement
    for one, other in zip(result.rounds, expected.rounds, strict=True):
        assert (one.outlets, one.refused) == (other.outlets, other.refused)
        assert (one.accuracy, one.bytes_up, one.bytes_down) == (
            other.accuracy, other.bytes_up, other.bytes_down,
        )  # fmt: skip
    assert superlink.listened
    assert superlink.listened <= LOOPBACK


def test_the_flower_app_holds_no_code() -> None:
    """A module of the bundle would win over the outlet's installed one of the same name."""
    assert sorted(path.name for path in APP.iterdir()) == ["README.md", "pyproject.toml"]
