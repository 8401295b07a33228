"""What `contract check` says of files that stand outside the contract: all of it, as no fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_runs import toml

from presspool.common.runs.named_files import missing
from presspool.common.runs.run_file import read_run_file

Body = dict[str, Any]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, "contract", "check")


def written(folder: Path, body: Body, **tables: Body) -> Path:
    path = folder / "run.toml"
    path.write_text(toml(body | tables), encoding="utf-8")
    return path


def test_files_that_are_there_are_not_spoken_of(
    check: Command, tmp_path: Path, contract_body: Body
) -> None:
    (tmp_path / "data").mkdir()
    for name in contract_body["outlets"]:
        (tmp_path / "data" / f"{name.upper()}.csv").write_text("user,text,label\n")
    (tmp_path / "public.csv").write_text("headline,label\n")
    run = written(
        tmp_path,
        contract_body,
        simulation={"data": "data", "columns": {"reader": "user"}},
        evaluation={"data": "public.csv", "columns": {"text": "headline"}},
    )
    assert missing(read_run_file(run)) == {}
    answer = check(run)
    assert answer.code == 0, answer.err
    assert "a simulation would stop here" not in answer.out
    assert json.loads(check(run, "--json").out)["missing"] == {}


def test_a_contract_alone_names_no_files(tmp_path: Path, contract_body: Body) -> None:
    assert missing(read_run_file(written(tmp_path, contract_body))) == {}


@pytest.mark.parametrize(
    ("simulation", "says"),
    [
        ({"data": "absent"}, "no data for"),
        ({"data": "absent.csv", "partition": "iid"}, "absent.csv: missing file"),
        ({"data": "public.csv", "partition": "iid"}, "missing column 'reader'"),
        ({"data": "whole.csv", "partition": "column:site"}, "missing column 'site'"),
        ({"data": "empty.csv", "partition": "dirichlet:1"}, "empty file"),
    ],
)
def test_what_a_simulation_would_miss_is_said_beside_the_contract(
    check: Command, tmp_path: Path, contract_body: Body, simulation: Body, says: str
) -> None:
    (tmp_path / "public.csv").write_text("text,label\n")
    (tmp_path / "whole.csv").write_text("reader,text,label\n")
    (tmp_path / "empty.csv").write_text("")
    run = written(tmp_path, contract_body, simulation=simulation)
    answer = check(run)
    assert answer.code == 0, answer.err
    assert "[simulation] is no part of the contract, but a simulation would stop" in answer.out
    assert says in answer.out
    assert says in json.loads(check(run, "--json").out)["missing"]["[simulation]"]


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "missing file"), ("title,label\n", "missing column 'text'"), ("", "empty file")],
)
def test_what_is_missing_of_the_public_file_is_said(
    check: Command, tmp_path: Path, contract_body: Body, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "public.csv").write_text(content)
    run = written(tmp_path, contract_body, evaluation={"data": "public.csv"})
    answer = check(run)
    assert answer.code == 0, answer.err
    assert "[evaluation] is no part of the contract" in answer.out
    assert says in answer.out
