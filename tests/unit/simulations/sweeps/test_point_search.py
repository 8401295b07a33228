"""Which point is next, what a stopped search goes on with, and what is pruned."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from presspool.common.base.stopping import interrupted
from presspool.simulations.sweeps.point_search import (
    COMPARED,
    PointSearch,
    RoundJudge,
    planned_points,
)
from presspool.simulations.sweeps.sweep_file import SweepFile, parse_sweep

RANGE = {"low": 0.1, "high": 10.0, "log": True}


def swept(**plan: Any) -> SweepFile:
    return parse_sweep({**plan, "optimizer": {"learning_rate": RANGE}}, where="sweep.toml")


def listed(**plan: Any) -> SweepFile:
    space = {"privacy": {"epsilon": [1, "inf"]}, "federation": {"rounds": [4, 8]}}
    return parse_sweep({**plan, **space}, where="sweep.toml")


def test_a_grid_is_asked_for_in_its_order_and_ends(tmp_path: Path) -> None:
    search = PointSearch(listed(), tmp_path, higher=True)
    asked = [point for _ in range(5) if (point := search.ask())]
    assert [point.number for point in asked] == [0, 1, 2, 3]
    assert [dict(point.values) for point in asked] == list(planned_points(listed()))


def test_random_points_are_known_before_and_the_same_anywhere(tmp_path: Path) -> None:
    file = swept(sampler="random", trials=4)
    places = [tmp_path / name for name in "ab"]
    for place in places:
        place.mkdir()
    searches = [PointSearch(file, place, higher=True) for place in places]
    found = [[dict(p.values) for _ in range(4) if (p := one.ask())] for one in searches]
    assert found[0] == found[1] == list(planned_points(file))
    assert len({point["optimizer.learning_rate"] for point in found[0]}) == 4
    assert all(0.1 <= float(point["optimizer.learning_rate"]) <= 10 for point in found[0])


def test_a_stopped_search_goes_on_with_what_it_had_begun(tmp_path: Path) -> None:
    search = PointSearch(listed(), tmp_path, higher=True)
    first, second = search.ask(), search.ask()
    assert first is not None
    search.tell(first.number, 0.5, pruned=False)
    again = PointSearch(listed(), tmp_path, higher=True)
    assert again.begun() == [second]
    rest = [point.number for _ in range(3) if (point := again.ask())]
    assert rest == [2, 3]


def test_an_interrupt_waits_until_optuna_has_let_go_of_its_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = PointSearch(listed(), tmp_path, higher=True)
    point, unlink = search.ask(), os.unlink
    assert point is not None

    def interrupted_unlink(path: str) -> None:
        unlink(path)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(os, "unlink", interrupted_unlink)
    with pytest.raises(KeyboardInterrupt), interrupted():
        search.tell(point.number, 0.5, pruned=False)
    monkeypatch.undo()
    assert PointSearch(listed(), tmp_path, higher=True).begun() == []


def test_tpe_goes_where_it_was_good_and_draws_no_point_twice_after_a_stop(tmp_path: Path) -> None:
    file, values = swept(sampler="tpe", trials=30), []
    assert planned_points(file) == []
    for _ in range(30):
        search = PointSearch(file, tmp_path, higher=False)  # a new process each time
        point = search.ask()
        assert point is not None
        rate = float(point.values["optimizer.learning_rate"])
        values.append(rate)
        search.tell(point.number, abs(rate - 1.0), pruned=False)
    assert PointSearch(file, tmp_path, higher=False).ask() is None
    assert len(set(values)) == 30
    miss = [abs(value - 1.0) for value in values]
    assert sum(miss[15:]) < sum(miss[:15]) / 2


def test_a_trial_below_the_median_of_the_others_is_not_worth_its_rounds(tmp_path: Path) -> None:
    for higher in (True, False):
        folder = tmp_path / str(higher)
        folder.mkdir()
        file = swept(sampler="random", trials=9, prune=True)
        search, sign = PointSearch(file, folder, higher=higher), 1 if higher else -1

        def judge(at: Path = folder, higher: bool = higher, one: Any = search) -> Any:
            point = one.ask()
            return point.number, RoundJudge(
                at, swept(sampler="random", trials=9, prune=True), point.number, higher=higher
            )

        for _ in range(COMPARED):
            number, one = judge()
            # Nobody is ended before there is something to compare with, however bad.
            assert all(one.goes_on(n, sign * 0.5) for n in (1, 2, 3))
            search.tell(number, sign * 0.5, pruned=False)
        number, bad = judge()
        assert not bad.goes_on(1, sign * 0.1)
        search.tell(number, None, pruned=True)
        _, good = judge()
        assert good.goes_on(1, sign * 0.9)
        _, unmeasured = judge()
        assert not unmeasured.goes_on(1, None)


def test_a_point_that_failed_is_ended_and_tells_nothing(tmp_path: Path) -> None:
    search = PointSearch(listed(), tmp_path, higher=True)
    point = search.ask()
    assert point is not None
    search.tell(point.number, None, pruned=False)
    search.tell(point.number, None, pruned=False)  # told again after a stop
    assert PointSearch(listed(), tmp_path, higher=True).begun() == []
