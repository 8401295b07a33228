"""The part of `newsroom_tasks` that a small language model writes: headlines, summaries, comments.

* `articles`: the first words of an article → its headline; see `headlines`. Here with noise that
  the pool shares, which some 300 readers an outlet ask for.
* `summaries`: BBC's five sections as outlets; an article's first words → the first sentence of its
  summary, which may stand further down. Every article is a reader of its own.
* `people`, `people-first`: comments of real people as text, the protocol of Chua et al. 2024
  ("Mind the Privacy Unit!", arXiv 2406.14322) at this size: the reader is the author. In the first
  pool each step draws two of a drawn author's records; in the second the author's first two are all
  that there is. Both are tested on the same other people.

Of few readers a step takes a share of 0.2: σ / q, the noise on their mean, is then two thirds of
that at 0.1 (4.2 against 6.5 at ε = 8 over 15 steps). Nothing was tuned on these pools.

Example: `arms()` are added to those of `newsroom_tasks.TASKS`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from presspool.common.data.tables import read_table
from presspool.common.runs.default_recipe import writing_recipe
from presspool.common.tasks.scores.text_metrics import first_sentence, rouge_l_each
from presspool.simulations.experiments.arms import Arm, Tables
from presspool.simulations.experiments.declared.headlines import ARTICLE, article_pool
from presspool.simulations.experiments.declared.pooled_trust import pooled_writing
from presspool.simulations.experiments.declared.reader_unit import MAX_LENGTH, read_comments
from presspool.simulations.experiments.experiment import Question, ShareQuestion
from presspool.simulations.experiments.pools import Pool, Record, share_of, write_pool

ARTICLES, SUMMARIES, PEOPLE, FIRST = "articles", "summaries", "people", "people-first"
WORDS, TESTED = 50, 0.1  # of an article; of the articles
RATE = 0.2
SEEDS = (1, 2, 3)
BASE, OPEN = ("plain base", math.inf), ("writing", math.inf)
_GLUED = re.compile(
    r'(?<=[a-z0-9)"][.!?])(?=["A-Z])'
)  # sentences of a summary have no space between


def pools(data: Path, folder: Path) -> list[Pool]:
    """The four.

    Raises:
        DataError: a data set is not there.
    """
    comments = [replace(record, label="") for record in read_comments(data)]
    return [
        article_pool(data, folder / ARTICLES),
        summaries(data, folder / SUMMARIES),
        _people(comments, folder / PEOPLE, "comments of people: any two of each in a step"),
        _people(firsts(comments), folder / FIRST, "comments of people: the first two of each"),
    ]


def summaries(data: Path, folder: Path) -> Pool:
    """Articles without their headline, and the first sentence of each summary."""
    columns = {key: key for key in ("id", "category", "article", "summary")}
    rows = read_table(data / "bbc_summary" / "all.jsonl.gz", columns).to_pylist()
    records = [
        Record(
            outlet=f"bbc-{row['category']}",
            reader=reader,
            text=" ".join(row["article"].strip().partition("\n")[2].split()[:WORDS]),
            label=_GLUED.split(row["summary"].strip(' "'))[0],
            test=share_of(reader) < TESTED,
        )
        for row in rows
        for reader in [f"{row['category']}/{row['id']}"]
    ]
    return write_pool(
        records,
        folder,
        name="summaries, 5 outlets",
        max_length=128,
        task={"kind": "generation", "format": "summary", "prompt": "Summary:", "answer_length": 40},
        columns=("article", "summary"),
    )


def firsts(records: Sequence[Record], most: int = 2) -> list[Record]:
    """Of each training reader only the first `most` records."""
    seen, kept = Counter[str](), list[Record]()
    for record in records:
        seen[record.reader] += 1
        if record.test or seen[record.reader] <= most:
            kept.append(record)
    return kept


def _people(records: Sequence[Record], folder: Path, name: str) -> Pool:
    task = {"kind": "generation", "format": "text", "answer_length": 1}
    return write_pool(
        records, folder, name=name, max_length=MAX_LENGTH, task=task, columns=("text",)
    )


def lead_one(pools: Sequence[Pool]) -> str:
    """ROUGE-L of an article's first sentence as its headline, or its summary, as Markdown.

    "" where no pool has articles.
    """
    lines = ["| an article's first sentence | ROUGE-L |", "| --- | ---: |"]
    before, _, behind = ARTICLE.partition("{}")
    for pool in pools:
        if pool.folder.name in (ARTICLES, SUMMARIES):
            asked = "prompt" if pool.folder.name == ARTICLES else "article"
            tests = pq.read_table(pool.test).to_pydict()
            given = [text.removeprefix(before).removesuffix(behind) for text in tests[asked]]
            wanted = tests["answer" if asked == "prompt" else "summary"]
            rouge = rouge_l_each([first_sentence(text) for text in given], wanted)
            half = 1.96 * np.std(rouge) / math.sqrt(len(rouge))
            lines.append(f"| {pool.name} | {np.mean(rouge):.3f} ± {half:.3f} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _writing(rate: float = RATE) -> Tables:
    tables = writing_recipe()
    return {**tables, "privacy": {**tables["privacy"], "sampling_rate": rate}}


def arms() -> tuple[Arm, ...]:
    """Untouched, together, and with shared noise where each outlet has few readers."""
    shared, people = (ARTICLES, SUMMARIES), (PEOPLE, FIRST)
    return (
        Arm(name=BASE[0], kind="untrained", recipe=_writing(), seeds=(1,), pools=shared + people),
        Arm(
            name="writing",
            kind="federated",
            recipe=_writing(),
            epsilons=(8.0,),
            seeds=SEEDS,
            pools=people,
        ),
        Arm(
            name="writing, pooled",
            kind="federated",
            recipe=partial(pooled_writing, rate=RATE),
            epsilons=(8.0,),
            seeds=SEEDS,
            pools=shared,
        ),
        Arm(
            name="writing",
            kind="federated",
            recipe=_writing(),
            seeds=SEEDS,
            pools=(*shared, PEOPLE),
        ),
    )


def questions() -> tuple[Question | ShareQuestion, ...]:
    """Declared before the runs."""
    kept = ("writing, pooled", 8.0), ("writing", 8.0)
    return (
        *(
            ShareQuestion(
                text=f"share of the gain without privacy that {name} leaves at ε = {epsilon:g}",
                kept=(name, epsilon),
                start=BASE,
                best=OPEN,
                at_least=0.6,
            )
            for name, epsilon in kept
        ),
        *(
            Question(
                text=f"nats saved by {name} at ε = {epsilon:g}", left=(name, epsilon), right=BASE
            )
            for name, epsilon in kept
        ),
        Question(
            text="ROUGE-L of writing, pooled at ε = 8 above the base's",
            left=kept[0],
            right=BASE,
            figure="written",
        ),
    )
