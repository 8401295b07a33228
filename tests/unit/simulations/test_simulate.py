"""`presspool simulate` up to the first round: bad input is told in words and leaves nothing behind.

The commands run in this process, through the entry point that the installed command has.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from tests.conftest import made_rows
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_runs import toml, write_run

from presspool.client.identity.settings import read_settings
from presspool.common.base.errors import ContractError, FolderError, InputError
from presspool.common.runs.run_file import RunFile, read_run_file
from presspool.common.runs.run_folder import RunFolder, Setup
from presspool.simulations.grids.simulation_grid import Check
from presspool.simulations.simulate import Prepared, SimulateOptions, prepare

Body = dict[str, Any]


@pytest.fixture
def presspool(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """A function that runs a command and gives exit code, output and messages."""
    return typed(monkeypatch, capsys)


def options(folder: Path, **changes: Any) -> SimulateOptions:
    return SimulateOptions(**{"out": folder / "runs" / "x"} | changes)


def prepared(path: Path, **changes: Any) -> Prepared:
    return prepare(read_run_file(path), options(path.parent, **changes))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- What is prepared ---------------------------------------------------------------------------


def test_a_prepared_folder_is_ready_to_run(tmp_path: Path, contract_body: Body) -> None:
    run = prepared(write_run(tmp_path, contract_body), deterministic=7)
    assert run.outlets == tuple(
        run.folder.outlets / f"{name}.toml" for name in contract_body["outlets"]
    )
    for path, name in zip(run.outlets, contract_body["outlets"], strict=True):
        settings = read_settings(path)
        assert (settings.name, settings.deterministic) == (name, 7)
        assert settings.data == tmp_path / "data" / f"{name}.parquet"
    assert run.folder.read_contract().frozen
    assert run.folder.read_setup() == Setup(
        evaluation=str(tmp_path / "held_out.parquet"), deterministic=7
    )


def test_the_contract_in_the_folder_is_frozen(tmp_path: Path, contract_body: Body) -> None:
    privacy = {k: v for k, v in contract_body["privacy"].items() if k != "noise_multiplier"}
    body = contract_body | {
        "model": {"id": contract_body["model"]["id"]},
        "privacy": privacy | {"epsilon": "inf"},
    }
    contract = prepared(write_run(tmp_path, body)).folder.read_contract()
    assert contract.model.weights == contract_body["model"]["weights"]
    assert contract.privacy.noise_multiplier == 0


def test_without_held_out_data_nothing_is_evaluated(tmp_path: Path, contract_body: Body) -> None:
    path = write_run(tmp_path, contract_body)
    run = read_run_file(path)
    bare = RunFile(contract=run.contract, simulation=run.simulation)
    assert prepare(bare, options(tmp_path)).folder.read_setup() == Setup()


@pytest.mark.parametrize(("asked", "table", "count"), [(1, 2, 1), (None, 1, 1), (None, None, 2)])
def test_the_command_line_decides_how_many_outlets_before_the_run_file(
    tmp_path: Path, contract_body: Body, asked: int | None, table: int | None, count: int
) -> None:
    body = contract_body | {"federation": contract_body["federation"] | {"quorum": 1}}
    simulation = {} if table is None else {"outlets": table}
    run = prepared(write_run(tmp_path, body, simulation=simulation), outlets=asked)
    assert len(run.outlets) == len(run.folder.read_contract().outlets) == count


def test_prepare_only_writes_the_folder_and_trains_nothing(
    tmp_path: Path, contract_body: Body, presspool: Command
) -> None:
    path = write_run(tmp_path, contract_body)
    out = tmp_path / "runs" / "x"
    code, said, _ = presspool("simulate", path, "--prepare-only", "--out", out)
    assert code == 0
    assert "2 outlets" in " ".join(said.split())
    assert sorted(snapshot(out)) == [
        "contract.json",
        "outlets/north-post.toml",
        "outlets/south-echo.toml",
        "setup.json",
    ]


# --- Going on -----------------------------------------------------------------------------------


def test_what_workers_cannot_read_takes_the_folder_back(
    tmp_path: Path, contract_body: Body
) -> None:
    seen: list[bool] = []

    def look(outlets: Sequence[Path], _: Check) -> None:
        seen.extend(path.exists() for path in outlets)
        raise InputError("a node lacks a file")

    run = read_run_file(write_run(tmp_path, contract_body))
    with pytest.raises(InputError, match="a node lacks a file"):
        prepare(run, options(tmp_path), look=look)
    assert seen == [True, True]
    assert not (tmp_path / "runs").exists()


def test_a_continued_run_keeps_its_split_whatever_the_run_file_says_now(
    tmp_path: Path, contract_body: Body
) -> None:
    """[simulation] is not part of the contract, so its change would go unnoticed otherwise."""
    rows = pa.Table.from_pylist(made_rows("pooled", 60))
    path = write_run(
        tmp_path, contract_body, simulation={"data": "pooled.parquet", "partition": "iid"}
    )
    pq.write_table(rows, tmp_path / "pooled.parquet")
    before = snapshot(prepared(path).folder.path)
    path.write_text(path.read_text().replace('"iid"', '"dirichlet:50"'))
    again = prepared(path, resume=True)
    assert snapshot(again.folder.path) == before
    assert [read_settings(outlet).name for outlet in again.outlets] == ["north-post", "south-echo"]


def test_a_run_is_not_continued_with_other_noise(tmp_path: Path, contract_body: Body) -> None:
    path = write_run(tmp_path, contract_body)
    folder = prepared(path).folder
    before = snapshot(folder.path)
    for deterministic in (7, 0):
        with pytest.raises(FolderError, match="another setup"):
            prepared(path, resume=True, deterministic=deterministic)
    assert snapshot(folder.path) == before


def test_a_continued_run_is_refused_where_its_data_is_gone(
    tmp_path: Path, contract_body: Body
) -> None:
    path = write_run(tmp_path, contract_body)
    folder = prepared(path).folder
    before = snapshot(folder.path)
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(InputError, match="missing file"):
        prepared(path, resume=True)
    assert snapshot(folder.path) == before


@pytest.mark.parametrize("words", [(), ("--prepare-only",)])
def test_an_unknown_grid_is_refused_where_it_stands_and_the_nearest_suggested(
    tmp_path: Path, contract_body: Body, presspool: Command, words: tuple[str, ...]
) -> None:
    path = write_run(tmp_path, contract_body)
    path.write_text(
        toml(contract_body | {"simulation": {"data": "data", "grid": "locl"}}), encoding="utf-8"
    )
    found = presspool("simulate", path, "--out", tmp_path / "new", *words)
    assert found.code == 2
    assert "run.toml [simulation] grid: unknown grid" in found.err
    assert "did you mean 'local'?" in found.err
    assert not (tmp_path / "new").exists()


def test_there_must_be_something_to_simulate(tmp_path: Path, contract_body: Body) -> None:
    path = tmp_path / "run.toml"
    path.write_text(toml(contract_body))
    with pytest.raises(ContractError, match="nothing to simulate"):
        prepare(read_run_file(path), options(tmp_path))


# --- Bad input ----------------------------------------------------------------------------------


def changed(body: Body, table: str, **keys: Any) -> Body:
    return body | {table: body[table] | keys}


def data_of(folder: Path, name: str = "north-post") -> Path:
    return folder / "data" / f"{name}.parquet"


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def no_labels(table: pa.Table, label: str) -> pa.Table:
    return table.set_column(2, "label", pa.array([label] * table.num_rows))


ZERO = "sha256:" + "0" * 64

# What is wrong, how it comes about, and what the message must hold: file or key, expected, got.
BAD_CONTRACTS: dict[str, tuple[Callable[[Body], Body], tuple[str, ...]]] = {
    "epsilon of zero": (
        lambda body: changed(body, "privacy", epsilon=0),
        ("run.toml", "[privacy] epsilon", "greater than 0", "got", "0"),
    ),
    "negative epsilon": (
        lambda body: changed(body, "privacy", epsilon=-3),
        ("run.toml", "[privacy] epsilon", "greater than 0", "got", "-3"),
    ),
    "delta of 1/population": (
        lambda body: changed(body, "privacy", delta=1 / 30),
        ("run.toml", "privacy.delta is 0.0333", "1/population", "north-post", "lower delta"),
    ),
    "sampling rate above 1": (
        lambda body: changed(body, "privacy", sampling_rate=1.5),
        ("run.toml", "[privacy] sampling_rate", "1 or less", "got", "1.5"),
    ),
    "unknown key": (
        lambda body: changed(body, "privacy", sampling_rat=0.1),
        ("run.toml", "[privacy] sampling_rat", "unknown key", "did you mean 'sampling_rate'?"),
    ),
    "unknown table": (
        lambda body: body | {"fedration": {}},
        ("run.toml", "fedration", "unknown key", "did you mean 'federation'?"),
    ),
    "wrong weights": (
        lambda body: changed(body, "model", weights=ZERO),
        ("[model]", "model weights are not the pinned ones", f"expected {ZERO}", "got"),
    ),
    "wrong tokenizer": (
        lambda body: changed(body, "model", tokenizer=ZERO),
        ("[model]", "model tokenizer are not the pinned ones", f"expected {ZERO}", "got"),
    ),
    "no model": (
        lambda body: body | {"model": {"id": "no/such-model"}},
        ("[model] no/such-model", "no base model here", "expected", "got"),
    ),
    "a mistyped model": (
        lambda body: body | {"model": {"id": "smollm2-135m-instrukt"}},
        ("no base model here", "models list", "did you mean 'smollm2-135m-instruct'?"),
    ),
    "LoRA targets that are not there": (
        lambda body: changed(body, "adapter", targets=["query", "q_proj"]),
        ("[adapter] targets", "expected names among", "query", "got      q_proj"),
    ),
    "quorum of more than there are": (
        lambda body: changed(body, "federation", quorum=3),
        ("run.toml", "federation.quorum is 3", "only 2", "lower the quorum"),
    ),
    "a population that no outlet reaches": (
        lambda body: changed(body, "outlets", **{"south-echo": 21}),
        ("south-echo.parquet", "expected at least 21", "got      20"),
    ),
}

BAD_DATA: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "missing data": (
        lambda folder: data_of(folder).unlink(),
        ("no data for north-post", "data", "expected north-post.parquet"),
    ),
    "empty data": (
        lambda folder: data_of(folder).write_bytes(b""),
        ("north-post.parquet", "empty file", "expected", "got"),
    ),
    "data that is something else": (
        lambda folder: data_of(folder).write_bytes(b"reader,text,label\n"),
        ("north-post.parquet", "unreadable file", "expected", "got"),
    ),
    "wrong column": (
        lambda folder: rewrite(data_of(folder), lambda t: t.rename_columns(["id", *"tl"])),
        ("north-post.parquet", "missing column 'reader'", "expected", "got", "'id'"),
    ),
    "unknown label": (
        lambda folder: rewrite(data_of(folder), lambda t: no_labels(t, "weather")),
        ("north-post.parquet", "unknown label", "expected one of 'world'", "got", "'weather'"),
    ),
    "null reader": (
        lambda folder: rewrite(
            data_of(folder),
            lambda t: t.set_column(0, "reader", pa.nulls(t.num_rows, pa.string())),
        ),
        ("north-post.parquet", "null reader", "expected", "got"),
    ),
    "fewer readers than declared": (
        lambda folder: rewrite(data_of(folder, "south-echo"), lambda t: t.slice(0, 9)),
        ("south-echo.parquet", "fewer readers", "expected at least 20", "got"),
    ),
    "missing held-out file": (
        lambda folder: (folder / "held_out.parquet").unlink(),
        ("held_out.parquet", "missing file", "expected a file", "got      no such file"),
    ),
    "empty held-out file": (
        lambda folder: rewrite(folder / "held_out.parquet", lambda t: t.slice(0, 0)),
        ("held_out.parquet", "no records", "expected", "got"),
    ),
    "wrong column in the held-out file": (
        lambda folder: rewrite(folder / "held_out.parquet", lambda t: t.drop_columns(["text"])),
        ("held_out.parquet", "missing column 'text'", "expected", "got", "'label'"),
    ),
    "unknown label in the held-out file": (
        lambda folder: rewrite(
            folder / "held_out.parquet",
            lambda t: t.set_column(1, "label", pa.array(["weather"] * t.num_rows)),
        ),
        ("held_out.parquet", "unknown label", "expected one of 'world'", "got", "'weather'"),
    ),
}


def refused(presspool: Command, path: Path, *more: str) -> str:
    """The message of a simulation that is refused without leaving a trace."""
    before = snapshot(path.parent)
    out = path.parent / "runs" / "x"
    code, said, message = presspool("simulate", path, "--out", out, *more)
    assert code == 2
    assert said == ""
    assert "Traceback" not in message
    assert message.count("error:") == 1
    assert snapshot(path.parent) == before
    assert not (path.parent / "runs").exists()
    return message


@pytest.mark.parametrize("what", BAD_CONTRACTS)
def test_a_bad_run_file_is_refused(
    tmp_path: Path, contract_body: Body, presspool: Command, what: str
) -> None:
    spoil, parts = BAD_CONTRACTS[what]
    path = write_run(tmp_path, contract_body)
    bad = toml(spoil(contract_body)) + "\n".join(
        ['simulation = { "data" = "data" }', 'evaluation = { "data" = "held_out.parquet" }', ""]
    )
    path.write_text(bad)
    message = refused(presspool, path)
    for part in parts:
        assert part in message


@pytest.mark.parametrize("what", BAD_DATA)
def test_bad_data_is_refused(
    tmp_path: Path, contract_body: Body, presspool: Command, what: str
) -> None:
    spoil, parts = BAD_DATA[what]
    path = write_run(tmp_path, contract_body)
    spoil(tmp_path)
    message = refused(presspool, path)
    for part in parts:
        assert part in message


def test_bad_pooled_data_is_refused(
    tmp_path: Path, contract_body: Body, presspool: Command
) -> None:
    simulation = {"data": "pooled.csv", "partition": "iid"}
    path = write_run(tmp_path, contract_body, simulation=simulation)
    pa_csv.write_csv(pa.Table.from_pylist(made_rows("pooled", 49)), tmp_path / "pooled.csv")
    assert "expected at least" in refused(presspool, path)  # 50 are declared
    (tmp_path / "pooled.csv").write_bytes(b"reader,text,label\nr1,caf\xe9,sport\n")
    assert "wrong encoding" in refused(presspool, path)


@pytest.mark.parametrize("more", [("--outlets", "3"), ("--outlets", "1"), ("--resume",)])
def test_bad_options_are_refused(
    tmp_path: Path, contract_body: Body, presspool: Command, more: tuple[str, ...]
) -> None:
    """More outlets than there are, fewer than the quorum, nothing to continue."""
    refused(presspool, write_run(tmp_path, contract_body), *more)


@pytest.mark.parametrize("more", [("--workers", "0"), ("--outlets", "0"), ("--deterministic", "x")])
def test_options_that_are_none_are_refused(
    tmp_path: Path, contract_body: Body, presspool: Command, more: tuple[str, ...]
) -> None:
    path = write_run(tmp_path, contract_body)
    code, _, message = presspool("simulate", path, "--out", tmp_path / "runs", *more)
    assert code == 2
    assert more[0] in message
    assert not (tmp_path / "runs").exists()


def test_a_missing_run_file_is_refused(tmp_path: Path, presspool: Command) -> None:
    assert "no such file" in refused(presspool, tmp_path / "run.toml")


def test_a_folder_that_holds_another_run_is_refused_and_untouched(
    tmp_path: Path, contract_body: Body, presspool: Command
) -> None:
    path = write_run(tmp_path, contract_body)
    folder: RunFolder = prepared(path).folder
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.path.rglob("*.*")}
    path.write_text(path.read_text().replace("seed = 3", "seed = 4"))
    for more in ((), ("--resume",)):
        code, said, message = presspool("simulate", path, "--out", folder.path, *more)
        assert (code, said) == (2, "")
        assert str(folder.path) in message
        assert "choose another --out" in message
    after = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.path.rglob("*.*")}
    assert after == before
