"""What reader-level privacy leaves of a newsroom's other tasks: sentiment, entities, an archive.

* `sentiment`: SST-2's training rows, two to a made reader, dealt to four outlets; tested on its
  test rows. Beside it everybody's records in one place with single records protected, which is how
  such tables are mostly made.
* `entities`: WNUT 17 and Broad Twitter as two outlets, with the three types that both know. Tested
  on the test rows of the first and a quarter of the second's; two rows are a made reader's.
* `archive`: comments of real people (`stackexchange_comments`), whose hidden words the default
  encoder learns to say; tested on other people.

What a language model writes stands in `writing_tasks`, topics in `heads`.

Example: `run_experiment(TASKS.trials(data, out, seeds=None), out, workers=2, on_done=tick)`.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Mapping
from pathlib import Path

from presspool.common.base.errors import DataError
from presspool.common.data.tables import read_table
from presspool.common.runs.default_recipe import hidden_recipe, tagging_recipe
from presspool.common.runs.recipe import head_recipe, recipe
from presspool.common.tasks.records.tagged_words import kept, parts_of
from presspool.simulations.experiments.arms import Arm, Kind, Tables
from presspool.simulations.experiments.declared import reader_unit, writing_tasks
from presspool.simulations.experiments.experiment import Experiment, Question
from presspool.simulations.experiments.pools import Pool, Record, share_of, write_pool

SENTIMENT, ENTITIES, ARCHIVE = ("sentiment",), ("entities",), ("archive",)
TONES = {"0": "a negative review", "1": "a positive review"}
TYPES = {
    **{kind: kind for kind in ("PER", "LOC", "ORG")},
    "person": "PER",
    "location": "LOC",
    "corporation": "ORG",
    "group": "ORG",
}
TESTED = 0.25
PRIVATE = (1.0, 8.0)
SEEDS = (1, 2, 3)
WAYS: tuple[tuple[str, Kind], ...] = (("together", "federated"), ("alone", "local"))


def pools(data: Path, folder: Path) -> list[Pool]:
    """All of them; raises `DataError` where a data set is not there."""
    read = [sentiment(data, folder), entities(data, folder), archive(data, folder)]
    return [*read, *writing_tasks.pools(data, folder)]


def sentiment(data: Path, folder: Path, *, searched: bool = False) -> Pool:
    """SST-2 over four outlets; where a recipe is searched, tested on a quarter of the training."""
    records = [
        Record(
            outlet=f"outlet-{number // 2 % 4 + 1}" if name == "train" else "public",
            reader=f"{name}-{number // 2}",
            text=row["text"],
            label=TONES[row["label"]],
            test=name == "test" or (searched and share_of(f"train-{number // 2}") < TESTED),
        )
        for name in (("train",) if searched else ("train", "test"))
        for number, row in enumerate(_reviews(data / "sst2" / f"{name}.tsv.gz"))
    ]
    return write_pool(
        records,
        folder / (SENTIMENT[0] + ("-search" if searched else "")),
        name="sentiment: SST-2 over 4 outlets",
        labels=[*TONES.values()],
        max_length=64,
    )


def entities(data: Path, folder: Path) -> Pool:
    """Two real sets of tagged posts as outlets, with the types that both know."""
    records = [
        *_tagged(data / "wnut17" / "train.jsonl.gz", "emerging-news", tested=0.0),
        *_tagged(data / "wnut17" / "test.jsonl.gz", "emerging-news", tested=1.0),
        *_tagged(data / "broad_twitter" / "all.jsonl.gz", "broad-post", tested=TESTED),
    ]
    return write_pool(
        records,
        folder / ENTITIES[0],
        name="entities: WNUT 17 and Broad Twitter",
        labels=("PER", "LOC", "ORG"),
        max_length=64,
        task={"kind": "tagging", "format": "tokens"},
        columns=("tokens", "tags"),
    )


def archive(data: Path, folder: Path) -> Pool:
    """Comments without labels."""
    return write_pool(
        reader_unit.read_comments(data),
        folder / ARCHIVE[0],
        name="archive: comments of three sites, hidden words",
        max_length=reader_unit.MAX_LENGTH,
        task={"kind": "fill-mask"},
        columns=("text",),
    )


def _tagged(path: Path, outlet: str, *, tested: float) -> list[Record]:
    return [
        Record(outlet=outlet, reader=reader, text=row["tokens"], label=tags, test=share < tested)
        for number, row in enumerate(_posts(path))
        for reader in [f"{outlet}-{path.stem}-{number // 2}"]
        for share in [share_of(reader)]
        for tags in [kept([_known(tag) for tag in parts_of(row["tags"]) or ()])]
    ]


def _known(tag: str) -> str:
    mark, _, kind = tag.partition("-")
    return f"{mark}-{TYPES[kind]}" if kind in TYPES else "O"


# Both in an order that a hash gives: neighbours are often of one thread, or of one label.


def _posts(path: Path) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = read_table(path, {"tokens": "tokens", "tags": "tags"}).to_pylist()
    return sorted(rows, key=lambda row: share_of(row["tokens"]))


def _reviews(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        raise DataError("missing file", where=str(path), expected="the SST-2 data set")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    return sorted(rows, key=lambda row: share_of(row["text"]))


def head(populations: Mapping[str, int], classes: int, epsilon: float) -> Tables:
    """The default head's tables."""
    return head_recipe(populations=populations, classes=classes, epsilon=epsilon)


def record_head(populations: Mapping[str, int], classes: int, epsilon: float) -> Tables:
    """The same, with single records protected."""
    tables = head_recipe(populations=populations, classes=classes, epsilon=epsilon)
    return {**tables, "privacy": {**tables["privacy"], "unit": "record"}}


TASKS = Experiment(
    name="tasks",
    pools=pools,
    note=writing_tasks.lead_one,
    arms=(
        Arm(
            name="head",
            kind="federated",
            recipe=head,
            epsilons=(*PRIVATE, math.inf),
            seeds=SEEDS,
            pools=SENTIMENT,
        ),
        Arm(
            name="central, records protected",
            kind="central",
            recipe=record_head,
            epsilons=(*PRIVATE, math.inf),
            seeds=(1,),
            pools=SENTIMENT,
        ),
        Arm(
            name="logistic regression",
            kind="regression",
            recipe=recipe(),
            seeds=(1,),
            pools=SENTIMENT,
        ),
        *(
            Arm(
                name=name,
                kind=kind,
                recipe=tagging_recipe(),
                epsilons=(8.0, math.inf),
                seeds=SEEDS,
                pools=ENTITIES,
            )
            for name, kind in WAYS
        ),
        Arm(name="untrained", kind="untrained", recipe=hidden_recipe(), seeds=(1,), pools=ARCHIVE),
        Arm(
            name="pre-trained",
            kind="federated",
            recipe=hidden_recipe(),
            epsilons=(8.0, math.inf),
            seeds=SEEDS,
            pools=ARCHIVE,
        ),
        *writing_tasks.arms(),
    ),
    questions=(
        *(
            Question(
                text=f"private less without privacy, ε = {epsilon:g}",
                left=("head", epsilon),
                right=("head", math.inf),
            )
            for epsilon in PRIVATE
        ),
        Question(
            text="without privacy, head less logistic regression",
            left=("head", math.inf),
            right=("logistic regression", math.inf),
        ),
        Question(
            text="together above alone, without privacy",
            left=("together", math.inf),
            right=("alone", math.inf),
            figure="own",
        ),
        Question(
            text="together above alone at ε = 8",
            left=("together", 8.0),
            right=("alone", 8.0),
            figure="own",
        ),
        Question(
            text="pre-trained at ε = 8 better than untrained",
            left=("pre-trained", 8.0),
            right=("untrained", math.inf),
        ),
        *writing_tasks.questions(),
    ),
)
