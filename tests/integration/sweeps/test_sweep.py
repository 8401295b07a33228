"""Whole sweeps of tiny runs: the same rows with any number of processes, and however they stop."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.fakes.children import dying_trials
from tests.fakes.grids.grid_parts import wait_until
from tests.fakes.instruments.typed import typed
from tests.fakes.made_runs import toml, write_run
from tests.fakes.sweeps.wandb_file import records

from presspool.common.base.errors import FolderError, InputError
from presspool.common.runs.result_file import read_result
from presspool.common.runs.run_file import read_run_file
from presspool.simulations.simulate import SimulateOptions, simulate
from presspool.simulations.sweeps import lanes
from presspool.simulations.sweeps.lanes import ProcessLanes, process_lanes
from presspool.simulations.sweeps.point_search import COMPARED, AskedPoint, PointSearch, RoundJudge
from presspool.simulations.sweeps.sweep_file import parse_sweep
from presspool.simulations.sweeps.sweep_request import SweepRequest, checked
from presspool.simulations.sweeps.sweep_trial import Ending, TrialJob, run_trial
from presspool.simulations.sweeps.sweeping import Swept, sweep

Body = dict[str, Any]
SEED = 7
LONGEST_WAIT = 240.0  # seconds; a machine may be slow, and nothing here measures it
GRID = {"privacy": {"noise_multiplier": [0.8, 1.6]}, "optimizer": {"learning_rate": [0.1, 0.5]}}


@pytest.fixture(scope="module")
def run_toml(tmp_path_factory: pytest.TempPathFactory, contract_body: Body) -> Path:
    """Two outlets, four rounds."""
    body = contract_body | {"federation": contract_body["federation"] | {"rounds": 4}}
    return write_run(tmp_path_factory.mktemp("sweep"), body)


def requested(run_toml: Path, name: str, space: Body = GRID, **changes: Any) -> SweepRequest:
    usual: Body = {
        "run": read_run_file(run_toml),
        "file": parse_sweep(space, where="sweep.toml"),
        "out": run_toml.parent / "sweeps" / name,
        "workers": 1,
        "deterministic": SEED,
    }
    return SweepRequest(**usual | changes)


def swept(request: SweepRequest) -> Swept:
    return sweep(request, checked(request))


def job_of(request: SweepRequest, point: AskedPoint) -> TrialJob:
    return TrialJob(
        number=0,
        point=point,
        seed=None,
        run=request.run,
        out=request.out / "trials" / "0003",
        deterministic=SEED,
        sweep=request.out,
        file=request.file,
        metric="accuracy",
        higher=True,
    )


def rows(folder: Path) -> list[Body]:
    """The table, without what a clock says."""
    table = pq.read_table(folder / "trials.parquet").drop_columns(["seconds"])
    found: list[Body] = table.to_pylist()
    return found


@pytest.fixture(scope="module")
def one_process(run_toml: Path) -> Swept:
    """The sweep that others are compared with."""
    return swept(requested(run_toml, "one"))


def test_each_trial_is_an_ordinary_run_and_a_row(one_process: Swept) -> None:
    out, table = one_process.request.out, rows(one_process.request.out)
    assert [row["number"] for row in table] == [0, 1, 2, 3]
    for row in table:
        folder = out / row["folder"]
        result = read_result(folder)
        assert result.status == row["state"] == "complete"
        assert (result.contract_digest, result.statement) == (row["contract"], row["statement"])
        assert (result.epsilon, result.delta) == (row["epsilon"], row["delta"])
        assert (result.bytes_up, result.bytes_down) == (row["bytes_up"], row["bytes_down"])
        assert result.final.figures["accuracy"] == row["metric.accuracy"]
        privacy = result.contract["privacy"]
        assert isinstance(privacy, dict)
        assert privacy["noise_multiplier"] == row["privacy.noise_multiplier"]
        assert (folder / "report.html").exists()
    assert len({row["contract"] for row in table}) == 4
    assert table[0]["epsilon"] > table[2]["epsilon"]


# `presspool` as typed, and Ctrl-C once there is a first row: a signal from another process might
# come when all rows are there.
INTERRUPTED = """
import os, signal, threading
from presspool.cli import main
from presspool.simulations.sweeps import sweeping

written = sweeping.write_table

def write_once(*table):
    written(*table)
    sweeping.write_table = written
    threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()

sweeping.write_table = write_once
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


def test_two_processes_that_were_interrupted_make_the_same_rows(
    run_toml: Path,
    one_process: Swept,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, grid = run_toml.parent / "sweeps" / "two", run_toml.parent / "sweep.toml"
    grid.write_text(toml(GRID))
    usual = ["--grid", grid, "--out", out, "--deterministic", SEED, "--workers", 2, "--json"]
    words = ["sweep", *map(str, [run_toml, *usual])]
    first = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *words], check=False, capture_output=True, text=True
    )
    assert first.returncode == 2, first.stderr
    assert "continue with --resume" in first.stderr
    before = rows(out)
    assert 1 <= len(before) < 4
    done = typed(monkeypatch, capsys, "sweep")(run_toml, *usual, "--resume")
    assert done.code == 0, done.err
    assert rows(out) == rows(one_process.request.out)
    assert [row for row in rows(out) if row["number"] in {r["number"] for r in before}] == before
    told = json.loads(done.out)
    assert len(told["trials"]) == told["paid"]["trials"] == 4
    assert told["best"] in told["front"]
    assert "4 of 4" in (out / "sweep.html").read_text()


def test_a_trial_that_fails_is_a_row_and_no_tracker_hears_of_it(run_toml: Path) -> None:
    from mlflow.tracking import MlflowClient

    space = {"adapter": {"layers": [99, 1]}}
    found = swept(requested(run_toml, "failing", space, track=("mlflow",)))
    bad, good = found.rows
    assert (bad.state, good.state) == ("failed", "complete")
    assert "\n" not in bad.reason
    assert "99" in bad.reason
    assert (bad.epsilon, bad.metrics) == (None, {})
    database = found.request.out.resolve() / "mlflow" / "mlflow.db"
    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    experiment = client.get_experiment_by_name("test")
    assert experiment is not None
    (told,) = client.search_runs([experiment.experiment_id])
    assert told.info.run_name == "0001"
    assert told.data.metrics["held-out/accuracy"] == good.metrics["accuracy"]
    assert told.data.tags["presspool.contract"] == good.contract


def test_a_simulated_run_is_told_to_the_tracker_that_was_asked_for(run_toml: Path) -> None:
    out = run_toml.parent / "runs" / "tracked"
    options = SimulateOptions(out=out, workers=0, deterministic=SEED, track=("wandb",))
    result = simulate(read_run_file(run_toml), options)
    (file,) = (out / "wandb").glob("offline-run-*/*.wandb")
    found = list(records(file))
    (run,) = (one.run for one in found if one.HasField("run"))
    assert run.notes == result.statement
    assert len([one for one in found if one.HasField("history")]) == len(result.rounds) == 5
    kept = file.read_bytes()
    for private in ("north-post", "held_out", str(run_toml.parent), str(Path.home())):
        assert private.encode() not in kept


def test_a_process_that_dies_costs_its_trial_alone(
    run_toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "run_trial", dying_trials.killed)
    found = swept(requested(run_toml, "dying"))
    assert [row.state for row in found.rows] == ["complete", "failed", "complete", "complete"]
    assert "its process died" in found.rows[1].reason


def test_a_process_that_dies_between_two_trials_costs_none(
    run_toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "run_trial", dying_trials.ended)
    request = requested(run_toml, "idle")
    point = PointSearch(request.file, run_toml.parent, higher=True).ask()
    assert point is not None
    job = job_of(request, point)
    with process_lanes(1) as made:
        assert isinstance(made, ProcessLanes)
        for _ in range(2):
            made.start(job)
            assert made.ended() == (job, Ending(state="complete"))
            (lane,) = made._idle
            for process in (lane._processes or {}).values():
                process.kill()
            assert wait_until(lambda: bool(lane._broken))  # noqa: B023  asked at once


def test_seeds_are_trials_of_one_point(run_toml: Path) -> None:
    found = swept(requested(run_toml, "seeds", {"seeds": [3, 4]}))
    assert [(row.point, row.seed, row.values) for row in found.rows] == [(0, 3, {}), (0, 4, {})]
    assert len({row.contract for row in found.rows}) == 2


def test_a_folder_belongs_to_one_sweep(run_toml: Path, one_process: Swept) -> None:
    again = requested(run_toml, "one", resume=True)
    assert swept(again).rows == one_process.rows  # nothing is trained a second time
    with pytest.raises(FolderError, match="already holds a sweep"):
        swept(requested(run_toml, "one"))
    with pytest.raises(FolderError, match="another sweep"):
        swept(requested(run_toml, "one", resume=True, deterministic=SEED + 1))
    with pytest.raises(FolderError, match="nothing to resume"):
        swept(requested(run_toml, "none", resume=True))


def test_nothing_is_written_where_a_later_point_is_no_contract(run_toml: Path) -> None:
    request = requested(run_toml, "wrong", {"federation": {"quorum": [1, 2, 3]}})
    with pytest.raises(InputError, match="lists only 2"):
        swept(request)
    assert not request.out.exists()


def test_a_pruned_trial_ends_after_a_whole_round_that_it_has_paid_for(run_toml: Path) -> None:
    """Others, told by hand, were right on every record from the first round on."""
    space = {**GRID, "sampler": "random", "trials": COMPARED + 1, "prune": True}
    request = requested(run_toml, "pruned", space)
    request.out.mkdir(parents=True)
    search = PointSearch(request.file, request.out, higher=True)
    for _ in range(COMPARED):
        point = search.ask()
        assert point is not None
        judge = RoundJudge(request.out, request.file, point.number, higher=True)
        assert all(judge.goes_on(number, 1.0) for number in range(1, 5))
        search.tell(point.number, 1.0, pruned=False)
    point = search.ask()
    assert point is not None
    job = job_of(request, point)
    assert run_trial(job).state == "pruned"
    result = read_result(job.out)
    assert result.status == "running"
    assert {outlet.steps for outlet in result.outlets} == {2}  # one round of two steps
