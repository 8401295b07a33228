"""Whole runs in which a round asks some of the outlets: who trains, what it costs, what is said."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fakes.instruments.typed import typed
from tests.fakes.made_runs import checkpointed, write_run

from presspool.common.base.errors import PressPoolError
from presspool.common.contract.cohorts import cohort_of
from presspool.common.ledger import entries
from presspool.common.ledger.store import Ledger
from presspool.common.runs.result_file import read_result
from presspool.common.runs.run_file import read_run_file
from presspool.common.runs.run_folder import RunFolder
from presspool.server.rounds.server_app import serve
from presspool.simulations.grids.local_grid import LocalGrid
from presspool.simulations.simulate import Prepared, SimulateOptions, prepare, simulate

Body = dict[str, Any]
NAMES = tuple(f"paper-{number}" for number in range(5))
ROUNDS, STEPS = 4, 2


@pytest.fixture(scope="module")
def body(contract_body: Body) -> Body:
    return contract_body | {
        "outlets": dict.fromkeys(NAMES, 20),
        "federation": {"rounds": ROUNDS, "local_steps": STEPS, "quorum": 2, "cohort": 2},
        "privacy": {**contract_body["privacy"], "noise_multiplier": 1.0},
    }


@pytest.fixture(scope="module")
def run_toml(tmp_path_factory: pytest.TempPathFactory, body: Body) -> Path:
    return write_run(tmp_path_factory.mktemp("cohorts"), body)


@pytest.fixture(scope="module")
def whole(run_toml: Path) -> Path:
    """A whole run on two worker processes, in which outlets have ledgers."""
    out = run_toml.parent / "runs" / "whole"
    simulate(
        read_run_file(run_toml), SimulateOptions(out=out, workers=2, deterministic=7, ledgers=True)
    )
    return out


def reserved(home: Path) -> int:
    """Steps that an outlet's ledger charged for its only run; 0 where it never began."""
    with Ledger(home / "ledger.db") as ledger:
        said = [entries.parse_entry(b) for b in ledger.bodies(0, ledger.book.size)]
        assert not ledger.book.dangling
    return sum(entry.event.steps for entry in said if isinstance(entry, entries.Reserve))


def stop_after(count: int, prepared: Prepared) -> None:
    """Run until so many answers have come."""
    left = iter(range(count - 1))

    def stop() -> None:
        if next(left, None) is None:
            raise PressPoolError("stopped")

    with (
        LocalGrid(prepared.outlets, workers=0, on_reply=stop) as grid,
        pytest.raises(PressPoolError, match="stopped"),
    ):
        serve(grid, prepared.folder)


def test_a_round_is_its_cohort_s_and_each_outlet_pays_for_its_own(whole: Path) -> None:
    contract, result = RunFolder(whole).read_contract(), read_result(whole)
    asked = [cohort_of(contract, number) for number in range(1, ROUNDS + 1)]
    assert [done.outlets for done in result.rounds[1:]] == asked
    assert [dict(done.refused) for done in result.rounds[1:]] == [{}] * ROUNDS
    turns = Counter(name for cohort in asked for name in cohort)
    assert {turns[name] for name in NAMES} == {1, 2}
    for outlet in result.outlets:
        assert outlet.steps == turns[outlet.name] * STEPS
        assert outlet.epsilon == contract.plan.epsilon(outlet.steps)
        assert reserved(whole / "outlets" / outlet.name) == outlet.steps
    assert result.epsilon == contract.plan.epsilon() == contract.plan.epsilon(2 * STEPS)
    size = result.rounds[1].bytes_up // 2
    assert {done.bytes_up for done in result.rounds[1:]} == {2 * size}
    assert {done.bytes_down for done in result.rounds[1:]} == {2 * size}


def test_workers_and_a_stop_in_the_middle_do_not_change_the_adapter(
    run_toml: Path, whole: Path
) -> None:
    torch.set_num_threads(1)
    out = run_toml.parent / "runs" / "stopped"
    prepared = prepare(read_run_file(run_toml), SimulateOptions(out=out, deterministic=7))
    stop_after(5, prepared)  # in round three
    with LocalGrid(prepared.outlets, workers=0) as grid:
        result = serve(grid, prepared.folder)
    assert checkpointed(out) == checkpointed(whole)
    again = read_result(whole)
    assert [o.steps for o in result.outlets] == [o.steps for o in again.outlets]


def test_a_round_that_is_handed_out_twice_with_other_noise_counts_twice_for_everybody(
    run_toml: Path,
) -> None:
    out = run_toml.parent / "runs" / "twice"
    prepared = prepare(read_run_file(run_toml), SimulateOptions(out=out))
    stop_after(1, prepared)
    with LocalGrid(prepared.outlets, workers=0) as grid:
        result = serve(grid, prepared.folder)
    contract = prepared.folder.read_contract()
    turns = Counter(n for number in range(1, ROUNDS + 1) for n in cohort_of(contract, number))
    assert [o.steps for o in result.outlets] == [(turns[n] + 1) * STEPS for n in sorted(NAMES)]
    assert result.epsilon == contract.trust.spent(contract, 3 * STEPS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cohort": 6}, "cohort is 6, but [outlets] lists only 5"),
        ({"cohort": 0}, "1 or more"),
        ({"cohort": True}, "a whole number"),
        ({"cohort": "2"}, "a whole number"),
        ({"quorum": 3}, "quorum is 3, but a round has only the 2 outlets"),
    ],
)
def test_a_wrong_cohort_is_refused_before_anything_is_written(
    tmp_path: Path,
    body: Body,
    change: Body,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = write_run(tmp_path, body | {"federation": body["federation"] | change})
    said = typed(monkeypatch, capsys)("simulate", run, "--out", tmp_path / "out")
    assert said.code == 2
    assert words in " ".join(said.err.split())
    assert not (tmp_path / "out").exists()


def test_fewer_outlets_than_the_cohort_are_refused(
    run_toml: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("--out", tmp_path / "out", "--outlets", 1)
    said = typed(monkeypatch, capsys)("simulate", run_toml, *options)
    assert said.code == 2
    assert "lists only 1" in " ".join(said.err.split())
    assert not (tmp_path / "out").exists()


def test_contract_check_says_what_a_cohort_is(
    run_toml: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = typed(monkeypatch, capsys)("contract", "check", run_toml)
    assert said.code == 0
    assert "asks 2 of 5 outlets" in said.out
    assert "none is asked more than 2 times" in said.out
    found = typed(monkeypatch, capsys)("contract", "check", run_toml, "--json")
    assert [json.loads(found.out)[key] for key in ("cohort", "turns", "steps")] == [2, 2, 4]
