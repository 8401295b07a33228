"""A SuperLink of the tests' own, on the loopback address; nothing of it is left when it stops.

Whatever it starts is found again by its environment.

Example: `link = SuperLink(tmp_path / "flower", INSECURE)`; `link.run(run_folder=folder)`.
"""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY
from tests.fakes.instruments.loopback import free_port

APP = REPOSITORY / "examples" / "flower-app"
BIN = Path(sys.executable).parent

# 127.0.0.1, the same as IPv6 sees it, and ::1, as the kernel writes them.
LOOPBACK = {
    "0100007F",
    "0000000000000000FFFF00000100007F",
    "00000000000000000000000001000000",
}

CONFIG = """\
[superlink]
default = "here"

[superlink.here]
address = "{address}"
{security}
"""


@dataclass(frozen=True, kw_only=True)
class Security:
    """How a SuperLink and those who call it are started.

    Attributes:
        options: of `flower-superlink`.
        config: of the connection in Flower's configuration.
        root: certificate of the authority, or None without TLS.
    """

    options: tuple[str, ...]
    config: str
    root: Path | None = None


SIMULATION = Security(options=("--insecure", "--simulation"), config="insecure = true")


class SuperLink:
    """A SuperLink that installs nothing and listens on the loopback only.

    Attributes:
        address: host and port.
        environment: of everything that belongs to it.
        listened: the local addresses on which it or one of its processes listened during a run.
    """

    def __init__(self, home: Path, security: Security) -> None:
        self.home, self._security = home, security
        self.listened: set[str] = set()
        # Ray's sockets lie below its folder, and their paths must stay short.
        self._ray = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self.environment = os.environ | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",  # Flower starts its own commands
            "FLWR_HOME": str(home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": self._ray,
            "HF_HUB_OFFLINE": "1",
            # Without clusters, Ray takes the loopback address instead of the machine's.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            # Ray's workers step back behind all other work (nice 15), and beside other tests on few
            # cores that is never their turn.
            "RAY_worker_niceness": "0",
            "OMP_NUM_THREADS": "1",  # as a worker of ours has, so that bytes can be compared
        }
        home.mkdir()
        (home / "config.toml").write_text(
            CONFIG.format(address=self.address, security=security.config)
        )
        self._processes: list[subprocess.Popen[bytes]] = []
        self.start(
            "superlink",
            "flower-superlink",
            *security.options,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--disable-runtime-dependency-installation",
        )
        self._wait()

    def start(self, log: str, command: str, *arguments: str) -> None:
        """Start one of Flower's commands beside the SuperLink; `stop` ends it."""
        with (self.home / f"{log}.log").open("w") as output:
            process = subprocess.Popen(
                [BIN / command, *arguments],
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._processes.append(process)

    def flwr(self, *arguments: str | Path) -> str:
        """Run `flwr` to its end; returns what it said."""
        with (self.home / "flwr.log").open("w") as log:
            process = subprocess.Popen(
                [BIN / "flwr", *arguments],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        while process.poll() is None:
            self.listened |= self.listening()
            time.sleep(0.3)
        return (self.home / "flwr.log").read_text()

    def run(self, *options: str, **config: Path | int) -> str:
        """`flwr run` to its end; returns what it streamed."""
        text = " ".join(f"{key.replace('_', '-')}='{value}'" for key, value in config.items())
        return self.flwr("run", APP, "--stream", "--run-config", text, *options)

    def _wait(self) -> None:
        root, deadline = self._security.root, time.monotonic() + 240
        trust = ssl.create_default_context(cafile=root) if root else None
        url = f"{'https' if root else 'http'}://{self.address}/health"
        while self._processes[0].poll() is None and time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(url, timeout=30, context=trust):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        pytest.fail((self.home / "superlink.log").read_text())

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
            with suppress(OSError):  # the process has just ended
                for handle in Path(f"/proc/{pid}/fd").iterdir():
                    with suppress(OSError):  # or this has just been closed
                        inodes.add(str(handle.readlink()))
        found = set()
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                    found.add(fields[1].partition(":")[0])
        return found

    def stop(self) -> list[int]:
        """End the SuperLink and what was started beside it; returns what had to be ended after."""
        for process in reversed(self._processes):
            process.terminate()
            process.wait(120)
        deadline = time.monotonic() + 120
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self._ray, ignore_errors=True)
        return left
