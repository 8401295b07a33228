"""How much accuracy reader-level privacy leaves: AG News over four large and twenty small outlets.

Data: all 11,995 rows of `train_a`, tested on the 7,600 rows of the official test set, which nothing
but the confirmation grid reads. The set has no readers, so rows are dealt out: two to a made
reader, readers to 4 outlets (about 1,500 each) or to 20 (about 300 each), by a hash of the row's
number.

`SEARCH` is the grid that the default recipe was chosen with: training rows alone, a quarter of the
readers kept for validation, one seed.

Example: `run_experiment(AGNEWS.trials(data, out, seeds=None), out, workers=2, on_done=tick)`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from presspool.common.data.tables import read_table
from presspool.common.runs.recipe import recipe
from presspool.simulations.experiments.arms import Arm, Tables
from presspool.simulations.experiments.experiment import Experiment, Question
from presspool.simulations.experiments.pools import Pool, Record, write_pool

LABELS = ("world news", "sports", "business", "science and technology")
MAX_LENGTH, RECORDS_PER_READER = 48, 2
VALIDATION_SHARE = 0.25


def pools(data: Path, folder: Path) -> list[Pool]:
    """The confirmation grid's two pools.

    Raises:
        DataError: the data set is not there.
    """
    train, test = read_rows(data, "train_a"), read_rows(data, "test")
    return [make_pool(train, test, folder / f"agnews-{outlets}", outlets) for outlets in (4, 20)]


def search_pools(data: Path, folder: Path) -> list[Pool]:
    """The search grid's pool: training rows alone, some readers kept for validation."""
    rows = read_rows(data, "train_a")
    kept = round(len(rows) * VALIDATION_SHARE)
    return [make_pool(rows[kept:], rows[:kept], folder / "agnews-search", 4)]


def read_rows(data: Path, name: str) -> list[tuple[str, str]]:
    """Text and label of each row of a part, in an order that a hash of their numbers gives."""
    columns = {key: key for key in ("label", "title", "description")}
    rows = read_table(data / "ag_news" / f"{name}.csv.gz", columns).to_pylist()
    order = sorted(range(len(rows)), key=lambda i: hashlib.sha256(f"{name}/{i}".encode()).digest())
    return [
        (f"{rows[i]['title']}. {rows[i]['description']}", LABELS[int(rows[i]["label"]) - 1])
        for i in order
    ]


def make_pool(
    train: Sequence[tuple[str, str]], test: Sequence[tuple[str, str]], folder: Path, outlets: int
) -> Pool:
    """Rows as readers of two records each, readers as outlets of equal size."""
    records = [
        Record(
            outlet=f"outlet-{reader % outlets + 1:02}",
            reader=f"reader-{reader}",
            text=text,
            label=label,
            test=False,
        )
        for number, (text, label) in enumerate(train)
        for reader in [number // RECORDS_PER_READER]
    ]
    records += [
        Record(outlet="public", reader=f"test-{number}", text=text, label=label, test=True)
        for number, (text, label) in enumerate(test)
    ]
    readers = round(len(train) / RECORDS_PER_READER / outlets)
    return write_pool(
        records,
        folder,
        labels=LABELS,
        max_length=MAX_LENGTH,
        name=f"{outlets} outlets of {readers:,} readers",
    )


HEAD, ADAPTER = recipe(trained="head"), recipe(trained="adapter")
SEEDS = (1, 2, 3, 4, 5)
PRIVATE = (3.0, 8.0)
FOUR, TWENTY = ("agnews-4",), ("agnews-20",)

# Everybody's rows in one place are the same rows for both pools, so `central` stands in the first.
AGNEWS = Experiment(
    name="agnews",
    pools=pools,
    arms=(
        Arm(name="untrained", kind="untrained", recipe=HEAD, seeds=(1,)),
        Arm(
            name="head only",
            kind="federated",
            recipe=HEAD,
            epsilons=(*PRIVATE, math.inf),
            seeds=SEEDS,
        ),
        Arm(
            name="local head only",
            kind="local",
            recipe=HEAD,
            epsilons=(3.0,),
            seeds=SEEDS,
            pools=FOUR,
        ),
        Arm(
            name="local head only",
            kind="local",
            recipe=HEAD,
            epsilons=(3.0,),
            seeds=(1,),
            pools=TWENTY,
        ),
        Arm(
            name="federated",
            kind="federated",
            recipe=ADAPTER,
            epsilons=(*PRIVATE, math.inf),
            seeds=(1, 2),
            pools=FOUR,
        ),
        Arm(
            name="federated",
            kind="federated",
            recipe=ADAPTER,
            epsilons=(*PRIVATE, math.inf),
            seeds=(1,),
            pools=TWENTY,
        ),
        Arm(name="local", kind="local", recipe=ADAPTER, epsilons=(3.0,), seeds=(1,)),
        Arm(name="central", kind="central", recipe=ADAPTER, seeds=(1, 2), pools=FOUR),
    ),
    questions=(
        Question(
            text="federated above head only at ε = 8",
            left=("federated", 8.0),
            right=("head only", 8.0),
        ),
        Question(
            text="federated above head only at ε = 3",
            left=("federated", 3.0),
            right=("head only", 3.0),
        ),
        Question(
            text="federated above head only without privacy",
            left=("federated", math.inf),
            right=("head only", math.inf),
        ),
        Question(
            text="federated above local at ε = 3", left=("federated", 3.0), right=("local", 3.0)
        ),
        Question(
            text="head only, federated above local at ε = 3",
            left=("head only", 3.0),
            right=("local head only", 3.0),
        ),
    ),
)


def _changed(**tables: Mapping[str, object]) -> Tables:
    return {**ADAPTER, **{key: {**ADAPTER[key], **table} for key, table in tables.items()}}


# One change of the default at a time, at ε = 8.
VARIANTS: dict[str, Tables] = {
    "head only": HEAD,
    "default": ADAPTER,
    "rank 4": _changed(adapter={"rank": 4, "alpha": 8}),
    "query and value only": _changed(adapter={"targets": ["query", "value"]}),
    "last layer only": _changed(adapter={"layers": 1}),
    "A trained too": _changed(adapter={"method": "fedit"}),
    "half the adapter's rate": _changed(server={"learning_rate": {"adapter": 0.01, "head": 0.5}}),
    "half the clip norms": _changed(privacy={"clip": {"adapter": 0.1, "head": 0.1}}),
    "one record a reader": _changed(privacy={"records_per_reader": 1}),
    "twice the sampling rate": _changed(privacy={"sampling_rate": 0.25}),
    "twice the rounds": _changed(federation={"rounds": 32}),
    "head from zero": _changed(task={"head": "zero"}),
    "averaging, SGD at the outlets": _changed(
        server={"name": "average", "learning_rate": 1.0},
        optimizer={"learning_rate": {"adapter": 5.0, "head": 60.0}},
    ),
}

SEARCH = Experiment(
    name="agnews-search",
    pools=search_pools,
    arms=tuple(
        Arm(name=name, kind="federated", recipe=tables, epsilons=(8.0,), seeds=(1,))
        for name, tables in VARIANTS.items()
    ),
)
