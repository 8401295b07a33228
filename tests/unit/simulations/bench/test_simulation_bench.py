"""`presspool bench simulation`: every contestant trains what it should, and the page says so."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from tests.fakes.instruments.typed import Command, typed

from presspool.common.base.errors import InputError, SelfTestError
from presspool.simulations.bench.simulators import simulator_bench
from presspool.simulations.bench.simulators.contestant_process import (
    ContestantProcess,
    RoundTaken,
)
from presspool.simulations.bench.simulators.grid_race import GridRace
from presspool.simulations.bench.simulators.memory_growth import MemoryGrowth
from presspool.simulations.bench.simulators.simulator_bench import (
    CONTESTANTS,
    OURS,
    SimulationAsked,
    SimulationFigures,
    bench_simulation,
    units_of_rounds,
)
from presspool.simulations.bench.simulators.simulator_report import simulation_section
from presspool.simulations.bench.simulators.simulator_rooms import cache_folder
from presspool.simulations.bench.simulators.simulator_turns import RoundDone, RoundSizes

DONE = RoundDone(clients=50, records=100, trained=76_808, moved=3.92)
SIZES = RoundSizes()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    run = typed(monkeypatch, capsys)
    return lambda *options: run("bench", "simulation", *options)


def taken(seconds: float, done: RoundDone = DONE) -> RoundTaken:
    return RoundTaken(seconds=seconds, work=seconds / 2, resident=500_000_000, done=done)


def figures(**seconds: list[float]) -> SimulationFigures:
    """Figures of contestants by the last word of their name."""
    names = {name.split()[-1]: name for name in CONTESTANTS} | {"ours": OURS}
    turns = {names[key]: [taken(one) for one in of] for key, of in seconds.items()}
    return SimulationFigures(sizes=SIZES, first=dict.fromkeys(turns, 9.0), turns=turns)


def test_a_bare_loop_trains_and_leaves_no_process() -> None:
    sizes = RoundSizes(clients=3, tokens=8)
    before = set(psutil.Process().children(recursive=True))
    with ContestantProcess(("bare",), sizes) as process:
        rounds = [process.turn() for _ in range(2)]
        (child,) = set(psutil.Process().children(recursive=True)) - before
        if hasattr(os, "sched_getaffinity"):
            assert len(child.cpu_affinity()) == 1
    assert not child.is_running()
    for one in rounds:
        simulator_bench._checked("bare loop", one, sizes)
        assert one.work > 0
        assert one.resident > 100_000_000
    assert rounds[0].done.moved != rounds[1].done.moved


def test_the_command_measures_and_writes(tmp_path: Path, bench: Command) -> None:
    page = tmp_path / "page.md"
    answer = bench(
        *("--only", "bare loop", "--clients", "2", "--turns", "1"),
        *("--rounds", "0", "--race", "0", "--page", str(page), "--json"),
    )
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    ((name, (turn,)),) = found["turns"].items()
    assert name == "bare loop"
    assert turn["done"]["records"] == 4
    text = page.read_text(encoding="utf-8")
    assert text.count("<!-- simulation: ") == 2
    assert "| bare loop | 1 | " in text


@pytest.mark.soak
def test_ours_trains_what_a_bare_loop_trains() -> None:
    found = bench_simulation(SimulationAsked(clients=2, turns=1, only=(OURS, "bare loop")))
    assert {turn.done.trained for turns in found.turns.values() for turn in turns} == {76_808}
    (claim,) = found.claims()
    assert claim.text == "bare loop ÷ ours, seconds a round"


@pytest.mark.soak
@pytest.mark.parametrize("name", [name for name in CONTESTANTS if name not in ("bare loop", OURS)])
def test_every_other_contestant_trains_all_clients(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    asked = SimulationAsked(clients=2, turns=1, only=(name,))
    rooms = tmp_path_factory.getbasetemp() / "rooms"
    found = bench_simulation(asked, rooms=rooms)
    assert found.absent == {}
    (turn,) = found.turns[name]
    assert turn.done.trained == DONE.trained


@pytest.mark.soak
def test_memory_is_watched_and_grids_race() -> None:
    calls: list[None] = []
    asked = SimulationAsked(clients=2, turns=1, only=("bare loop",), rounds=3, race=1)
    found = bench_simulation(asked, advance=lambda: calls.append(None))
    assert len(calls) == units_of_rounds(asked)
    assert found.growth is not None
    assert len(found.growth.resident) == 3
    assert found.race is not None
    assert {grid: len(seconds) for grid, seconds in found.race.seconds.items()} == {
        "local": simulator_bench.RACES,
        "ray": simulator_bench.RACES,
    }


@pytest.mark.parametrize(
    "change",
    [{"clients": 49}, {"records": 99}, {"moved": 0.0}, {"moved": 27.7}, {"trained": 1}],
    ids=["a client is missing", "a record", "nothing changed", "one noise for all", "no adapter"],
)
def test_a_round_that_is_not_the_one_asked_for_ends_the_measurement(
    change: dict[str, float],
) -> None:
    right = taken(1.0)
    assert simulator_bench._checked("flower", right, SIZES) is right
    wrong = taken(1.0, replace(DONE, **change))  # type: ignore[arg-type]
    with pytest.raises(SelfTestError, match="flower: a round did not train"):
        simulator_bench._checked("flower", wrong, SIZES)


def test_a_contestant_that_ends_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SelfTestError, match="before its first turn") as caught:
        ContestantProcess(("nobody",), RoundSizes(clients=1))
    assert "KeyError: 'nobody'" in str(caught.value.got)


def test_a_name_that_no_contestant_has_is_told(bench: Command) -> None:
    answer = bench("--only", "somebody")
    assert answer.code == 2
    assert "bare loop" in answer.err


def test_ratios_are_taken_turn_by_turn() -> None:
    """The second turn fell on a slow minute: of all, so that no ratio changed."""
    found = figures(ours=[1.0, 10.0, 1.0], loop=[2.5, 25.0, 2.5], nvflare=[90.0])
    claims = {claim.text.split(" ÷")[0]: claim for claim in found.claims()}
    assert claims["bare loop"].value == pytest.approx(2.5)
    assert claims["bare loop"].met
    assert claims["nvflare"].value == pytest.approx(90.0)
    slow = figures(ours=[1.0], loop=[1.9]).claims()
    assert [claim.met for claim in slow] == [False]


def test_the_page_names_what_was_missed_and_who_was_absent() -> None:
    race = GridRace(rounds=9, clients=5, seconds={"local": [8.0, 9.0], "ray": [10.0, 10.0]})
    growth = MemoryGrowth(
        rounds=20, clients=5, resident=[900.0, 900.0, *(10.0 + i for i in range(18))]
    )
    found = replace(
        figures(ours=[1.0, 2.0], loop=[1.5, 3.0]),
        absent={"nvflare": "it cannot be installed: no network"},
        race=race,
        growth=growth,
    )
    assert race.claim.value == pytest.approx(0.85)
    assert growth.claim.value == pytest.approx(1.0)
    text = simulation_section(found)
    assert "- nvflare took no part. it cannot be installed: no network." in text
    assert "| bare loop ÷ ours, seconds a round | 1.500 | at least 2.00 | not met |" in text
    assert "start included | 0.850 | at least 0.90 | not met |" in text
    assert "MB a round | 1.000 | at most 0.10 | not met |" in text


def test_rooms_are_in_the_user_s_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "presspool" / "simulators"


def test_units_are_refused_for_a_name_that_is_none() -> None:
    with pytest.raises(InputError, match="no such contestant"):
        units_of_rounds(SimulationAsked(only=("x",)))
