"""policy.toml: safe by default, strict about every key, and clear about what is wrong."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from datetime import date, time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from presspool.client.consent import decision
from presspool.client.consent.policy import (
    EXAMPLE,
    CountRules,
    Policy,
    PooledRules,
    Witnesses,
    parse_policy,
    period_of,
    read_policy,
)
from presspool.common.accounting import events
from presspool.common.base.errors import InputError, ModelError
from presspool.common.contract.contract import parse_contract
from presspool.common.contract.doors import METHODS
from presspool.common.ledger import entries
from presspool.common.models.base_model import resolve
from presspool.common.models.catalogue import DEFAULT_ID
from presspool.common.runs.recipe import head_recipe, recipe


def test_the_example_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(EXAMPLE, encoding="utf-8")
    assert read_policy(path) == Policy()
    keys = [line.lstrip("# ").split(" ")[0] for line in EXAMPLE.splitlines() if "=" in line]
    tables = {"base_models", "counts", "pooled", "quiet_hours", "witnesses"}
    inner = {*Witnesses.model_fields, *PooledRules.model_fields, *CountRules.model_fields}
    assert (set(Policy.model_fields) - tables) | inner <= set(keys)


def test_the_examples_commented_parts_are_right_too() -> None:
    lines = [
        line.removeprefix("# ")
        if line.startswith(("# [", "# start", "# end", "# zone", "# max"))
        else line
        for line in EXAMPLE.splitlines()
    ]
    policy = parse_policy(tomllib.loads("\n".join(lines)))
    assert policy.max_epsilon_per_period == 6.0
    assert policy.quiet_hours is not None
    assert (policy.quiet_hours.start, policy.quiet_hours.end) == (time(18), time(6))


def test_methods_are_those_of_the_registry_unless_the_outlet_says_fewer() -> None:
    assert Policy().methods == METHODS.names
    assert parse_policy({"methods": ["head"]}).methods == ("head",)
    with pytest.raises(InputError, match=r"unknown method.*ffa, fedit, head"):
        parse_policy({"methods": ["fedti"]})
    with pytest.raises(InputError, match=r"not offered.*a 4-bit base"):
        parse_policy({"methods": ["qlora"]})


@pytest.mark.parametrize(
    "made",
    [
        partial(recipe, trained="head"),
        partial(recipe, trained="adapter"),
        partial(head_recipe, populations={"a": 1500, "b": 1500}, classes=2, epsilon=3.0),
    ],
)
def test_the_defaults_take_the_default_recipe_at_epsilon_three(
    made: Callable[[], dict[str, dict[str, Any]]],
) -> None:
    tables = made()
    try:
        found = resolve(DEFAULT_ID, weights=None, tokenizer=None)
    except ModelError:
        pytest.skip("the default base model is not on this machine")
    tables["task"]["labels"] = ["world", "sport"]
    tables["privacy"]["epsilon"] = 3.0
    tables["model"] = found.pins
    body = {"name": "recipe", "outlets": {"a": 1500, "b": 1500}, **tables}
    decision.check_policy(parse_contract(body).with_noise(), Policy())


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"max_epsilon_per_runs": 1.0}, "did you mean 'max_epsilon_per_run'"),
        ({"hue": 1}, "expected one of tasks, base_models"),
        ({"max_epsilon_per_run": 0}, "policy.toml max_epsilon_per_run"),
        ({"max_epsilon_per_run": float("inf")}, "policy.toml max_epsilon_per_run"),
        ({"max_epsilon_per_run": "much"}, 'got      "much"'),
        ({"max_delta": 1}, "policy.toml max_delta"),
        ({"max_sampling_rate": 1.5}, "1 or less"),
        ({"max_steps": 0}, "policy.toml max_steps"),
        ({"min_noise_multiplier": -1}, "policy.toml min_noise_multiplier"),
        ({"base_models": []}, "policy.toml base_models"),
        (
            {"base_models": [{"name": "x", "weights": "sha256:1", "tokenizer": "sha256:2"}]},
            "outlet policy pin FOLDER",
        ),
        ({"base_models": [{"nam": "x"}]}, "did you mean 'name'"),
        ({"tasks": ["generating"]}, "did you mean 'generation'"),
        ({"period": "week"}, "'year', 'quarter' or 'month'"),
        ({"quiet_hours": {"start": "22:00", "end": "06:00"}}, "[quiet_hours] zone: missing key"),
        ({"quiet_hours": {"start": "22:00", "end": "22:00", "zone": "utc"}}, "are the same"),
        ({"quiet_hours": {"start": "22:00Z", "end": "06:00", "zone": "utc"}}, "without an offset"),
        ({"quiet_hours": {"start": "25:00", "end": "06:00", "zone": "utc"}}, "[quiet_hours] start"),
        (
            {"quiet_hours": {"from": "22:00", "start": "1:00", "end": "06:00", "zone": "utc"}},
            "unknown key",
        ),
        ({"manual_approval": "no"}, "manual_approval"),
        ({"max_steps": True}, "policy.toml max_steps"),
        ({"max_steps": "10"}, "policy.toml max_steps"),
        ({"max_epsilon_per_run": True}, "policy.toml max_epsilon_per_run"),
    ],
)
def test_what_is_wrong_is_said(body: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_policy(body)
    assert says in str(caught.value)


def test_a_file_that_is_no_policy(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    with pytest.raises(InputError, match="presspool outlet policy example"):
        read_policy(path)
    for data in (b"max_steps = ", b"\xff\xfe", b"#" * (1 << 20) + b"\n"):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"policy\.toml"):
            read_policy(path)


@pytest.mark.parametrize(
    ("start", "end", "quiet", "loud"),
    [
        (time(22), time(6), (time(22), time(23, 59), time(0), time(5, 59)), (time(6), time(21))),
        (time(9), time(17), (time(9), time(16, 59)), (time(17), time(8, 59), time(0))),
    ],
)
def test_quiet_hours_begin_at_start_and_stop_before_end(
    start: time, end: time, quiet: tuple[time, ...], loud: tuple[time, ...]
) -> None:
    hours = Policy.model_validate(
        {"quiet_hours": {"start": start, "end": end, "zone": "utc"}}
    ).quiet_hours
    assert hours is not None
    assert all(hours.hold(clock) for clock in quiet)
    assert not any(hours.hold(clock) for clock in loud)


def test_periods_are_named_as_the_ledger_names_them() -> None:
    day = date(2026, 11, 23)
    names = [period_of(day, rule) for rule in ("year", "quarter", "month")]
    assert names == ["2026", "2026-Q4", "2026-11"]
    quarters = [period_of(date(2026, month, 1), "quarter")[-1] for month in range(1, 13)]
    assert "".join(quarters) == "111222333444"
    event = {
        "type": "self_composed",
        "count": 1,
        "event": {"type": "gaussian", "noise_multiplier": 1.0},
    }
    for name in names:
        made = entries.Reserve.model_validate_json(
            entries.Reserve.model_construct(
                seq=1,
                day="2026-11-23",
                reservation="0" * 32,
                run="sha256:" + "0" * 64,
                unit="reader",
                period=name,
                datasets=("0" * 32,),
                charge=1,
                event=events.SelfComposed.model_validate(event),
            ).model_dump_json()
        )
        assert made.period == name
