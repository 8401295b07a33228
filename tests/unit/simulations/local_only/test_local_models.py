"""Each outlet's model alone beside the run: what is trained, on what it is judged, what is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.fakes.instruments.typed import typed
from tests.fakes.made_runs import write_run

from presspool.common.base.errors import FolderError
from presspool.common.runs.run_file import RunFile, read_run_file
from presspool.common.runs.run_folder import RunFolder
from presspool.simulations.experiments.jobs import Job, run_job
from presspool.simulations.local_only.local_models import beside, train_beside
from presspool.simulations.local_only.pay_table import PayTable
from presspool.simulations.simulate import SimulateOptions, simulate

Body = dict[str, Any]
OUTLETS = ("north-post", "south-echo")
PAPERS = ("North Post", "South Echo", "North Post")  # of the held-out rows, in turn


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> dict[str, pa.Table]:
    """Jobs in this process, while other tests start the processes; the parts that were cut out."""
    found = dict[str, pa.Table]()

    def run_jobs(jobs: list[Job], folder: Path, *, workers: int, on_done: Any) -> None:
        for file in (folder / "local" / "outlets").glob("*.parquet"):
            found[file.stem] = pq.read_table(file)
        for job in jobs:
            if not job.finished(folder):
                run_job(job, folder)
                on_done()

    monkeypatch.setattr("presspool.simulations.local_only.local_models.run_jobs", run_jobs)
    return found


def made(folder: Path, body: Body, *, papers: bool = True, **tables: Any) -> RunFile:
    path = write_run(folder, body, **tables)
    if papers:
        table = pq.read_table(folder / "held_out.parquet")
        paper = [PAPERS[row % 3] for row in range(len(table))]
        pq.write_table(table.append_column("Paper", pa.array(paper)), folder / "held_out.parquet")
    return read_run_file(path)


def trained(run: RunFile, out: Path) -> tuple[PayTable, int]:
    """The table, and how many models were trained or judged for it."""
    options, counted = SimulateOptions(out=out, workers=0, deterministic=5), list[int]()
    started = RunFolder(out).contract_file.exists()
    simulate(run, replace(options, resume=started, keep_data=True))
    train_beside(run, options, on_done=lambda: counted.append(1))
    return beside(out), len(counted)


def test_the_same_contract_but_for_the_others_judged_on_own_rows(
    tmp_path: Path, contract_body: Body
) -> None:
    out = tmp_path / "out"
    table, count = trained(made(tmp_path, contract_body), out)
    whole = RunFolder(out).read_contract()
    for name in OUTLETS:
        alone = RunFolder(out / "local" / name).read_contract()
        assert dict(alone.outlets) == {name: whole.outlets[name]}
        assert (alone.plan, alone.steps) == (whole.plan, whole.steps)
        assert alone.replace(outlets=dict(whole.outlets), federation={"quorum": 2}) == whole
    together = np.load(out / "correct.npy")
    for row, name, rows in zip(table.rows, OUTLETS, ([0, 2], [1]), strict=False):
        mine = np.isin(np.arange(len(together)) % 3, rows)
        own = np.load(out / "local" / name / "correct.npy")
        assert (row.outlet, row.readers, row.rows) == (name, whole.outlets[name], int(mine.sum()))
        assert row.own
        assert row.together == pytest.approx(together[mine].mean())
        assert row.alone == pytest.approx(own[mine].mean())
        assert row.difference.mean == pytest.approx(row.together - row.alone)
        assert row.difference.low <= row.difference.mean <= row.difference.high
    mean = table.rows[-1]
    assert mean.alone == pytest.approx(np.mean([row.alone for row in table.rows[:-1]]))
    assert count == 3
    assert table.deterministic


def test_typed_again_it_does_what_is_missing(tmp_path: Path, contract_body: Body) -> None:
    run, out = made(tmp_path, contract_body), tmp_path / "out"
    first, _ = trained(run, out)
    (out / "local" / "south-echo" / "correct.npy").unlink()
    with pytest.raises(FolderError, match="missing: south-echo"):
        beside(out)
    again, count = trained(run, out)
    assert (again, count) == (first, 1)
    assert not (out / "local" / "outlets").exists()  # no copies of readers' data stay


@pytest.mark.parametrize("partition", ["iid", "column:outlet"])
def test_a_split_outlet_trains_alone_on_its_part(
    tmp_path: Path, contract_body: Body, partition: str, parts: dict[str, pa.Table]
) -> None:
    run = made(tmp_path, contract_body, papers=False)
    whole = [pq.read_table(tmp_path / "data" / f"{name}.parquet") for name in OUTLETS]
    names = [pa.array([name] * len(part)) for name, part in zip(OUTLETS, whole, strict=True)]
    named = [part.append_column("outlet", n) for part, n in zip(whole, names, strict=True)]
    readers = [
        part.set_column(0, "reader", pa.array([f"{i}{r}" for r in part["reader"].to_pylist()]))
        for i, part in enumerate(named)
    ]
    pq.write_table(pa.concat_tables(readers), tmp_path / "all.parquet")
    assert run.simulation is not None
    split = {"data": tmp_path / "all.parquet", "partition": partition}
    simulation = run.simulation.model_copy(update=split)
    table, count = trained(run.model_copy(update={"simulation": simulation}), tmp_path / "out")
    assert count == 3
    for name in OUTLETS:  # what it had in the run
        assert parts[name] == pq.read_table(tmp_path / "out" / "outlets" / f"{name}.parquet")
    assert not any(row.own for row in table.rows)  # the file says nobody's rows
    assert len({row.rows for row in table.rows}) == 1


def test_another_held_out_file_is_not_mixed_in(tmp_path: Path, contract_body: Body) -> None:
    run, out = made(tmp_path, contract_body), tmp_path / "out"
    trained(run, out)
    rows = pq.read_table(tmp_path / "held_out.parquet")
    pq.write_table(rows.slice(3), tmp_path / "held_out.parquet")
    with pytest.raises(FolderError, match="another held-out file"):
        trained(run, out)


def test_what_is_needed_first_is_told(
    tmp_path: Path,
    contract_body: Body,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    presspool = typed(monkeypatch, capsys)
    run, out = write_run(tmp_path, contract_body), tmp_path / "out"
    run.write_text(run.read_text().replace("evaluation =", "# evaluation ="))
    for arguments, said in (
        (("simulate", run, "--out", out, "--local-only"), "nothing to judge models on"),
        (("simulate", run, "--local-only", "--prepare-only"), "leave all but one of them out"),
        (("compare", out, "--local"), "not a run folder"),
    ):
        answer = presspool(*arguments)
        assert answer.code == 2
        assert said in answer.err
    assert not out.exists()
    simulate(read_run_file(run), SimulateOptions(out=out, workers=0))
    answer = presspool("compare", out, "--local")
    assert answer.code == 2
    assert "--local-only trains them" in answer.err
