"""A sweep's points as run files: a value for each swept key, and the contract that it makes.

A recipe is filled in anew at each point, because what it fills in follows from ε and outlets.

Invariants:
    * A point is a contract of its own: validated, with a digest, priced by its own σ.
    * Nothing but the swept keys and the seed differs from the run file.

Example: `run_at(run, {"privacy.epsilon": 3.0}, seed=1).contract`.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from presspool.common.base.errors import ContractError, InputError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.doors import task_of
from presspool.common.runs.default_recipe import filled
from presspool.common.runs.run_file import OUTSIDE, EvaluationData, RunFile, freeze
from presspool.common.tasks.metric import Metric
from presspool.simulations.sweeps.sweep_file import Choices, Space, Value

Point = Mapping[str, Value]
BUDGETS = ("privacy.epsilon", "privacy.noise_multiplier")  # one says the other


def spelt(point: Point) -> str:
    """A point for people.

    Example:
        >>> spelt({"privacy.epsilon": 3.0, "adapter.method": "ffa"})
        'privacy.epsilon = 3, adapter.method = ffa'
    """
    return ", ".join(f"{key} = {value_text(value)}" for key, value in point.items())


def value_text(value: Value) -> str:
    """A swept value for people: of a number six digits."""
    if isinstance(value, bool | str):
        return str(value).lower() if isinstance(value, bool) else value
    return f"{value:g}" if math.isfinite(value) else "∞"


def grid_points(space: Space) -> list[Point]:
    """All combinations of choices; the last key moves fastest."""
    values = [axis.values for axis in space.values() if isinstance(axis, Choices)]
    return [dict(zip(space, chosen, strict=True)) for chosen in itertools.product(*values)]


def corners(space: Space) -> Iterator[Point]:
    """Points at which each key takes its every choice, or both its ends, the others their first."""
    ends = {
        key: axis.values if isinstance(axis, Choices) else (axis.low, axis.high)
        for key, axis in space.items()
    }
    first = {key: values[0] for key, values in ends.items()}
    yield first
    for key, values in ends.items():
        yield from ({**first, key: value} for value in values[1:])


def run_at(run: RunFile, point: Point, *, seed: int | None, where: str = "sweep") -> RunFile:
    """The run file at a point.

    Args:
        run: as read.
        point: dotted contract key to value.
        seed: the contract's, or None for the run file's own.
        where: of the point, for errors.

    Raises:
        ContractError: no contract; file, key, expected, got.
    """
    body: dict[str, Any] = copy.deepcopy(dict(run.written))
    for key, value in point.items():
        _put(body, key, value, where)
    if seed is not None:
        body["seed"] = seed
    at = f"{where}, {spelt(point)}" if point else where
    whole = filled(body, where=at, name=run.contract.name)
    contract = parse_contract(whole, where=at, beside=tuple(OUTSIDE))
    return run.model_copy(update={"contract": contract, "written": body})


def _put(body: dict[str, Any], key: str, value: Value, where: str) -> None:
    *tables, name = key.split(".")
    inner = body
    for table in tables:
        inner = inner.setdefault(table, {})
        if not isinstance(inner, dict):
            raise ContractError(
                "the run file has a value here, and the sweep a table",
                where=f"{where} {key}",
                expected=f"a table {table} in run.toml",
                got=inner,
            )
    inner[name] = value


def in_one_process(run: RunFile) -> RunFile:
    """A run file whose outlets take turns in one process, wherever on the machines that lies."""
    assert run.simulation is not None
    assert run.evaluation is not None
    data = run.simulation.data
    place = data.resolve() if isinstance(data, Path) else data
    here = {"data": place, "grid": "local", "gpus_per_worker": 0.0}
    public = run.evaluation.model_copy(update={"data": run.evaluation.data.resolve()})
    simulation = run.simulation.model_copy(update=here)
    return run.model_copy(update={"simulation": simulation, "evaluation": public})


def frozen_at(run: RunFile) -> Contract:
    """The frozen contract of a point, with the outlets that a simulation of it would have.

    Raises:
        InputError: what `freeze` raises, or more outlets than there are.
    """
    chosen = run.simulation.outlets if run.simulation else None
    return freeze(run.first_outlets(chosen).contract, fetch=True)


def judged_by(contract: Contract, metric: str | None, where: str) -> Metric:
    """The metric that a sweep's trials are judged by.

    Raises:
        InputError: the contract's task does not measure it.
    """
    task = task_of(contract)
    known = {found.name: found for found in task.metrics}
    if metric is not None and metric not in known:
        raise InputError(
            "no metric of this task",
            where=f"{where} metric",
            expected=f"one of {', '.join(known)}",
            got=metric,
        )
    return task.primary if metric is None else known[metric]


def require_public(run: RunFile, space: Space, where: str) -> EvaluationData:
    """The public file that judges a sweep's trials, whose costs the run file leaves to say.

    Raises:
        ContractError: no public held-out file, or σ and ε both decided.
    """
    if run.evaluation is None:
        raise ContractError(
            "nothing public to judge trials by",
            where="run.toml",
            expected="an [evaluation] table with a public held-out file",
            advice="name one; choosing on readers' data would cost their budget",
        )
    privacy = run.written.get("privacy", {})
    decided = {key for key in BUDGETS if key in space or privacy.get(key.split(".")[1]) is not None}
    if len(decided) == 2 and decided & space.keys():
        raise ContractError(
            "epsilon and noise_multiplier: each says what the other is",
            where=where,
            expected="one of the two, in run.toml or in the sweep",
            got=" and ".join(sorted(decided)),
            advice="take the other out of run.toml",
        )
    return run.evaluation
