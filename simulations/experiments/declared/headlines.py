"""Does a private adapter pay where there is no head? Headlines by a small generating model.

Two pools:

* `headlines`: `abc_headlines`, 19 February to 27 May 2003, each headline after the same words. The
  split is by date: training headlines are from before `VALIDATION_DAY`, what is tested from
  `TEST_DAY` on, so one day's stories are on one side. 16,000 training headlines, two to a made
  reader, over 8 outlets of 1,000 readers. Headlines are dealt out by a hash of their row, not in
  blocks of dates: the outlets are then alike, and one that trains alone misses readers but no
  month. That favours the arm that the federation is compared with.
* `articles`: the conditional form, the first words of an article → its headline: BBC sections and
  the three leanings of `article_bias` are the outlets, every article a reader of its own. A small
  pool of some 300 readers an outlet.

Four training headlines belong to no reader: the public examples of the few-shot arm, and of the
tuned model where it is asked in the same way.

All prompts of `headlines` are the same words, so a model writes one headline for all of them and
its ROUGE-L says only how usual those words are; `articles` asks for a headline of something.

`SEARCH`, which chose the recipe, trains on the first outlet's readers alone, with the noise that
the mean of all eight has, and is judged on the training days from `VALIDATION_DAY` on.

Example: `run_experiment(HEADLINES.trials(data, out, seeds=None), out, workers=1, on_done=tick)`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from presspool.common.data.tables import read_table
from presspool.common.runs.default_recipe import CLIP, writing_recipe
from presspool.simulations.experiments.arms import Arm, Tables
from presspool.simulations.experiments.experiment import Experiment, Question, ShareQuestion
from presspool.simulations.experiments.pools import (
    Pool,
    Record,
    share_of,
    write_few_shot,
    write_pool,
)
from presspool.simulations.newsroom.few_shot import shown

OUTLETS, READERS, RECORDS_PER_READER = 8, 1000, 2
VALIDATION_DAY, TEST_DAY = "20030523", "20030525"
ASKED, ARTICLE = "News headline:", "Article: {}\nHeadline:"
EXAMPLES = 4
ARTICLE_WORDS, ARTICLE_TEST_SHARE = 40, 0.1
# A headline has some ten tokens; what a model writes beyond that is no part of one.
TASK: Mapping[str, Any] = {"kind": "generation", "format": "prompt", "answer_length": 24}


def pools(data: Path, folder: Path) -> list[Pool]:
    """Headlines alone, and headlines of articles.

    Raises:
        DataError: a data set is not there.
    """
    return [
        headline_pool(data, folder / "headlines", days=(TEST_DAY, "99999999")),
        article_pool(data, folder / "articles"),
    ]


def search_pools(data: Path, folder: Path) -> list[Pool]:
    """The search grid's pool: one outlet's readers, judged on the last training days."""
    days = VALIDATION_DAY, TEST_DAY
    return [headline_pool(data, folder / "headlines-search", days=days, outlets=1)]


def headline_pool(
    data: Path,
    folder: Path,
    *,
    days: tuple[str, str],
    outlets: int = OUTLETS,
    readers: int | None = None,
) -> Pool:
    """The made readers of the first `outlets` outlets, and the headlines of some later days.

    Args:
        data: folder of the data sets.
        folder: where to.
        days: the first day of the test headlines, and the first after them.
        outlets: how many of the outlets.
        readers: of each; READERS if not given.
    """
    readers = readers or READERS
    columns = {key: key for key in ("publish_date", "headline_text")}
    rows = read_table(data / "abc_headlines" / "all.csv.gz", columns).to_pydict()
    dated = list(zip(rows["publish_date"], rows["headline_text"], strict=True))
    train = _dealt([said for day, said in dated if day < VALIDATION_DAY])
    known = set(train)
    test = [said for day, said in dated if days[0] <= day < days[1] and said not in known]
    examples, train = train[:EXAMPLES], train[EXAMPLES:]
    records = [
        Record(
            outlet=f"outlet-{reader % OUTLETS + 1}",
            reader=f"reader-{reader}",
            text=ASKED,
            label=said,
            test=False,
        )
        for number, said in enumerate(train[: OUTLETS * readers * RECORDS_PER_READER])
        for reader in [number // RECORDS_PER_READER]
        if reader % OUTLETS < outlets
    ]
    records += [
        Record(outlet="public", reader=f"test-{number}", text=ASKED, label=said, test=True)
        for number, said in enumerate(test)
    ]
    name = f"headlines, {outlets} outlets of {readers:,} readers"
    pool = write_pool(records, folder, name=name, max_length=96, task=TASK)
    write_few_shot(pool, shown([(ASKED, said) for said in examples]))
    return pool


def article_pool(data: Path, folder: Path) -> Pool:
    """Articles of BBC sections and of three leanings, each a reader of its own."""
    records = [*_bbc(data), *_leanings(data)]
    records.sort(key=lambda record: share_of(record.reader))  # those for testing come first
    others, examples = records[:-EXAMPLES], records[-EXAMPLES:]
    name = "headlines of articles"
    pool = write_pool(others, folder, name=name, max_length=96, task=TASK)
    write_few_shot(pool, shown([(record.text, record.label) for record in examples]))
    return pool


def _bbc(data: Path) -> list[Record]:
    """The first line of an article is its headline."""
    columns = {key: key for key in ("id", "category", "article")}
    rows = read_table(data / "bbc_summary" / "all.jsonl.gz", columns).to_pylist()
    parts = [(row, *row["article"].strip().partition("\n")) for row in rows]
    return [
        _article(f"bbc-{row['category']}", row["id"], body, headline)
        for row, headline, _, body in parts
    ]


def _leanings(data: Path) -> list[Record]:
    columns = {key: key for key in ("ID", "bias", "title", "content_original")}
    rows = read_table(data / "article_bias" / "bodies.jsonl.gz", columns).to_pylist()
    return [_article(row["bias"], row["ID"], row["content_original"], row["title"]) for row in rows]


def _article(outlet: str, number: str, body: str, headline: str) -> Record:
    reader = f"{outlet}/{number}"
    return Record(
        outlet=outlet,
        reader=reader,
        text=ARTICLE.format(" ".join(body.split()[:ARTICLE_WORDS])),
        label=headline.strip(),
        test=share_of(reader) < ARTICLE_TEST_SHARE,
    )


def _dealt(said: Sequence[str]) -> list[str]:
    """Different headlines in an order that a hash of each gives."""
    return sorted(dict.fromkeys(said), key=lambda one: hashlib.sha256(one.encode()).digest())


SEEDS = (1, 2, 3)
PLAIN, FEW_SHOT = ("plain base", math.inf), ("few-shot base", math.inf)
SAME = "federated, with the same examples", 8.0


def _few_shot(pool: str, **task: int) -> Arm:
    tables = {**writing_recipe(), "task": task}
    return Arm(name=FEW_SHOT[0], kind="few-shot", recipe=tables, seeds=(1,), pools=(pool,))


HEADLINES = Experiment(
    name="headlines",
    pools=pools,
    arms=(
        Arm(name=PLAIN[0], kind="untrained", recipe=writing_recipe(), seeds=(1,)),
        _few_shot("headlines"),
        _few_shot("articles", max_length=448),
        Arm(
            name="federated",
            kind="federated",
            recipe=writing_recipe(),
            epsilons=(8.0, math.inf, 3.0),
            seeds=SEEDS,
            pools=("headlines",),
        ),
        Arm(
            name=SAME[0],
            kind="asked",
            models="federated",
            recipe=writing_recipe(),
            epsilons=(8.0,),
            seeds=SEEDS,
            pools=("headlines",),
        ),
        Arm(
            name="local",
            kind="local",
            recipe=writing_recipe(),
            epsilons=(8.0,),
            seeds=SEEDS,
            pools=("headlines",),
        ),
        Arm(
            name="federated",
            kind="federated",
            recipe=writing_recipe(),
            epsilons=(8.0, math.inf, 3.0),
            seeds=(1,),
            pools=("articles",),
        ),
        Arm(
            name="local",
            kind="local",
            recipe=writing_recipe(),
            epsilons=(8.0,),
            seeds=(1,),
            pools=("articles",),
        ),
    ),
    questions=(
        ShareQuestion(
            text="share of the gain without privacy that is left at ε = 8",
            kept=("federated", 8.0),
            start=PLAIN,
            best=("federated", math.inf),
            at_least=0.80,
        ),
        ShareQuestion(
            text="share of the gain without privacy that is left at ε = 3",
            kept=("federated", 3.0),
            start=PLAIN,
            best=("federated", math.inf),
            at_least=0.70,
        ),
        Question(
            text="nats saved by federated at ε = 8 over the few-shot base",
            left=("federated", 8.0),
            right=FEW_SHOT,
        ),
        Question(
            text="the same where both are asked with the examples",
            left=SAME,
            right=FEW_SHOT,
        ),
        Question(
            text="nats saved by federated at ε = 8 over local at ε = 8",
            left=("federated", 8.0),
            right=("local", 8.0),
        ),
    ),
)

# The ε whose σ is 1/√8 of that of ε = 8: with it one outlet has the noise of the mean of eight.
EMULATED = 73.2

# One change of the default at a time.
VARIANTS: dict[str, Tables] = {
    "rate 0.03": writing_recipe(rate=0.03),
    "half the clip norm": writing_recipe(clip=CLIP / 2),
    "o and down, rank 4": writing_recipe(rank=4, targets=("o_proj", "down_proj")),
}

SEARCH = Experiment(
    name="headlines-search",
    pools=search_pools,
    arms=(
        Arm(name=PLAIN[0], kind="untrained", recipe=writing_recipe(), seeds=(1,)),
        _few_shot("headlines-search"),
        Arm(
            name="default",
            kind="federated",
            recipe=writing_recipe(),
            epsilons=(EMULATED, math.inf),
            seeds=(1,),
        ),
        *(
            Arm(name=name, kind="federated", recipe=tables, epsilons=(EMULATED,), seeds=(1,))
            for name, tables in VARIANTS.items()
        ),
    ),
    questions=(
        *(
            Question(
                text=f"nats saved by the default over {name}",
                left=("default", EMULATED),
                right=(name, EMULATED),
            )
            for name in VARIANTS
        ),
        Question(
            text="nats saved by the default over the few-shot base",
            left=("default", EMULATED),
            right=FEW_SHOT,
        ),
    ),
)
