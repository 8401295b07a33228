"""What the reader as unit costs: reader against record at equal noise, and the effect of k.

Data: `stackexchange_comments`, real people of whom half wrote one or two comments and one wrote
628; the site is the label. 30 % of the people (by a hash of their id) are test readers, each with
at most ten comments, so that nobody dominates; the others are dealt to two outlets.

The record arm has the σ of the reader arms. Its own ε is about single records; what it gives a
reader with m records is `PrivacyPlan.group_epsilon(m)`, and that is what the page prints.

Example: `run_experiment(READERS.trials(data, out, seeds=None), out, workers=2, on_done=tick)`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from presspool.common.data.tables import read_table
from presspool.common.runs.recipe import recipe
from presspool.simulations.experiments.arms import Arm, Tables, declare
from presspool.simulations.experiments.experiment import Experiment, Question
from presspool.simulations.experiments.pools import (
    EVERYBODY,
    Pool,
    Record,
    share_of,
    write_pool,
)

TEST_SHARE, TEST_RECORDS = 0.3, 10
OUTLETS = 2
MAX_LENGTH = 48
EPSILON = 8.0
SEEDS = (1, 2, 3, 4, 5)
KS = (1, 2, 4, 16)


def pools(data: Path, folder: Path) -> list[Pool]:
    """People of three sites, dealt to two outlets; raises as `read_comments`."""
    records = read_comments(data)
    labels = sorted({record.label for record in records})
    return [
        write_pool(
            records,
            folder / "comments",
            name="people of three sites",
            labels=labels,
            max_length=MAX_LENGTH,
        )
    ]


def read_comments(data: Path) -> list[Record]:
    """Comments and their sites.

    Raises:
        DataError: the data set is not there.
    """
    columns = {key: key for key in ("site", "user_id", "text")}
    rows = read_table(data / "stackexchange_comments" / "all.csv.gz", columns).to_pylist()
    seen: Counter[str] = Counter()
    records = []
    for row in rows:
        reader, share = row["user_id"], share_of(row["user_id"])
        seen[reader] += 1
        test = share < TEST_SHARE
        if row["text"].strip() and not (test and seen[reader] > TEST_RECORDS):
            outlet = f"outlet-{int(share * 10_000) % OUTLETS + 1}"
            records.append(
                Record(outlet=outlet, reader=reader, text=row["text"], label=row["site"], test=test)
            )
    return records


HEAD = recipe(trained="head")


def _with(**privacy: object) -> Tables:
    return {**HEAD, "privacy": {**HEAD["privacy"], **privacy}}


# σ follows from ε, δ, q and the steps alone, so with the same ε it is the reader arms' σ.
RECORD = Arm(
    name="unit record, same σ",
    kind="federated",
    epsilons=(EPSILON,),
    seeds=SEEDS,
    recipe=_with(unit="record"),
)


def group_table(pools: Sequence[Pool]) -> str:
    """What the record arm promises to readers by their number of records, as Markdown."""
    [pool] = pools
    plan = declare(pool, RECORD, EPSILON, seed=1).jobs[EVERYBODY].run.contract.with_noise().plan
    readers = pq.read_table(pool.folder / f"{EVERYBODY}.parquet")["reader"].to_pylist()
    sizes = list(Counter(readers).values())
    lines = ["| readers | records | ε that the record arm gives them |", "| --- | ---: | ---: |"]
    for name, share in (("median", 0.5), ("90th percentile", 0.9), ("largest", 1.0)):
        records = int(np.quantile(sizes, share))
        lines.append(f"| {name} | {records} | {plan.group_epsilon(records):,.1f} |")
    return "\n".join(lines)


READERS = Experiment(
    name="readers",
    pools=pools,
    note=group_table,
    arms=(
        Arm(name="untrained", kind="untrained", recipe=HEAD, seeds=(1,)),
        *(
            Arm(
                name=f"unit reader, k = {k}",
                kind="federated",
                epsilons=(EPSILON, math.inf),
                recipe=_with(records_per_reader=k),
                seeds=SEEDS,
            )
            for k in KS
        ),
        RECORD,
    ),
    questions=tuple(
        Question(
            text=f"record against reader, k = {k}, same σ",
            left=(RECORD.name, EPSILON),
            right=(f"unit reader, k = {k}", EPSILON),
        )
        for k in KS
    ),
)
