"""`sweep.toml`: a contract's keys with ranges in place of values, and how points are chosen.

::

    sampler = "grid"                  # or "random", "tpe"
    seeds = [1, 2]                    # every point once with each
    [privacy]
    epsilon = [1, 3, 8]               # choices
    [optimizer]
    learning_rate = { low = 0.1, high = 3.0, log = true, steps = 4 }

Everything but the keys of `Plan` is a contract's, spelt as in `run.toml`; what it may be is for the
contract to say, at each point.

Invariant: equal files have equal `identity`, which is what a sweep's folder belongs to.

Example:
    >>> found = parse_sweep({"privacy": {"epsilon": [1, 3]}}, where="sweep.toml")
    >>> dict(found.space)
    {'privacy.epsilon': Choices(values=(1, 3))}
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from presspool.common.base.errors import InputError
from presspool.common.base.toml_values import read_toml
from presspool.common.base.validation import validate

Value = bool | int | float | str
Bound = (
    Annotated[int, Field(strict=True)] | Annotated[float, Field(strict=True, allow_inf_nan=False)]
)
MOST_POINTS = 10_000
FIXED: Mapping[str, str] = {
    "name": "all trials are of one run",
    "outlets": "another pool has other readers; write a run.toml of it, and sweep that",
    "seed": "say seeds = [1, 2], and every point is tried with each",
    "schema": "it says how a contract is written",
    "recipe": "say it in run.toml; it is filled in at each point",
    "simulation": "it stands outside the contract; write it in run.toml",
    "evaluation": "it stands outside the contract; write it in run.toml",
}


def _apart(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("each seed once")
    return seeds


class Plan(BaseModel):
    """How points are chosen, and what they are judged by.

    Attributes:
        sampler: "grid", all combinations of choices; "random"; or "tpe", which looks where it was
            good so far (Bergstra et al., NeurIPS 2011).
        trials: points of "random" and "tpe".
        seeds: of the contract; each point is tried once with each. Without, the run file's own.
        metric: a metric on the public held-out file; None for the task's primary one.
        prune: whether a trial ends early whose public metric lies below the median of the others'
            at the same round.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sampler: Literal["grid", "random", "tpe"] = "grid"
    trials: Annotated[int, Field(strict=True, ge=1, le=MOST_POINTS)] | None = None
    seeds: Annotated[
        tuple[Annotated[int, Field(strict=True, ge=0, lt=2**63)], ...],
        Field(max_length=1000),
        AfterValidator(_apart),
    ] = ()
    metric: str | None = None
    prune: Annotated[bool, Field(strict=True)] = False

    @model_validator(mode="after")
    def _fits_together(self) -> Plan:
        if (self.sampler == "grid") != (self.trials is None):
            raise ValueError(
                'trials: sampler = "grid" has as many as it has points, and needs no number; '
                "the others need one"
            )
        if self.prune and len(self.seeds) > 1:
            raise ValueError(
                "prune: a point of several seeds is judged by their mean, which is only there in "
                "the end; give one seed, or leave prune out"
            )
        return self


class RangeTable(BaseModel):
    """A range as it is written.

    Attributes:
        low: the least value.
        high: the greatest.
        log: whether its logarithm is what is drawn, or divided into steps.
        steps: so many values from low to high; without, any value between.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: Bound
    high: Bound
    log: Annotated[bool, Field(strict=True)] = False
    steps: Annotated[int, Field(strict=True, ge=2, le=1000)] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> RangeTable:
        if not self.low < self.high:
            raise ValueError("low below high")
        if self.log and self.low <= 0:
            raise ValueError("low above 0, where log = true")
        return self


@dataclass(frozen=True)
class Choices:
    """Values that one by one may be taken; of one type, but for "inf" among numbers."""

    values: tuple[Value, ...]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Any value from `low` to `high`; whole numbers where both are."""

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Space = Mapping[str, Choices | Interval]


@dataclass(frozen=True, kw_only=True)
class SweepFile:
    """A parsed `sweep.toml`.

    Attributes:
        plan: how points are chosen.
        space: dotted contract key to what it may be, in the file's order.
    """

    plan: Plan
    space: Space

    @property
    def identity(self) -> dict[str, Any]:
        """What decides which points there are, as JSON values."""
        space = {
            key: list(axis.values)
            if isinstance(axis, Choices)
            else {"low": axis.low, "high": axis.high, "log": axis.log}
            for key, axis in self.space.items()
        }
        return {"plan": self.plan.model_dump(mode="json"), "space": space}


def read_sweep_file(path: Path) -> SweepFile:
    """Read a `sweep.toml`.

    Raises:
        InputError: missing, not TOML, or something in it is wrong: file, key, expected, got.
    """
    body = read_toml(
        path, what="cannot read the sweep's file", advice="write one, as examples/sweep.toml"
    )
    return parse_sweep(body, where=str(path))


def parse_sweep(body: Mapping[str, Any], *, where: str) -> SweepFile:
    """The sweep that these values describe.

    Raises:
        InputError: something is wrong: file, key, expected, got.
    """
    for key in FIXED.keys() & body.keys():
        raise InputError(
            "a key that no sweep moves", where=f"{where} {key}", got=key, advice=FIXED[key]
        )
    tables = {key: found for key, found in body.items() if isinstance(found, Mapping)}
    rest = {key: found for key, found in body.items() if key not in tables}
    plan = validate(Plan, rest, where=where, fault=InputError)
    space = dict(_axes("", tables, where))
    if not space and len(plan.seeds) < 2:
        raise InputError(
            "nothing to try",
            where=where,
            expected="a contract's keys with lists or ranges, or two seeds",
            advice="write [privacy] and epsilon = [1, 3, 8] below it, say",
        )
    _require_grid(plan, space, where)
    return SweepFile(plan=plan, space=space)


def _axes(
    above: str, table: Mapping[str, Any], where: str
) -> Iterator[tuple[str, Choices | Interval]]:
    for name, found in table.items():
        key = f"{above}.{name}" if above else name
        if isinstance(found, list):
            yield key, _choices(found, f"{where} {key}")
        elif isinstance(found, Mapping) and found.keys() & {"low", "high"}:
            yield key, _range(found, f"{where} {key}")
        elif isinstance(found, Mapping):
            yield from _axes(key, found, where)
        else:
            raise InputError(
                "one value alone is no choice",
                where=f"{where} {key}",
                expected="a list, or { low = …, high = … }",
                got=found,
                advice="write it in run.toml",
            )


def _choices(values: list[Any], where: str) -> Choices:
    kinds = {_kind(value) for value in values if value != "inf"}
    if not values or len(kinds) > 1 or None in kinds or len(set(values)) < len(values):
        raise InputError(
            "not a list of choices",
            where=where,
            expected="numbers, texts or truth values, of one kind and each once",
            got=values,
        )
    return Choices(tuple(values))


def _kind(value: object) -> type | None:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    found = {bool: bool, int: float, float: float, str: str}
    return found.get(type(value))


def _range(table: Mapping[str, Any], where: str) -> Choices | Interval:
    found = validate(RangeTable, table, where=where, fault=InputError)
    if found.steps is None:
        return Interval(low=found.low, high=found.high, log=found.log)
    whole = isinstance(found.low, int) and isinstance(found.high, int)
    at = [number / (found.steps - 1) for number in range(found.steps)]
    values = [_between(found, part) for part in at]
    return Choices(tuple(dict.fromkeys(round(v) if whole else v for v in values)))


def _between(table: RangeTable, part: float) -> float:
    """Four digits are enough for a value that a person will read, and its ends are its own."""
    if part in (0.0, 1.0):
        return table.high if part else table.low
    low, high = (math.log(v) if table.log else v for v in (table.low, table.high))
    value = low + part * (high - low)
    return float(f"{math.exp(value) if table.log else value:.4g}")


def _require_grid(plan: Plan, space: Space, where: str) -> None:
    if plan.sampler != "grid":
        return
    points = 1
    for key, axis in space.items():
        if isinstance(axis, Interval):
            raise InputError(
                "a grid has no end of points here",
                where=f"{where} {key}",
                expected="a list, or steps beside low and high",
                advice='add steps = 4, or take sampler = "random"',
            )
        points *= len(axis.values)
    if points > MOST_POINTS:
        raise InputError(
            "too many points",
            where=where,
            expected=f"at most {MOST_POINTS:,}",
            got=f"{points:,}",
            advice='shorten the lists, or take sampler = "random" and trials',
        )
