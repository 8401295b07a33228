"""The ServerApp on a network: outlets come one by one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, RecordDict
from tests.fakes.made_runs import write_run

from presspool.common.base.errors import InputError, QuorumError
from presspool.common.runs.result_file import read_result
from presspool.common.runs.run_file import read_run_file
from presspool.server.rounds import server_app
from presspool.simulations.grids.local_grid import LocalGrid
from presspool.simulations.simulate import SimulateOptions, prepare


class SlowGrid(LocalGrid):
    """A LocalGrid whose outlets connect one look after the other."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.looks: Iterator[int] = itertools.count()

    def get_node_ids(self) -> list[int]:
        return list(super().get_node_ids())[: next(self.looks)]


def context(folder: Path | None) -> Context:
    config: dict[str, Any] = {"run-folder": str(folder)} if folder else {}
    return Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config=config)


def test_a_run_begins_when_as_many_outlets_are_there_as_the_quorum_asks_for(
    tmp_path: Path, contract_body: dict[str, Any]
) -> None:
    run = read_run_file(write_run(tmp_path, contract_body))
    prepared = prepare(run, SimulateOptions(out=tmp_path / "run", deterministic=1))
    with SlowGrid(prepared.outlets, workers=0) as grid:
        server_app.app(grid=grid, context=context(prepared.folder.path))
    rounds = read_result(prepared.folder.path).rounds[1:]
    assert [sorted(done.outlets) for done in rounds] == [sorted(contract_body["outlets"])] * 2


def test_outlets_that_never_come_end_the_run_before_it_begins(
    tmp_path: Path, contract_body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_app, "LONGEST_WAIT", 0.5)
    run = read_run_file(write_run(tmp_path, contract_body))
    prepared = prepare(run, SimulateOptions(out=tmp_path / "run", deterministic=1))
    few, first = "too few outlets are connected", prepared.outlets[:1]
    with LocalGrid(first, workers=0) as grid, pytest.raises(QuorumError, match=few):
        server_app.app(grid=grid, context=context(prepared.folder.path))
    assert not prepared.folder.checkpoint.exists()


def test_a_coordinator_that_is_told_no_run_says_so() -> None:
    with LocalGrid([], workers=0) as grid, pytest.raises(InputError, match="which run"):
        server_app.app(grid=grid, context=context(None))
