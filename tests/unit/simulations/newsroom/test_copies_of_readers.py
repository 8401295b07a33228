"""A run folder's copies of readers' records: whose they are, how long they stay, who is in two."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.conftest import made_rows
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_runs import write_run

from presspool.common.runs.run_file import read_run_file
from presspool.simulations import simulate

Body = dict[str, Any]


@pytest.fixture
def presspool(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return typed(monkeypatch, capsys)


@pytest.fixture
def run(tmp_path: Path, contract_body: Body) -> Path:
    """A run whose one file names each record's outlet; five readers are at both."""
    rows = [
        row | {"site": name, "reader": f"{row['reader']} of {name}"}
        for name in ("North Post", "South Echo")
        for row in made_rows(name, 30)
    ]
    both = {f"r{number} of North Post" for number in range(5)}
    rows += [row | {"site": "South Echo"} for row in rows if row["reader"] in both]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pooled.parquet")
    simulation = {"data": "pooled.parquet", "partition": "column:site"}
    return write_run(tmp_path, contract_body, simulation=simulation)


def parquets(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))


def copies(folder: Path) -> list[Path]:
    return sorted((folder / "outlets").glob("*.parquet"))


def simulated(run: Path, out: Path, **options: Any) -> None:
    """As by `presspool simulate`, without worker processes."""
    chosen = simulate.SimulateOptions(out=out, workers=0, **options)
    assert simulate.simulate(read_run_file(run), chosen).status == "complete"


def test_the_copies_are_their_owners_alone_and_go_when_the_run_is_complete(
    presspool: Command, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs" / "x"
    assert presspool("simulate", str(run), "--out", str(out), "--prepare-only")[0] == 0
    assert stat.S_IMODE((out / "outlets").stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in copies(out)] == [0o600, 0o600]
    simulated(run, out, resume=True)
    assert copies(out) == []
    assert (tmp_path / "pooled.parquet").exists()
    simulated(run, out, resume=True)  # complete: nobody's records are read for it


def test_the_copies_and_a_ledgers_snapshots_stay_where_that_is_asked_for(
    run: Path, tmp_path: Path
) -> None:
    for keep in (True, False):
        out = tmp_path / "runs" / str(keep)
        simulated(run, out, keep_data=keep, ledgers=True)
        kept = sorted(
            f"outlets/{name}{ending}"
            for name in ("north-post", "south-echo")
            for ending in (".parquet", "/snapshot.parquet")
        )
        assert parquets(out) == (kept if keep else [])


def test_how_many_readers_are_at_several_outlets_is_said(
    presspool: Command, run: Path, tmp_path: Path
) -> None:
    words = ("simulate", str(run), "--out", str(tmp_path / "runs" / "x"), "--prepare-only")
    code, _, said = presspool(*words)
    assert code == 0
    assert "5 of 60 readers are at several outlets, one of them at 2" in said
    assert "the sum over their outlets" in said


def test_so_it_is_where_each_outlet_has_a_file(
    presspool: Command, tmp_path: Path, contract_body: Body
) -> None:
    """The made files number their readers alike: who is r0 in both is one of them."""
    run = write_run(tmp_path, contract_body)
    words = ("simulate", str(run), "--out", str(tmp_path / "runs" / "x"), "--prepare-only")
    said = presspool(*words).err
    few, many = sorted(contract_body["outlets"].values())
    assert f"{few} of {many} readers are at several outlets, one of them at 2" in said
    assert "if an id means one person everywhere" in said


@pytest.mark.parametrize("partition", ["iid", "dirichlet:50"])
def test_where_readers_are_dealt_out_nobody_is_at_two(
    presspool: Command, run: Path, tmp_path: Path, partition: str
) -> None:
    run.write_text(run.read_text().replace("column:site", partition))
    words = ("simulate", str(run), "--out", str(tmp_path / "runs" / "x"), "--prepare-only")
    code, _, said = presspool(*words)
    assert (code, "several outlets" in said) == (0, False)
