"""What a `sweep.toml` may say, and how it is told what it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from presspool.common.base.errors import InputError
from presspool.simulations.sweeps.sweep_file import (
    Choices,
    Interval,
    SweepFile,
    parse_sweep,
    read_sweep_file,
)


def parsed(**body: Any) -> SweepFile:
    return parse_sweep(body, where="sweep.toml")


def test_lists_and_ranges_are_read_under_their_dotted_keys(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(
        """
        sampler = "random"
        trials = 5
        seeds = [1, 2]
        privacy.epsilon = [1, 3, "inf"]
        optimizer.learning_rate.head = { low = 0.1, high = 3.0, log = true }
        [federation]
        rounds = { low = 4, high = 16 }
        """
    )
    found = read_sweep_file(path)
    assert found.plan.seeds == (1, 2)
    assert dict(found.space) == {
        "privacy.epsilon": Choices((1, 3, "inf")),
        "optimizer.learning_rate.head": Interval(low=0.1, high=3.0, log=True),
        "federation.rounds": Interval(low=4, high=16),
    }
    whole = [axis.whole for axis in found.space.values() if isinstance(axis, Interval)]
    assert whole == [False, True]


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ({"low": 0.1, "high": 10.0, "log": True, "steps": 3}, (0.1, 1.0, 10.0)),
        ({"low": 0.0, "high": 1.0, "steps": 5}, (0.0, 0.25, 0.5, 0.75, 1.0)),
        ({"low": 1, "high": 3, "steps": 5}, (1, 2, 3)),  # whole numbers, each once
    ],
)
def test_steps_make_a_list_of_a_range(table: dict[str, Any], values: tuple[float, ...]) -> None:
    (axis,) = parsed(server={"learning_rate": table}).space.values()
    assert axis == Choices(values)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "nothing to try"),
        ({"seeds": [1]}, "nothing to try"),
        ({"seeds": [1, 1]}, "each seed once"),
        ({"privacy": {"epsilon": 3}}, "one value alone is no choice"),
        ({"privacy": {"epsilon": []}}, "not a list of choices"),
        ({"privacy": {"epsilon": [1, 1.0]}}, "each once"),
        ({"privacy": {"epsilon": [1, "ten"]}}, "of one kind"),
        ({"adapter": {"targets": [["query"], ["value"]]}}, "not a list of choices"),
        ({"privacy": {"clip": {"low": 1.0}}}, "missing key"),
        ({"privacy": {"clip": {"low": 2.0, "high": 1.0, "steps": 2}}}, "low below high"),
        ({"privacy": {"clip": {"low": 0, "high": 1, "log": True, "steps": 2}}}, "low above 0"),
        ({"privacy": {"clip": {"low": True, "high": 2.0, "steps": 2}}}, "whole number"),
        ({"privacy": {"clip": {"low": 0.1, "high": 1.0}}}, "a grid has no end of points"),
        ({"sampler": "tpe", "privacy": {"epsilon": [1, 3]}}, "the others need one"),
        ({"trials": 3, "privacy": {"epsilon": [1, 3]}}, "needs no number"),
        ({"samplre": "grid", "privacy": {"epsilon": [1, 3]}}, "did you mean 'sampler'?"),
        ({"prune": 1, "privacy": {"epsilon": [1, 3]}}, "true or false"),
        ({"prune": True, "seeds": [1, 2]}, "judged by their mean"),
        ({"outlets": {"a": [1, 2]}}, "a key that no sweep moves"),
        ({"seed": [1, 2]}, "say seeds"),
        (
            {"federation": {"rounds": list(range(1, 102)), "local_steps": list(range(1, 102))}},
            "too",
        ),
    ],
)
def test_what_is_wrong_is_told_in_words(body: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as told:
        parse_sweep(body, where="sweep.toml")
    assert said in str(told.value)
    assert str(told.value).startswith("sweep.toml")


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("privacy =")
    for name, said in (("a.toml", "TOML"), ("b.toml", "cannot read the sweep's file")):
        with pytest.raises(InputError, match=said) as told:
            read_sweep_file(tmp_path / name)
        assert str(tmp_path / name) in str(told.value)
