"""Whole runs on a simulation's clock: what a clock leaves alone, what it changes, and who pays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord
from tests.fakes.instruments.typed import typed
from tests.fakes.made_runs import write_run

from presspool.client.client_app import answer
from presspool.client.engine.compute import Compute
from presspool.client.engine.together.joint_tasks import together
from presspool.client.identity.settings import read_settings
from presspool.client.round import Round
from presspool.common.base.errors import ContractError, FolderError
from presspool.common.contract.contract import Contract
from presspool.common.ledger.store import Ledger
from presspool.common.models import adapters
from presspool.common.models.adapters import State
from presspool.common.models.models import build
from presspool.common.runs.result_file import read_result
from presspool.common.runs.run_file import read_run_file
from presspool.common.wire.update import TrainTask, array_record
from presspool.server.rounds import round_checkpoint
from presspool.server.rounds.buffered_strategy import BufferedStrategy
from presspool.simulations.clock.pace import paces
from presspool.simulations.grids.local_grid import LocalGrid
from presspool.simulations.simulate import SimulateOptions, prepare, simulate

Body = dict[str, Any]
SEED = 7
FAST, SLOW = {"deadline": 1000.0}, {"deadline": 30.0, "speeds": "lognormal:1.0", "seed": 3}
OUTLETS = {"north-post": 30, "south-echo": 20, "west-wire": 25, "east-eye": 20}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # as in a worker process


@pytest.fixture
def four(contract_body: Body) -> Body:
    """Four outlets, five rounds of one step."""
    federation = {"rounds": 5, "local_steps": 1, "quorum": 1}
    return contract_body | {"outlets": OUTLETS, "federation": federation}


def run(path: Path, body: Body, name: str, clock: Body | None, **options: Any) -> Path:
    """A whole run; returns its folder."""
    table = {} if clock is None else {"clock": clock}
    file = write_run(path / name, body, simulation=table)
    usual: Body = {"out": path / name / "out", "workers": 0, "deterministic": SEED}
    simulate(read_run_file(file), SimulateOptions(**usual | options))
    return path / name / "out"


def state(folder: Path) -> State:
    point = round_checkpoint.load(
        folder / "checkpoint.safetensors", digest=read_result(folder).contract_digest
    )
    assert point is not None
    return point.state


def same(one: State, other: State) -> bool:
    return adapters.digest(one) == adapters.digest(other)


def test_in_time_nothing_changes_but_the_result_has_a_day(tmp_path: Path, four: Body) -> None:
    plain, timed = run(tmp_path, four, "plain", None), run(tmp_path, four, "timed", FAST)
    assert same(state(plain), state(timed))
    found = read_result(timed)
    assert [entry.virtual is None for entry in found.rounds] == [True, *[False] * 5]
    assert "Rounds over the simulated day" in (timed / "report.html").read_text()
    assert '"virtual"' not in (plain / "result.json").read_text()


def test_who_is_late_is_missing_and_any_number_of_workers_says_the_same(
    tmp_path: Path, four: Body
) -> None:
    here, there = run(tmp_path, four, "here", SLOW), run(tmp_path, four, "two", SLOW, workers=2)
    assert same(state(here), state(there))
    rounds = read_result(here).rounds[1:]
    assert sum(entry.virtual.late + entry.virtual.away for entry in rounds if entry.virtual) > 0
    for entry in rounds:
        assert entry.virtual is not None
        assert len(entry.outlets) == entry.virtual.answered
        assert not entry.refused


class StopError(Exception):
    """Stands for whatever ends a process in mid-run."""


def stops_after(count: int) -> Callable[[], None]:
    left = [count]

    def on_reply() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise StopError

    return on_reply


@pytest.mark.parametrize("buffer", [{}, {"buffer": 2, "staleness": 2}], ids=["rounds", "buffer"])
def test_a_run_that_was_stopped_goes_on_to_the_same_end(
    tmp_path: Path, four: Body, buffer: Body
) -> None:
    body = four | {"federation": four["federation"] | buffer}
    whole = run(tmp_path, body, "whole", SLOW)
    file = write_run(tmp_path / "cut", body, simulation={"clock": SLOW})
    options = SimulateOptions(out=tmp_path / "cut" / "out", workers=0, deterministic=SEED)
    with pytest.raises(StopError):
        simulate(read_run_file(file), options, on_reply=stops_after(6))
    again = SimulateOptions(out=options.out, workers=0, deterministic=SEED, resume=True)
    simulate(read_run_file(file), again)
    assert same(state(whole), state(options.out))
    days = [[e.virtual for e in read_result(out).rounds] for out in (whole, options.out)]
    assert days[0] == days[1]


def test_a_full_buffer_is_a_round_of_all(tmp_path: Path, four: Body) -> None:
    whole = four["federation"] | {"buffer": 4, "staleness": 0}
    buffered = run(tmp_path, four | {"federation": whole}, "buffered", FAST)
    assert same(state(buffered), state(run(tmp_path, four, "rounds", None)))


def trained(contract: Contract, path: Path, number: int, start: State) -> State:
    """What one outlet's task makes of an adapter."""
    task = TrainTask(
        contract=contract.canonical().decode(), digest=contract.digest, round=number, state=start
    )
    (said,) = together([answer(Round(task), read_settings(path))], Compute())
    return said.delta


def test_a_buffered_run_is_the_paper_s_algorithm_step_by_step(tmp_path: Path, four: Body) -> None:
    """A second reading of the algorithm, one outlet after the other and with numpy alone."""
    body = four | {"federation": four["federation"] | {"buffer": 2, "staleness": 2}}
    folder = run(tmp_path, body, "run", SLOW | {"link_megabytes": 1e6})
    file = read_run_file(tmp_path / "run" / "run.toml")
    contract = prepare(
        file, SimulateOptions(out=tmp_path / "again", workers=0, deterministic=SEED)
    ).folder.read_contract()
    settings = {name: tmp_path / "again" / "outlets" / f"{name}.toml" for name in OUTLETS}

    assert file.simulation is not None
    assert file.simulation.clock is not None
    seconds = {n: p.seconds for n, p in paces(contract, file.simulation.clock).items()}
    versions: list[State] = [adapters.read(build(contract))]
    working = {name: (seconds[name], 0) for name in OUTLETS}
    waiting, ages = dict[str, int](), list[int]()
    while len(versions) <= 5:
        name, (now, begun) = min(working.items(), key=lambda item: (item[1][0], item[0]))
        del working[name]
        if len(versions) - 1 - begun > 2:
            working[name] = now + seconds[name], len(versions) - 1
            continue
        waiting[name] = begun
        if len(waiting) < 2:
            continue
        total, weight = dict[str, Any](), 0.0
        for who, from_ in waiting.items():
            ages.append(len(versions) - 1 - from_)
            share = OUTLETS[who] / (1 + ages[-1]) ** 0.5
            delta = trained(contract, settings[who], from_ + 1, versions[from_])
            total = {k: total.get(k, 0) + share * delta[k].astype(float) for k in delta}
            weight += share
        newest = {k: a + total[k] / weight for k, a in versions[-1].items()}
        versions.append({k: a.astype(np.float32) for k, a in newest.items()})
        working |= {who: (now + seconds[who], len(versions) - 1) for who in waiting}
        waiting = {}
    assert max(ages) == 2
    for name, array in state(folder).items():
        np.testing.assert_allclose(array, versions[-1][name], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("buffer", [{}, {"buffer": 2, "staleness": 0}], ids=["rounds", "buffer"])
def test_what_is_worked_on_in_vain_is_paid_for(tmp_path: Path, four: Body, buffer: Body) -> None:
    body = four | {"federation": four["federation"] | buffer}
    folder = run(tmp_path, body, "paid", SLOW, ledgers=True, deterministic=None)
    counted = {name for entry in read_result(folder).rounds for name in entry.outlets}
    file = read_run_file(tmp_path / "paid" / "run.toml")
    prepared = prepare(file, SimulateOptions(out=tmp_path / "again", workers=0))
    vain = {name for timed in prepared.rounds for name in timed.vain}
    assert vain
    contract = prepared.folder.read_contract()
    for name in counted | vain:
        with Ledger(folder / "outlets" / name / "ledger.db") as ledger:
            assert ledger.book.reserved(contract.digest) is not None, name


REFUSED: dict[str, tuple[Body, Body | None, str]] = {
    "no clock": ({"buffer": 2, "staleness": 1}, None, "simulated only"),
    "too large": ({"buffer": 5, "staleness": 1}, FAST, "lists only 4"),
    "negative": ({"buffer": 2, "staleness": -1}, FAST, "0 or more"),
    "no deadline": ({}, {"deadline": 0.0}, "greater than 0"),
    "all fail": ({}, {"deadline": 9.0, "failures": 1.0}, "less than 1"),
    "no trace": ({}, {"deadline": 9.0, "trace": "gone.csv"}, "gone.csv"),
    "never": ({"quorum": 4}, {"deadline": 9.0, "failures": 0.9999999}, "never has enough"),
}


@pytest.mark.parametrize(("changes", "clock", "said"), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_told_in_a_sentence_and_leaves_nothing(
    tmp_path: Path,
    four: Body,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: Body,
    clock: Body | None,
    said: str,
) -> None:
    body = four | {"federation": four["federation"] | changes}
    file = write_run(tmp_path, body, simulation={} if clock is None else {"clock": clock})
    done = typed(monkeypatch, capsys)("simulate", str(file), "--out", str(tmp_path / "out"))
    assert (done.code, said in done.err) == (2, True), done.err
    assert not (tmp_path / "out").exists()


def test_another_clock_is_another_run(tmp_path: Path, four: Body) -> None:
    folder = run(tmp_path, four, "day", FAST)
    file = write_run(tmp_path / "day", four, simulation={"clock": SLOW})
    again = SimulateOptions(out=folder, workers=0, deterministic=SEED, resume=True)
    with pytest.raises(FolderError, match="another setup"):
        prepare(read_run_file(file), again)


def test_a_grid_without_a_clock_refuses_outlets_that_do_not_wait(contract: Contract) -> None:
    waiting = contract.replace(federation={"buffer": 2, "staleness": 1})
    with LocalGrid([], workers=0) as grid, pytest.raises(ContractError, match="simulated only"):
        BufferedStrategy(waiting).configure_train(1, array_record({}), ConfigRecord({}), grid)
