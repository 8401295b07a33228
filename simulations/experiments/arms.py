"""What an experiment compares: arms over a pool, declared before anything runs.

Kinds of arm:

* `untrained`: nothing trained: a head made of the label names, or the base model as it is;
* `few-shot`: nothing trained, and some public examples before every prompt of a generating model;
* `federated`: one model over all outlets;
* `asked`: the models of another arm, with the examples of `few-shot` before every prompt;
* `local`: one model for each outlet alone, same steps and budget; judged as their mean;
* `central`: one model over everybody's readers in one place: the ceiling;
* `popularity`: nothing trained: how often everybody's readers clicked a title, counted openly;
* `regression`: logistic regression to its optimum on the frozen features of everybody's records, no
  privacy and no federation: the ceiling of a head.

Example: `declare(pool, Arm(name="federated", kind="federated", recipe=recipe), epsilon=3, seed=1)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from presspool.common.contract.contract import parse_contract
from presspool.common.runs.run_file import EvaluationData, RunFile, Simulation
from presspool.simulations.experiments.jobs import Job
from presspool.simulations.experiments.measures import Measure, measure_of
from presspool.simulations.experiments.pools import EVERYBODY, Pool

Tables = Mapping[str, Mapping[str, Any]]
Kind = Literal[
    "untrained", "few-shot", "federated", "asked", "local", "central", "popularity", "regression"
]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to get a model.

    Attributes:
        name: for tables; unique in an experiment.
        kind: see the module.
        recipe: the contract's tables but ε, or what gives them for outlets' readers, the number of
            labels and ε.
        epsilons: reader-level ε of its runs; `math.inf` without noise.
        seeds: one repetition each.
        pools: names of the pools' folders that it runs over; empty for all.
        models: name of the arm whose models an `asked` arm judges; its recipe, ε and seeds too.
    """

    name: str
    kind: Kind
    recipe: Tables | Callable[[Mapping[str, int], int, float], Tables]
    epsilons: tuple[float, ...] = (math.inf,)
    seeds: tuple[int, ...] = (1, 2, 3)
    pools: tuple[str, ...] = ()
    models: str = ""

    @property
    def trained(self) -> bool:
        """Whether anything is; if not, it is the same whatever the seed."""
        return self.kind not in ("untrained", "few-shot", "popularity", "regression")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One repetition of an arm: its models are judged together.

    Attributes:
        pool: over which pool.
        arm: which arm.
        epsilon: its ε.
        seed: its seed.
        jobs: outlet to the job that made its model; one job under `EVERYBODY` if all share it.
    """

    pool: Pool
    arm: Arm
    epsilon: float
    seed: int
    jobs: Mapping[str, Job]

    @property
    def measure(self) -> Measure:
        """What its models are judged by."""
        return measure_of(self.pool.task)


def declare(pool: Pool, arm: Arm, epsilon: float, seed: int) -> Trial:
    """The jobs of one repetition."""
    if arm.kind == "local":
        members = {outlet: {outlet: n} for outlet, n in pool.readers.items()}
    elif arm.kind == "central":
        members = {EVERYBODY: {EVERYBODY: sum(pool.readers.values())}}
    else:
        members = {EVERYBODY: dict(pool.readers)}
    jobs = {
        name: _job(pool, arm, epsilon, seed, name, populations)
        for name, populations in members.items()
    }
    return Trial(pool=pool, arm=arm, epsilon=epsilon, seed=seed, jobs=jobs)


def _tables(
    pool: Pool, arm: Arm, epsilon: float, populations: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    given = arm.recipe
    if callable(given):
        given = given(populations, len(pool.labels), epsilon)
    return {key: dict(table) for key, table in given.items()}


def _job(
    pool: Pool, arm: Arm, epsilon: float, seed: int, name: str, populations: Mapping[str, int]
) -> Job:
    tables = _tables(pool, arm, epsilon, populations)
    if tables["privacy"].get("unit") == "record":
        records = {**pool.records, EVERYBODY: sum(pool.records.values())}
        populations = {outlet: records[outlet] for outlet in populations}
        tables = _tables(pool, arm, epsilon, populations)
    tables["privacy"]["epsilon"] = epsilon
    tables["federation"]["quorum"] = len(populations)
    labels = {"labels": list(pool.labels)} if pool.labels else {}
    length = {"max_length": pool.max_length} if pool.max_length else {}
    tables["task"] = {**labels, **length, **pool.task, **tables.get("task", {})}
    if pool.base:
        tables["model"] = {"id": str(pool.base)}
    body = {"name": "experiment", "seed": seed, "outlets": dict(populations), **tables}
    label = f"{pool.folder.name}-{arm.models or arm.name}-{epsilon:g}-s{seed}"
    few_shot = arm.kind in ("few-shot", "asked")
    everybody = pool.folder / f"{EVERYBODY}.parquet"
    return Job(
        name=label if name == EVERYBODY else f"{label}-{name}",
        run=RunFile(
            contract=parse_contract(body),
            simulation=Simulation(data=pool.folder, partition="files"),
        ),
        seed=seed,
        test=EvaluationData(data=pool.few_shot if few_shot else pool.test),
        trained=arm.trained,
        asked=arm.kind == "asked",
        attack=pool.attack,
        liars=pool.liars,
        fitted=everybody if arm.kind == "regression" else None,
        counted=everybody if arm.kind == "popularity" else None,
    )
