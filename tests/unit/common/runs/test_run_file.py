"""`run.toml`: what it holds, where its paths lead, and what each mistake is told."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.made_runs import toml

from presspool.common.base.errors import ContractError, InputError, ModelError
from presspool.common.runs.clock_table import ClockTable
from presspool.common.runs.run_file import Simulation, freeze, read_run_file

Body = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def write(folder: Path, body: Body) -> Path:
    path = folder / "run.toml"
    path.write_text(toml(body), encoding="utf-8")
    return path


def refused(folder: Path, body: Body) -> InputError:
    """The error of a run file, which always names the file."""
    with pytest.raises(ContractError) as caught:
        read_run_file(write(folder, body))
    assert str(folder / "run.toml") in caught.value.where
    assert caught.value.exit_code == 2
    return caught.value


def test_the_contract_is_the_body_without_the_two_tables(folder: Path, contract_body: Body) -> None:
    bare = read_run_file(write(folder, contract_body))
    assert (bare.simulation, bare.evaluation) == (None, None)
    tables = {"simulation": {"data": "x"}, "evaluation": {"data": "y.csv"}}
    whole = read_run_file(write(folder, contract_body | tables))
    assert whole.contract.digest == bare.contract.digest


def test_relative_paths_start_at_the_run_files_folder(folder: Path, contract_body: Body) -> None:
    tables = {"simulation": {"data": "sub/readers"}, "evaluation": {"data": "/abs/held_out.csv"}}
    run = read_run_file(write(folder, contract_body | tables))
    assert run.simulation is not None
    assert run.evaluation is not None
    assert run.simulation.data == folder / "sub" / "readers"
    assert run.evaluation.data == Path("/abs/held_out.csv")
    assert dict(run.evaluation.columns) == {"text": "text", "label": "label"}
    assert (run.simulation.partition, run.simulation.workers) == ("files", 2)


@pytest.mark.parametrize("partition", ["files", "iid", "column:site", "dirichlet:0.5"])
def test_the_four_ways_to_split(partition: str) -> None:
    assert Simulation(data=Path("x"), partition=partition).partition == partition


@pytest.mark.parametrize(
    "partition",
    [
        "",
        "IID",
        "column:",
        "column",
        "dirichlet",
        "dirichlet:",
        "dirichlet:0",
        "dirichlet:-1",
        "dirichlet:nan",
        "dirichlet:inf",
        "dirichlet:1e-9",
        "dirichlet:1.2.3",
        "dirichlet:much",
    ],
)
def test_other_ways_to_split_are_refused(folder: Path, contract_body: Body, partition: str) -> None:
    body = contract_body | {"simulation": {"data": "x", "partition": partition}}
    error = refused(folder, body)
    assert error.where.endswith("run.toml [simulation] partition")
    assert error.got == partition


@pytest.mark.parametrize(
    ("table", "key", "near"),
    [
        ("simulation", "worker", "workers"),
        ("simulation", "patition", "partition"),
        ("evaluation", "column", "columns"),
        ("privacy", "sample_rate", "sampling_rate"),
        ("federation", "local-steps", "local_steps"),
    ],
)
def test_an_unknown_key_is_told_the_nearest_known(
    folder: Path, contract_body: Body, table: str, key: str, near: str
) -> None:
    usual = {"simulation": {"data": "x"}, "evaluation": {"data": "y"}} | contract_body
    error = refused(folder, usual | {table: {**usual[table], key: 1}})
    assert (error.what, error.got) == ("unknown key", key)
    assert f"[{table}] {key}" in error.where
    assert error.advice == f"did you mean {near!r}?"


@pytest.mark.parametrize(
    ("table", "flat", "line"),
    [
        ("evaluation", {"text": "title"}, 'columns = { text = "title" }'),
        ("evaluation", {"label": "a", "columns": {"text": "b"}}, '{ text = "b", label = "a" }'),
        ("simulation", {"reader": "user"}, 'columns = { reader = "user" }'),
    ],
)
def test_columns_have_one_shape_and_any_other_is_told_the_line(
    folder: Path, contract_body: Body, table: str, flat: Body, line: str
) -> None:
    right = {"columns": {"text": "title", "label": "topic"}}
    run = read_run_file(write(folder, contract_body | {table: {"data": "x", **right}}))
    assert dict(getattr(run, table).columns).items() >= right["columns"].items()
    error = refused(folder, contract_body | {table: {"data": "x", **flat}})
    assert line in error.advice
    assert f"[{table}]" in error.where


def test_an_unknown_table_is_told_the_nearest_known(folder: Path, contract_body: Body) -> None:
    error = refused(folder, contract_body | {"optimiser": {"learning_rate": 1.0}})
    assert error.where.endswith("optimiser")
    assert error.advice == "did you mean 'optimizer'?"


@pytest.mark.parametrize("table", ["simulation", "evaluation"])
@pytest.mark.parametrize("value", [3, "data", ["data"], True])
def test_a_table_must_be_a_table(
    folder: Path, contract_body: Body, table: str, value: object
) -> None:
    error = refused(folder, contract_body | {table: value})
    assert (error.what, error.got) == ("not a table", value)
    assert error.expected == f"[{table}] and keys below it"


@pytest.mark.parametrize("table", ["simulation", "evaluation"])
def test_data_must_be_named(folder: Path, contract_body: Body, table: str) -> None:
    error = refused(folder, contract_body | {table: {}})
    assert error.what == "missing key"
    assert error.where.endswith("data")


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("privacy", "epsilon", 0),
        ("privacy", "epsilon", -1.0),
        ("privacy", "delta", 0),
        ("privacy", "delta", 1),
        ("privacy", "sampling_rate", 0),
        ("privacy", "sampling_rate", 1.5),
        ("privacy", "noise_multiplier", -0.1),
        ("privacy", "records_per_reader", 0),
        ("privacy", "clip", 0),
        ("federation", "rounds", 0),
        ("federation", "update_norm_cap", -1),
        ("simulation", "workers", 0),
        ("simulation", "outlets", 0),
        ("outlets", "north-post", 0),
    ],
)
def test_an_impossible_number_is_refused_with_its_place(
    folder: Path, contract_body: Body, table: str, key: str, value: float
) -> None:
    usual = {"simulation": {"data": "x"}} | contract_body
    error = refused(folder, usual | {table: {**usual[table], key: value}})
    assert key in error.where
    assert f"[{table}" in error.where


def test_delta_is_held_against_the_largest_outlet(folder: Path, contract_body: Body) -> None:
    body = contract_body | {"privacy": contract_body["privacy"] | {"delta": 0.05}}
    error = refused(folder, body)  # 0.05 is 1/20, but one outlet has 30 readers
    assert "1/population" in error.what
    assert "north-post" in error.what


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"name = ", "not readable as TOML"),
        (b"name = 'a'\nname = 'b'", "not readable as TOML"),
        (b"name = '\xff'", "not readable as TOML"),
        ("name = 'a'".encode("utf-16"), "not readable as TOML"),
        (b"", "missing key"),
    ],
)
def test_what_is_not_toml_is_told_so(folder: Path, content: bytes, what: str) -> None:
    path = folder / "run.toml"
    path.write_bytes(content)
    with pytest.raises(ContractError) as caught:
        read_run_file(path)
    assert caught.value.what == what
    assert str(path) in caught.value.where


def test_a_missing_file_and_a_folder_are_told_so(folder: Path) -> None:
    with pytest.raises(ContractError, match="no such file"):
        read_run_file(folder / "run.toml")
    with pytest.raises(ContractError, match="cannot read the run's file"):
        read_run_file(folder)


# --- Fewer outlets ------------------------------------------------------------------------------


def test_the_first_outlets_make_another_contract(folder: Path, contract_body: Body) -> None:
    body = contract_body | {"federation": contract_body["federation"] | {"quorum": 1}}
    run = read_run_file(write(folder, body))
    assert run.first_outlets(None) is run
    assert list(run.first_outlets(1).contract.outlets) == ["north-post"]
    assert run.first_outlets(1).contract.digest != run.contract.digest
    assert run.first_outlets(2).contract.digest == run.contract.digest


@pytest.mark.parametrize("count", [0, 3, -1])
def test_more_outlets_than_there_are_is_refused(
    folder: Path, contract_body: Body, count: int
) -> None:
    with pytest.raises(ContractError) as caught:
        read_run_file(write(folder, contract_body)).first_outlets(count)
    assert (caught.value.expected, caught.value.got) == ("1 to 2", count)


def test_fewer_outlets_than_the_quorum_is_refused(folder: Path, contract_body: Body) -> None:
    with pytest.raises(ContractError, match="quorum"):
        read_run_file(write(folder, contract_body)).first_outlets(1)


# --- Freezing -----------------------------------------------------------------------------------


def test_freezing_fills_in_the_noise_and_the_hashes(folder: Path, contract_body: Body) -> None:
    privacy = {k: v for k, v in contract_body["privacy"].items() if k != "noise_multiplier"}
    open_body = contract_body | {
        "model": {"id": contract_body["model"]["id"]},
        "privacy": privacy | {"epsilon": 4.0},
    }
    contract = freeze(read_run_file(write(folder, open_body)).contract)
    assert contract.frozen
    assert contract.model.weights == contract_body["model"]["weights"]
    assert contract.model.tokenizer == contract_body["model"]["tokenizer"]
    assert 3.9 < contract.plan.epsilon() <= 4.0
    assert freeze(contract).digest == contract.digest


def test_an_unprotected_run_freezes_without_noise(folder: Path, contract_body: Body) -> None:
    privacy = {k: v for k, v in contract_body["privacy"].items() if k != "noise_multiplier"}
    body = contract_body | {"privacy": privacy | {"epsilon": "inf"}}
    contract = freeze(read_run_file(write(folder, body)).contract)
    assert contract.privacy.noise_multiplier == 0
    assert contract.privacy.epsilon == math.inf
    assert not contract.plan.protected


@pytest.mark.parametrize("key", ["weights", "tokenizer", "manifest"])
def test_another_model_than_the_pinned_one_is_refused(
    folder: Path, contract_body: Body, key: str
) -> None:
    wrong = "sha256:" + "0" * 64
    body = contract_body | {"model": contract_body["model"] | {key: wrong}}
    with pytest.raises(ModelError, match="not the pinned ones") as caught:
        freeze(read_run_file(write(folder, body)).contract)
    assert caught.value.expected == wrong
    assert caught.value.got == contract_body["model"][key]


def test_noise_that_costs_more_than_epsilon_is_refused(folder: Path, contract_body: Body) -> None:
    body = contract_body | {"privacy": contract_body["privacy"] | {"epsilon": 0.5}}
    with pytest.raises(ContractError, match="contradict"):
        freeze(read_run_file(write(folder, body)).contract)


def test_unsure_answers_need_public_rows_to_be_chosen_on(folder: Path, contract_body: Body) -> None:
    body = contract_body | {"task": contract_body["task"] | {"sure": 0.9}}
    error = refused(folder, body)
    assert error.where.endswith("[task] sure")
    assert "[evaluation]" in str(error.expected)
    asked = read_run_file(write(folder, body | {"evaluation": {"data": "held_out.parquet"}}))
    assert asked.contract.body()["task"]["sure"] == 0.9


CLOCK = {"deadline": 60.0}


def test_a_clock_stands_outside_the_digest_and_its_trace_beside_the_file(
    folder: Path, contract_body: Body
) -> None:
    clock = CLOCK | {"trace": "there.csv"}
    run = read_run_file(
        write(folder, contract_body | {"simulation": {"data": "x", "clock": clock}})
    )
    assert run.simulation is not None
    assert run.simulation.clock is not None
    assert run.simulation.clock.trace == folder / "there.csv"
    assert run.contract.digest == read_run_file(write(folder, contract_body)).contract.digest


def test_a_clock_s_digest_covers_the_trace_s_content(folder: Path) -> None:
    clock = ClockTable(deadline=60.0, trace=folder / "there.csv")
    with pytest.raises(InputError, match="no trace"):
        _ = clock.digest
    found = set()
    for text in ("outlet,from,until", "outlet,from,until\na,1,2"):
        (folder / "there.csv").write_text(text)
        found.add(clock.digest)
    assert len(found | {ClockTable(deadline=60.0).digest}) == 3
    (folder / "there.csv").rename(folder / "moved.csv")
    assert clock.model_copy(update={"trace": folder / "moved.csv"}).digest in found


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"deadline": 0.0}, "deadline"),
        ({"failures": 1.0}, "failures"),
        ({"failures": -0.1}, "failures"),
        ({"speeds": "normal:1"}, "speeds"),
        ({"speeds": "lognormal:much"}, "speeds"),
        ({"links": "pareto:0.1"}, "links"),
        ({"step_seconds": True}, "step_seconds"),
        ({"seed": -1}, "seed"),
        ({"pattern": "weekends"}, "pattern"),
        ({"pattern": "nights", "trace": "there.csv"}, "clock"),
        ({"buffers": 3}, "buffers"),
    ],
)
def test_a_wrong_clock_is_refused_by_its_key(
    folder: Path, contract_body: Body, changes: Body, key: str
) -> None:
    table = {"data": "x", "clock": CLOCK | changes}
    assert key in refused(folder, contract_body | {"simulation": table}).where


def test_a_clock_has_a_deadline(folder: Path, contract_body: Body) -> None:
    table = {"data": "x", "clock": {"failures": 0.1}}
    assert "deadline" in refused(folder, contract_body | {"simulation": table}).where
