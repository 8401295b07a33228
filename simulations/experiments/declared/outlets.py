"""Does it pay to join? Eight real outlets, each alone against all together.

Data: the eight largest sources of `article_bias` are the outlets, title → one of the eight topics
that are most frequent among them. A reader is an author; a row without one is a reader of its own.
Readers, not rows, are split into training and test (by a hash of their id: 30 % test), so nobody is
on both sides. Declared populations are the numbers of training readers.

Example: `run_experiment(OUTLETS.trials(data, out, seeds=None), out, workers=2, on_done=tick)`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from presspool.common.base.errors import DataError
from presspool.common.data.tables import read_table
from presspool.common.runs.recipe import recipe
from presspool.common.runs.run_file import slug
from presspool.simulations.experiments.arms import Arm
from presspool.simulations.experiments.experiment import Experiment, Question
from presspool.simulations.experiments.pools import Pool, Record, share_of, write_pool

SOURCES, TOPICS = 8, 8
TEST_SHARE = 0.3
MAX_LENGTH = 32


def pools(data: Path, folder: Path) -> list[Pool]:
    """The eight outlets.

    Raises:
        DataError: the file is missing or is not the data set.
    """
    topics, records = read_articles(data)
    return [
        write_pool(
            records,
            folder / "articles",
            name="eight real outlets",
            labels=topics,
            max_length=MAX_LENGTH,
        )
    ]


def read_articles(data: Path) -> tuple[list[str], list[Record]]:
    """The topics, and the articles on them in the eight outlets; raises as `pools`."""
    file = data / "article_bias" / "meta.csv.gz"
    columns = {key: key for key in ("ID", "source", "topic", "authors", "title")}
    rows = read_table(file, columns).to_pylist()
    sources = _most_common(rows, "source", SOURCES)
    rows = [row for row in rows if row["source"] in sources]
    topics = _most_common(rows, "topic", TOPICS)
    records = [_record(row) for row in rows if row["topic"] in topics and row["title"].strip()]
    if not records:
        raise DataError("no articles", where=str(file), expected="the article_bias data set")
    return topics, records


def _record(row: Mapping[str, str]) -> Record:
    outlet = slug(row["source"])
    reader = f"{outlet}/{row['authors'].strip() or 'row ' + row['ID']}"
    return Record(
        outlet=outlet,
        reader=reader,
        text=row["title"],
        label=row["topic"],
        test=share_of(reader) < TEST_SHARE,
    )


def _most_common(rows: Sequence[Mapping[str, str]], column: str, count: int) -> list[str]:
    return [value for value, _ in Counter(row[column] for row in rows).most_common(count)]


HEAD, ADAPTER = recipe(trained="head"), recipe(trained="adapter")
SEEDS = (1, 2, 3, 4, 5)

OUTLETS = Experiment(
    name="outlets",
    pools=pools,
    arms=(
        Arm(name="untrained", kind="untrained", recipe=HEAD, seeds=(1,)),
        Arm(name="head only", kind="federated", recipe=HEAD, epsilons=(3.0, math.inf), seeds=SEEDS),
        Arm(
            name="local head only", kind="local", recipe=HEAD, epsilons=(3.0, math.inf), seeds=SEEDS
        ),
        Arm(name="local", kind="local", recipe=ADAPTER, epsilons=(3.0,), seeds=(1,)),
        Arm(name="central", kind="central", recipe=ADAPTER, seeds=(1,)),
        Arm(
            name="federated", kind="federated", recipe=ADAPTER, epsilons=(3.0, math.inf), seeds=(1,)
        ),
    ),
    questions=(
        Question(
            text="private: head only, federated above local",
            left=("head only", 3.0),
            right=("local head only", 3.0),
            figure="own",
        ),
        Question(
            text="private: federated above local",
            left=("federated", 3.0),
            right=("local", 3.0),
            figure="own",
        ),
        Question(
            text="head only: federated and private above local without privacy",
            left=("head only", 3.0),
            right=("local head only", math.inf),
            figure="own",
        ),
    ),
)
