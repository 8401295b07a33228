"""A pool as its operators run it: the real commands in processes of their own, on loopback.

Example: `with Operators(tmp_path, run_toml) as pool: pool.start(); pool.wait_for("complete")`.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from tests.fakes.children.warm_commands import WarmCommand
from tests.fakes.instruments.loopback import free_port
from tests.fakes.made_outlets import policy_body
from tests.fakes.made_runs import toml

from presspool.client.identity.identity import Identity
from presspool.client.witnessing.trusted_peers import approve
from presspool.common.runs.run_file import freeze, read_run_file

ENVIRONMENT = os.environ | {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}
LONGEST_WAIT = 300.0  # seconds; a machine may be slow, and nothing here measures it


class Operators:
    """A coordinator and the outlets of a run file, each with a home of its own.

    Args:
        folder: where the homes go.
        run: a run file made by `tests.fakes.made_runs.write_run`.
        deterministic: seed of the outlets' noise.

    Attributes:
        witnesses: whether outlets that join demand witnesses and approve each other.
        rules: what their policies say besides the usual; they approve each other then, too.
    """

    def __init__(self, folder: Path, run: Path, *, deterministic: int) -> None:
        self.folder, self.run, self._seed = folder, run, deterministic
        self.witnesses, self.rules = False, dict[str, Any]()
        self.contract = freeze(read_run_file(run).contract)
        self.home = folder / "coordinator"
        self._processes: dict[str, WarmCommand] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._processes):
            self.end(name, signal.SIGKILL)

    # --- Commands --------------------------------------------------------------------------------

    def presspool(self, *arguments: object, code: int = 0) -> Any:
        """Type a command with `--json`; returns what it printed."""
        said, told = self._typed([*arguments, "--json"], code)
        return json.loads(said) if said else told

    def type(self, *arguments: object, code: int = 0) -> str:
        """Type a coordinator's command that has no `--json`; returns all that it said."""
        return "".join(self._typed([*arguments, "--home", self.home], code))

    def _typed(self, arguments: Sequence[object], code: int) -> tuple[str, str]:
        """What a command said, and its messages."""
        with TemporaryDirectory(dir=self.folder) as here:
            files = Path(here) / "out", Path(here) / "err"
            command = _command(arguments, *files)
            try:
                ended = command.wait(LONGEST_WAIT)
            finally:
                command.send_signal(signal.SIGKILL)
            out, err = (file.read_text() for file in files)
        assert ended == code, out + err
        return out, err

    def coordinator(self, command: str, *arguments: object, code: int = 0) -> Any:
        """`presspool coordinator …` on this pool's home."""
        return self.presspool("coordinator", command, *arguments, "--home", self.home, code=code)

    def make(self) -> None:
        """The coordinator's home and its address."""
        self.coordinator("init", "--name", "press-pool", "--address", f"localhost:{free_port()}")

    def join(self, names: Sequence[str]) -> None:
        """Invite, join and admit outlets, and give each its settings, policy, data and ledger."""
        for name in names:
            token = self.coordinator("invite", name)["token"]
            self._spawn(f"join {name}", "outlet", "join", token, "--home", self.outlet(name))
        for name in names:
            fingerprint = self.said(f"join {name}", "fingerprint of its keys: ")
            self.coordinator("admit", name, fingerprint)
            assert self._processes.pop(f"join {name}").wait(LONGEST_WAIT) == 0, self.log(
                f"join {name}"
            )
            self._settle_in(name)
        if self.witnesses or self.rules:
            self._approve_each_other(names)

    def _approve_each_other(self, names: Sequence[str]) -> None:
        """As by `outlet peers approve`, which would take a process for each pair."""
        keys = {name: Identity.read(self.outlet(name)).peer for name in names}
        for name, own in keys.items():
            for other in set(names) - {name}:
                peer = keys[other]
                approve(self.outlet(name), peer, peer.fingerprint, own=own)

    def _settle_in(self, name: str) -> None:
        home = self.outlet(name)
        settings = {
            "name": name,
            "data": str(self.run.parent / "data" / f"{name}.parquet"),
            "deterministic": self._seed,
            "policy": "policy.toml",
            "ledger": "ledger.db",
        }
        (home / "outlet.toml").write_text(toml(settings))
        rules = policy_body(
            self.contract,
            witnesses={"required": self.witnesses},
            tasks=[self.contract.task.kind],
            lora_targets=list(self.contract.adapter.targets),
            **self.rules,
        )
        (home / "policy.toml").write_text(toml(rules))
        self.presspool("outlet", "import", "--home", home, "--task", self.contract.task.kind)
        self.presspool(
            "outlet", "budget", "init", "--home", home, "--epsilon-max", 60, "--order", 4
        )

    # --- Processes -------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the coordinator."""
        (self.folder / "coordinator.log").unlink(missing_ok=True)
        self._spawn("coordinator", "coordinator", "start", "--home", self.home)
        self.said("coordinator", "serving")

    def start_outlet(self, name: str, *, tap: Path | None = None) -> None:
        """Start an outlet's agent; what it hands to gRPC is copied to `tap`."""
        self._spawn(name, "outlet", "run", "--home", self.outlet(name), tap=tap)

    def end(self, name: str, kind: signal.Signals = signal.SIGTERM) -> int:
        """End a process; returns its exit code."""
        process = self._processes.pop(name)
        process.send_signal(kind)
        return process.wait(LONGEST_WAIT)

    def stop(self) -> None:
        """End the coordinator by its own command."""
        self.type("coordinator", "stop")
        assert self._processes.pop("coordinator").wait(LONGEST_WAIT) == 0

    def wait_for(self, state: str, run: str) -> dict[str, Any]:
        """Wait until a run is in a state; returns its status."""
        deadline = time.monotonic() + LONGEST_WAIT
        while True:
            [found] = self.coordinator("status", run)["runs"]
            if found["state"] == state:
                return dict(found)
            assert found["state"] in ("queued", "running"), (found, self.log("coordinator"))
            assert time.monotonic() < deadline, (found, self.log("coordinator"))
            time.sleep(2)  # asking takes a second of a processor

    # --- Files -----------------------------------------------------------------------------------

    def outlet(self, name: str) -> Path:
        """An outlet's home."""
        home = self.folder / name
        home.mkdir(exist_ok=True)
        return home

    def log(self, name: str) -> str:
        """What a process said so far."""
        return (self.folder / f"{name}.log").read_text()

    def _spawn(self, name: str, *arguments: object, tap: Path | None = None) -> None:
        log = self.folder / f"{name}.log"
        log.touch()
        self._processes[name] = _command(arguments, log, log, tap=tap)

    def said(self, name: str, before: str) -> str:
        """The rest of the line in which a process said something."""
        deadline = time.monotonic() + LONGEST_WAIT
        while before not in self.log(name):
            assert time.monotonic() < deadline, self.log(name)
            assert self._processes[name].poll() is None, self.log(name)
            time.sleep(0.1)
        return self.log(name).partition(before)[2].partition("\n")[0]


def _command(
    arguments: Sequence[object], out: Path, err: Path, *, tap: Path | None = None
) -> WarmCommand:
    program = ["presspool.cli"] if tap is None else ["tests.fakes.instruments.tap", tap]
    words = ["-m", *program, *arguments]
    return WarmCommand(words, out=out, err=err, environment=ENVIRONMENT)
