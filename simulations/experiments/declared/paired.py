"""Encoder and decoder: small T5 and BART, trained from scratch on public rows, write headlines.

The bases learn AG News' training rows, description → title (`scratch_bases`), which are public
here. Federated is HuffPost, description → headline: its four largest sections are the outlets,
every article a reader of its own. Figures are of models of some 1.5 million numbers that read
12,000 titles before: they show what privacy leaves of what such an adapter learns, and nothing of
what a pretrained T5 or BART would write.

`SEARCH`, which chose the rate, is judged on a part of the training readers.

Example: `run_experiment(PAIRED.trials(data, out, seeds=None), out, workers=1, on_done=tick)`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from presspool.common.data.tables import read_table
from presspool.common.runs.default_recipe import writing_recipe
from presspool.simulations.experiments.arms import Arm, Tables
from presspool.simulations.experiments.experiment import Experiment, Question, ShareQuestion
from presspool.simulations.experiments.pools import Pool, Record, share_of, write_pool
from presspool.simulations.experiments.scratch_bases import SIZES, Pair, scratch_base

SECTIONS = ("POLITICS", "ENTERTAINMENT", "U.S. NEWS", "WORLD NEWS")
TARGETS = {
    "t5": ("SelfAttention.q", "SelfAttention.v", "EncDecAttention.q", "EncDecAttention.v", "wo"),
    "bart": (
        "self_attn.q_proj",
        "self_attn.v_proj",
        "encoder_attn.q_proj",
        "encoder_attn.v_proj",
        "fc2",
    ),
}
TESTED, SEARCHED = 0.1, 0.3  # of the articles: tested; below this share, judged by the search
MAX_LENGTH = 96
TASK: Mapping[str, Any] = {"kind": "generation", "format": "summary", "answer_length": 24}
SEEDS = (1, 2, 3)
BASE, OPEN, KEPT = ("plain base", math.inf), ("adapter", math.inf), ("adapter", 8.0)


def pools(data: Path, folder: Path) -> list[Pool]:
    """One for each family, of the same rows.

    Raises:
        DataError: a data set is not there.
    """
    return _pools(headlines(data), data, folder, "")


def search_pools(data: Path, folder: Path) -> list[Pool]:
    """The same without the test rows; some of the training rows stand in for them."""
    train = [record for record in headlines(data) if not record.test]
    judged = [replace(record, test=share_of(record.reader) < SEARCHED) for record in train]
    return _pools(judged, data, folder, "-search")


def headlines(data: Path) -> list[Record]:
    """HuffPost's articles of four sections: a line of description, and the headline."""
    columns = {key: key for key in ("link", "category", "short_description", "headline")}
    rows = read_table(data / "huffpost" / "all.jsonl.gz", columns).to_pylist()
    return [
        Record(
            outlet=row["category"].lower().replace(". ", "-").replace(" ", "-").replace(".", ""),
            reader=row["link"],
            text=row["short_description"],
            label=row["headline"],
            test=share_of(row["link"]) < TESTED,
        )
        for row in rows
        if row["category"] in SECTIONS
    ]


def titles(data: Path) -> list[Pair]:
    """AG News' training rows: a description, and its title."""
    columns = {key: key for key in ("description", "title")}
    rows = read_table(data / "ag_news" / "train_a.csv.gz", columns).to_pylist()
    return [(row["description"], row["title"]) for row in rows]


def _pools(records: Sequence[Record], data: Path, folder: Path, kind: str) -> list[Pool]:
    made = []
    for family in SIZES:
        name = f"{family.upper()} from scratch, HuffPost's headlines"
        base = scratch_base(family, titles(data), folder / f"{family}-base")
        pool = write_pool(
            records,
            folder / f"paired-{family}{kind}",
            name=name,
            max_length=MAX_LENGTH,
            task=TASK,
            columns=("article", "summary"),
        )
        made.append(replace(pool, base=base))
    return made


def adapted(family: str, *, rate: float = 0.03) -> Tables:
    """The tables of a run that tunes a family's decoder, but for ε, outlets and base.

    Args:
        family: one of `TARGETS`.
        rate: of the coordinator's Adam.
    """
    tables = writing_recipe(rank=4, targets=TARGETS[family], clip=1.0, rate=rate)
    return {
        **tables,
        "adapter": {**tables["adapter"], "layers": None},
        "federation": {**tables["federation"], "rounds": 30},
        "privacy": {**tables["privacy"], "records_per_reader": 1},
    }


def _arms(family: str) -> tuple[Arm, ...]:
    pools = (f"paired-{family}",)
    adapter = partial(
        Arm, name=KEPT[0], kind="federated", recipe=adapted(family), pools=pools, seeds=SEEDS
    )
    return (
        Arm(name=BASE[0], kind="untrained", recipe=adapted(family), seeds=(1,), pools=pools),
        adapter(epsilons=(8.0, 3.0, math.inf)),
    )


PAIRED = Experiment(
    name="paired",
    pools=pools,
    arms=tuple(arm for family in SIZES for arm in _arms(family)),
    questions=(
        ShareQuestion(
            text="share of the gain without privacy that is left at ε = 8",
            kept=KEPT,
            start=BASE,
            best=OPEN,
            at_least=0.6,
        ),
        Question(text="nats saved at ε = 8", left=KEPT, right=BASE),
        Question(text="ROUGE-L at ε = 8 above the base's", left=KEPT, right=BASE, figure="written"),
    ),
)

RATES = (0.01, 0.03, 0.1)
SEARCH = Experiment(
    name="paired-search",
    pools=search_pools,
    arms=tuple(
        Arm(
            name=f"rate {rate:g}",
            kind="federated",
            recipe=adapted(family, rate=rate),
            epsilons=(8.0, math.inf),
            seeds=(1,),
            pools=(f"paired-{family}-search",),
        )
        for family in SIZES
        for rate in RATES
    ),
)
