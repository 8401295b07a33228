"""What the reader as unit costs: reader against record at equal noise, and the effect of k.

Data: `stackexchange_comments`, real people of whom half wrote one or two comments and one wrote
628; the site is the label. 30 % of the people (by a hash of their id) are test readers, each with
at most ten comments, so that nobody dominates; the others are dealt to two outlets.

The record arm takes the σ of the reader arm. Its own ε is about single records; what it gives a
reader with m records is `PrivacyPlan.group_epsilon(m)`, and that is what the page prints.

Example: `run_experiment(READERS.trials(data, out, seeds=None), out, workers=2, on_done=tick)`.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from presspool.common.privacy import PrivacyPlan, solve_noise
from presspool.common.recipe import recipe
from presspool.common.tables import read_table
from presspool.simulations.experiments.arms import Arm, Tables
from presspool.simulations.experiments.experiment import Experiment, Question
from presspool.simulations.experiments.outlets import share_of
from presspool.simulations.experiments.pools import EVERYBODY, Pool, Record, write_pool

TEST_SHARE, TEST_RECORDS = 0.3, 10
OUTLETS = 2
MAX_LENGTH = 48
EPSILON = 8.0
SEEDS = (1, 2, 3, 4, 5)
KS = (1, 2, 4, 16)


def pools(data: Path, folder: Path) -> list[Pool]:
    """People of three sites, dealt to two outlets.

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
    labels = sorted({record.label for record in records})
    return [write_pool(records, folder / "comments", name="people of three sites", labels=labels,
                       max_length=MAX_LENGTH)]  # fmt: skip


def _with(**privacy: object) -> Tables:
    tables = recipe(trained="head")
    return {**tables, "privacy": {**tables["privacy"], **privacy}}


def _arms() -> tuple[Arm, ...]:
    base = recipe(trained="head")
    steps = base["federation"]["rounds"] * base["federation"]["local_steps"]
    sigma = solve_noise(
        epsilon=EPSILON, delta=base["privacy"]["delta"], steps=steps,
        sampling_rate=base["privacy"]["sampling_rate"],
    )  # fmt: skip
    by_k = tuple(
        Arm(name=f"unit reader, k = {k}", kind="federated", epsilons=(EPSILON, math.inf),
            recipe=_with(records_per_reader=k), seeds=SEEDS)
        for k in KS
    )  # fmt: skip
    record = Arm(
        name="unit record, same σ", kind="federated", epsilons=(EPSILON,), seeds=SEEDS,
        recipe=_with(unit="record", noise_multiplier=sigma),
    )  # fmt: skip
    untrained = Arm(name="untrained", kind="untrained", recipe=base, seeds=(1,))
    return (untrained, *by_k, record)


READERS = Experiment(
    name="readers", pools=pools, arms=_arms(),
    questions=tuple(
        Question(text=f"record against reader, k = {k}, same σ",
                 left=("unit record, same σ", EPSILON), right=(f"unit reader, k = {k}", EPSILON))
        for k in KS
    ),
)  # fmt: skip


def group_table(pool: Pool) -> str:
    """What the record arm promises to readers by their number of records, as Markdown."""
    arm = READERS.arms[-1]
    privacy, federation = arm.recipe["privacy"], arm.recipe["federation"]
    plan = PrivacyPlan(
        unit="record", noise_multiplier=privacy["noise_multiplier"], clip={"all": 1.0},
        sampling_rate=privacy["sampling_rate"], records_per_reader=1, delta=privacy["delta"],
        steps=federation["rounds"] * federation["local_steps"],
    )  # fmt: skip
    readers = pq.read_table(pool.folder / f"{EVERYBODY}.parquet")["reader"].to_pylist()
    sizes = list(Counter(readers).values())
    lines = ["| readers | records | ε that the record arm gives them |", "| --- | ---: | ---: |"]
    for name, share in (("median", 0.5), ("90th percentile", 0.9), ("largest", 1.0)):
        records = int(np.quantile(sizes, share))
        lines.append(f"| {name} | {records} | {plan.group_epsilon(records):,.1f} |")
    return "\n".join(lines)
