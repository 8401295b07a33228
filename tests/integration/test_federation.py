"""Whole federations with real worker processes: the same bytes, however a run comes to its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tests.conftest import AS_TYPED
from tests.fakes.instruments.typed import typed
from tests.fakes.made_runs import write_run

from presspool.common.contract.contract import parse_contract
from presspool.common.models.models import build
from presspool.common.runs.result_file import read_result
from presspool.common.runs.results import RunResult
from presspool.common.runs.run_file import read_run_file
from presspool.common.runs.run_folder import RunFolder
from presspool.server.rounds.server_app import serve
from presspool.simulations.grids.local_grid import LocalGrid
from presspool.simulations.simulate import SimulateOptions, prepare, simulate

Body = dict[str, Any]
SEED = 7
COMMAND = (*AS_TYPED, "simulate")


@pytest.fixture(scope="module")
def run_toml(tmp_path_factory: pytest.TempPathFactory, contract_body: Body) -> Path:
    """Two outlets, two rounds."""
    return write_run(tmp_path_factory.mktemp("federation"), contract_body)


@pytest.fixture(scope="module")
def long_toml(tmp_path_factory: pytest.TempPathFactory, contract_body: Body) -> Path:
    """The same over so many rounds that a signal after the first one meets a running round."""
    body = contract_body | {"federation": contract_body["federation"] | {"rounds": 12}}
    return write_run(tmp_path_factory.mktemp("long"), body)


def options(path: Path, name: str, **changes: Any) -> SimulateOptions:
    usual: dict[str, Any] = {"out": path.parent / "runs" / name, "deterministic": SEED}
    return SimulateOptions(**usual | changes)


def with_workers(path: Path, name: str, workers: int, **changes: Any) -> Path:
    """A whole run on worker processes; returns its folder."""
    chosen = options(path, name, workers=workers, **changes)
    simulate(read_run_file(path), chosen)
    return chosen.out


def in_this_process(
    path: Path, name: str, *, on_reply: Callable[[], None] = lambda: None, **changes: Any
) -> Path:
    """A whole run on a grid without worker processes, with as many threads as a worker has."""
    torch.set_num_threads(1)
    prepared = prepare(read_run_file(path), options(path, name, **changes))
    with LocalGrid(prepared.outlets, workers=0, on_reply=on_reply) as grid:
        serve(grid, prepared.folder)
    return prepared.folder.path


def adapter(folder: Path) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(long_toml: Path) -> Path:
    """The long run, undisturbed."""
    return in_this_process(long_toml, "whole")


@pytest.fixture(scope="module")
def one_worker(run_toml: Path) -> Path:
    """The run that others are compared with."""
    return with_workers(run_toml, "one-worker", 1)


# --- The same bytes -----------------------------------------------------------------------------


def test_a_contract_of_schema_1_trains_the_same_adapter(
    contract_body: Body, tmp_path: Path, one_worker: Path
) -> None:
    old = in_this_process(write_run(tmp_path, contract_body | {"schema": 1}), "old")
    assert adapter(old) == adapter(one_worker)
    contracts = [RunFolder(run).read_contract() for run in (old, one_worker)]
    assert [contract.schema_ for contract in contracts] == [1, 2]
    assert [read_result(run).contract_digest for run in (old, one_worker)] == [
        contract.digest for contract in contracts
    ]


def test_two_workers_make_the_same_bytes_as_one(run_toml: Path, one_worker: Path) -> None:
    two = with_workers(run_toml, "two-workers", 2)
    assert adapter(two) == adapter(one_worker)
    one_result, two_result = read_result(one_worker), read_result(two)
    assert two_result.adapter_sha256 == one_result.adapter_sha256
    assert two_result.statement == one_result.statement
    for one, other in zip(one_result.rounds, two_result.rounds, strict=True):
        assert one.metrics == other.metrics


def test_the_command_makes_the_same_bytes_and_a_whole_folder(
    run_toml: Path,
    one_worker: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = run_toml.parent / "runs" / "command"
    arguments = ["--out", out, "--deterministic", SEED, "--workers", 1, "--json"]
    done = typed(monkeypatch, capsys, "simulate")(run_toml, *arguments)
    assert done.code == 0, done.err
    assert adapter(out) == adapter(one_worker)
    result = read_result(out)
    assert json.loads(done.out) == {"folder": str(out), **json.loads(result.to_json())}
    assert result.status == "complete"
    assert sorted(path.name for path in out.iterdir()) == [
        "adapter",
        "checkpoint.safetensors",
        "compute.json",
        "contract.json",
        "events",
        "outlets",
        "report.html",
        "result.json",
        "setup.json",
    ]
    assert "Traceback" not in done.err


def test_workers_and_this_process_make_the_same_bytes(run_toml: Path, one_worker: Path) -> None:
    """An outlet's answer does not depend on which process it is in, nor on what that did before."""
    assert adapter(in_this_process(run_toml, "here")) == adapter(one_worker)


def test_another_seed_makes_another_adapter_of_the_same_contract(
    run_toml: Path, one_worker: Path
) -> None:
    other = in_this_process(run_toml, "other-seed", deterministic=SEED + 1)
    assert adapter(other) != adapter(one_worker)
    assert read_result(other).contract_digest == read_result(one_worker).contract_digest


def test_real_noise_is_never_the_same_twice_and_is_private(run_toml: Path) -> None:
    runs = [in_this_process(run_toml, f"real-{i}", deterministic=None) for i in range(2)]
    assert adapter(runs[0]) != adapter(runs[1])
    results: list[RunResult] = [read_result(run) for run in runs]
    assert all(result.private and not result.deterministic for result in results)
    assert "NOT private" not in results[0].statement


@pytest.mark.parametrize("method", ["ffa", "fedit"])
def test_a_is_released_as_it_began_with_ffa_and_trained_with_fedit(
    contract_body: Body, tmp_path: Path, method: str
) -> None:
    body = contract_body | {"adapter": contract_body["adapter"] | {"method": method}}
    folder = in_this_process(write_run(tmp_path, body), "run")
    released = load_file(folder / "adapter" / "adapter_model.safetensors")
    began = dict(build(parse_contract(body)).named_parameters())
    for name, parameter in began.items():
        if "lora_A" in name:
            same = np.array_equal(released[name.replace(".default", "")], parameter.detach())
            assert same == (method == "ffa")


# --- Going on -----------------------------------------------------------------------------------


class StopError(Exception):
    """Stands for whatever ends a process in mid-run."""


def test_a_run_that_stopped_between_rounds_ends_with_the_same_bytes(
    run_toml: Path, one_worker: Path
) -> None:
    seen = []

    def stop_in_round_two() -> None:
        seen.append(1)
        if len(seen) == 3:
            raise StopError

    with pytest.raises(StopError):
        in_this_process(run_toml, "stopped", on_reply=stop_in_round_two)
    folder = run_toml.parent / "runs" / "stopped"
    assert len(read_result(folder).rounds) == 2
    assert adapter(in_this_process(run_toml, "stopped", resume=True)) == adapter(one_worker)


def started(path: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """The command on one worker, in a process group of its own as on a terminal."""
    arguments = [path, "--out", out, "--deterministic", SEED, "--workers", 1, *more]
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(is_so: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until something comes true while a process runs."""
    deadline = time.monotonic() + 120
    while not is_so():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def rounds_in(out: Path) -> int:
    """Rounds that are finished; the file is there before the first is handed out."""
    return len(read_result(out).rounds) if (out / "result.json").exists() else 0


def in_group(group: int) -> dict[int, str]:
    """Process id to command line of what lives in a process group."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, its_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(its_group) == group and state != "Z":
                    found[int(entry.name)] = (entry / "cmdline").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def all_gone(process: subprocess.Popen[str]) -> bool:
    """Whether nothing is left of a process that has ended; its helpers may take a moment more."""
    deadline = time.monotonic() + 120
    while in_group(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not in_group(process.pid)


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Copies of the server of workers, which is not one itself."""
    servers = [pid for pid, command in in_group(process.pid).items() if "forkserver" in command]
    return [pid for pid in servers if parent_of(pid) in servers]


def parent_of(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def test_ctrl_c_in_mid_round_keeps_what_was_finished(long_toml: Path, whole: Path) -> None:
    out = long_toml.parent / "runs" / "interrupted"
    process = started(long_toml, out)
    wait_for(lambda: rounds_in(out) >= 2, process)  # the start and one that was trained
    os.killpg(process.pid, signal.SIGSTOP)  # else it may be done before this one goes on
    assert workers_of(process)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
    os.killpg(process.pid, signal.SIGCONT)
    said, message = process.communicate(timeout=240)
    assert process.returncode == 2
    assert said == ""
    assert message.count("stopped; what was finished is kept: continue with --resume") == 1
    assert "Traceback" not in message
    assert "error" not in message.lower()
    assert all_gone(process)
    rounds = len(read_result(out).rounds)
    assert 2 <= rounds < 13  # it was in mid-run
    assert not (out / "adapter").exists()
    assert adapter(in_this_process(long_toml, "interrupted", resume=True)) == adapter(whole)


def test_a_worker_that_dies_is_told_and_the_run_can_go_on(long_toml: Path, whole: Path) -> None:
    out = long_toml.parent / "runs" / "lost-worker"
    process = started(long_toml, out)
    wait_for(lambda: bool(workers_of(process)), process)
    for pid in workers_of(process):
        os.kill(pid, signal.SIGKILL)  # as the kernel does when memory runs out
    _, message = process.communicate(timeout=240)
    assert process.returncode == 1
    assert message.count("error: simulation: a worker process died") == 1
    assert "--resume" in message
    assert "Traceback" not in message
    assert all_gone(process)
    assert adapter(in_this_process(long_toml, "lost-worker", resume=True)) == adapter(whole)
