"""Is the default head good by itself? Six labelled sets: the default, a grid, and the ceiling.

Sets: AG News, HuffPost's ten largest sections, UCI's news aggregator, the eight outlets of
`article_bias`, comments of three sites, and Chinese titles, which the base model reads badly.
Readers are real where a set has any (authors, commenters); else two rows are a made reader's.

Readers are split, not rows: a quarter for testing, and 15 % for validation, which `--search`, the
grid, is judged on. Both train on the same 60 %. Nothing but the last table reads the test readers.

Example: `run_experiment(HEADS.trials(data, out, seeds=1), out, workers=1, on_done=tick)`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from presspool.common.data.tables import read_table
from presspool.common.runs.recipe import head_recipe, recipe
from presspool.simulations.experiments.arms import Arm, Tables
from presspool.simulations.experiments.declared import agnews, outlets
from presspool.simulations.experiments.experiment import Experiment, Question
from presspool.simulations.experiments.pools import Pool, Record, share_of, write_pool

TESTED, VALIDATED = 0.25, 0.4  # readers whose share is below; the second, and not the first
MOST_ROWS = 8000
MOST_COMMENTS = 16  # of one person
TITLES = ("财经", "房产", "股票", "教育", "科技", "社会", "时政", "体育", "游戏", "娱乐")
SECTIONS = {"b": "business", "t": "science and technology", "e": "entertainment", "m": "health"}
EPSILONS = (1.0, 3.0, 8.0)


@dataclass(frozen=True, kw_only=True)
class LabelledRow:
    """A row of a set.

    Attributes:
        reader: whose it is.
        text: what was read.
        label: what it is about.
        outlet: where; "" to be dealt.
    """

    reader: str
    text: str
    label: str
    outlet: str = ""


@dataclass(frozen=True, kw_only=True)
class LabelledSet:
    """A data set, and how it becomes a pool.

    Attributes:
        name: of the pool's folder, and for tables.
        rows: reads it.
        outlets: to how many its readers are dealt, where it has none of its own.
        max_length: tokens a record is cut to.
    """

    name: str
    rows: Callable[[Path], list[LabelledRow]]
    outlets: int
    max_length: int

    def pool(self, data: Path, folder: Path, *, validated: bool) -> Pool:
        """Its training readers, and those of testing or of validation."""
        low, high = (TESTED, VALIDATED) if validated else (0.0, TESTED)
        rows = self.rows(data)
        records = [
            Record(
                outlet=row.outlet or f"outlet-{int(share * 1e6) % self.outlets + 1:02}",
                reader=row.reader,
                text=row.text,
                label=row.label,
                test=share < VALIDATED,
            )
            for row in rows
            for share in [share_of(row.reader)]
            if share >= VALIDATED or low <= share < high
        ]
        return write_pool(
            records,
            folder / self.name,
            name=self.name,
            labels=sorted({row.label for row in rows}),
            max_length=self.max_length,
        )


def _ag_news(data: Path) -> list[LabelledRow]:
    return _in_pairs(agnews.read_rows(data, "train_a"))


def _uci(data: Path) -> list[LabelledRow]:
    rows = _read(data / "uci_news_aggregator" / "all.csv.gz", ("TITLE", "CATEGORY"))
    rows.sort(key=lambda row: share_of(row["TITLE"]))  # neighbours tell one story
    return _in_pairs([(row["TITLE"], SECTIONS[row["CATEGORY"]]) for row in rows])


def _thucnews(data: Path) -> list[LabelledRow]:
    rows = _read(data / "thucnews_titles" / "dev.csv.gz", ("text", "label"))
    return _in_pairs([(row["text"], TITLES[int(row["label"])]) for row in rows])


def _in_pairs(rows: Sequence[tuple[str, str]]) -> list[LabelledRow]:
    """Texts and labels, two to a made reader."""
    return [
        LabelledRow(reader=f"reader-{number // 2}", text=text, label=label)
        for number, (text, label) in enumerate(rows[:MOST_ROWS])
    ]


def _huffpost(data: Path) -> list[LabelledRow]:
    columns = ("headline", "short_description", "category", "authors")
    rows = _read(data / "huffpost" / "all.jsonl.gz", columns)
    largest = dict(Counter(row["category"] for row in rows).most_common(10))
    return [
        LabelledRow(
            reader=row["authors"].strip() or f"row {number}",
            text=f"{row['headline']}. {row['short_description']}",
            label=row["category"].lower(),
        )
        for number, row in enumerate(rows)
        if row["category"] in largest
    ]


def _articles(data: Path) -> list[LabelledRow]:
    _, records = outlets.read_articles(data)
    return [
        LabelledRow(reader=r.reader, text=r.text, label=r.label, outlet=r.outlet) for r in records
    ]


def _comments(data: Path) -> list[LabelledRow]:
    seen: Counter[str] = Counter()
    found = []
    for row in _read(data / "stackexchange_comments" / "all.csv.gz", ("text", "site", "user_id")):
        seen[row["user_id"]] += 1
        if seen[row["user_id"]] <= MOST_COMMENTS:
            reader, text, label = row["user_id"], row["text"], row["site"]
            found.append(LabelledRow(reader=reader, text=text, label=label))
    return found


def _read(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows whose first column is not empty."""
    found: list[dict[str, str]] = read_table(path, {name: name for name in columns}).to_pylist()
    return [row for row in found if row[columns[0]].strip()]


SETS = (
    LabelledSet(name="ag-news", rows=_ag_news, outlets=4, max_length=48),
    LabelledSet(name="huffpost", rows=_huffpost, outlets=4, max_length=48),
    LabelledSet(name="uci-news", rows=_uci, outlets=3, max_length=32),
    LabelledSet(name="articles", rows=_articles, outlets=8, max_length=32),
    LabelledSet(name="comments", rows=_comments, outlets=2, max_length=48),
    LabelledSet(name="chinese-titles", rows=_thucnews, outlets=10, max_length=32),
)


def pools(data: Path, folder: Path, *, validated: bool = False) -> list[Pool]:
    """All sets; raises `DataError` where one is not there."""
    return [one.pool(data, folder, validated=validated) for one in SETS]


def default(populations: Mapping[str, int], classes: int, epsilon: float) -> Tables:
    """The default head's tables."""
    return head_recipe(populations=populations, classes=classes, epsilon=epsilon)


def _moved(
    populations: Mapping[str, int],
    classes: int,
    epsilon: float,
    *,
    rate: float = 1.0,
    clip: float = 1.0,
) -> Tables:
    """The default with another rate, and another clip norm at the same length of a step."""
    tables = head_recipe(populations=populations, classes=classes, epsilon=epsilon)
    tables["server"]["learning_rate"] *= rate / clip
    tables["privacy"]["clip"] *= clip
    return tables


def grid_arm(name: str, *, rate: float = 1.0, clip: float = 1.0) -> Arm:
    """An arm of the grid around the default; factors as for `_moved`."""
    moved = partial(_moved, rate=rate, clip=clip)
    return Arm(name=name, kind="federated", recipe=moved, epsilons=EPSILONS)


REGRESSION = Arm(name="logistic regression", kind="regression", recipe=recipe(), seeds=(1,))
FORMER = Arm(
    name="16 steps of Adam",
    kind="federated",
    recipe=recipe(),
    epsilons=(*EPSILONS, math.inf),
    seeds=(1, 2, 3),
)
DEFAULT = Arm(
    name="default",
    kind="federated",
    recipe=default,
    epsilons=(*EPSILONS, math.inf),
    seeds=(1, 2, 3),
)

HEADS = Experiment(
    name="heads",
    pools=pools,
    arms=(REGRESSION, DEFAULT, FORMER),
    questions=(
        Question(
            text="without privacy, default less logistic regression",
            left=(DEFAULT.name, math.inf),
            right=(REGRESSION.name, math.inf),
        ),
        *(
            Question(
                text=f"default less 16 steps of Adam at ε = {epsilon:g}",
                left=(DEFAULT.name, epsilon),
                right=(FORMER.name, epsilon),
            )
            for epsilon in EPSILONS
        ),
    ),
)

SEARCH = Experiment(
    name="heads-search",
    pools=partial(pools, validated=True),
    arms=(
        REGRESSION,
        DEFAULT,
        FORMER,
        grid_arm("half the rate", rate=0.5),
        grid_arm("0.7 of the rate", rate=0.7),
        grid_arm("1.4 times the rate", rate=1.4),
        grid_arm("twice the rate", rate=2.0),
        grid_arm("half the clip norm", clip=0.5),
        grid_arm("twice the clip norm", clip=2.0),
    ),
)
