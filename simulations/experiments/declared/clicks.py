"""What reader-level privacy leaves of ranking titles by clicks.

* `made-clicks`: the made newsroom's readers over four outlets (`simulations.newsroom.reads`),
  tested on impressions of nobody's readers, half of whose titles no outlet has shown. Its seed is
  no other's: what was tuned was tuned on made clicks of other seeds.
* `mind`: real impressions of MIND (Wu et al., ACL 2020). The subset at hand has the text of 3 % of
  the titles, so of each impression the candidates and the history with text are kept, and of 5,000
  impressions the 119, of 119 readers, in which a clicked and another title are left. Readers are
  dealt to two made outlets and half of them to testing, by a hash. That is too few to tell any two
  arms apart that differ by less than some 0.15; it shows that the run works on real impressions.

Beside what is trained stands likeness to the history, which is the model at its start, and
popularity: how often everybody's readers clicked a title, counted openly, so not private.
The privacy unit is the reader. A figure is the AUC within each impression, and two arms are
compared over the same impressions.

Example: `run_experiment(CLICKS.trials(data, out, seeds=None), out, workers=2, on_done=tick)`.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from presspool.common.base.errors import DataError
from presspool.common.runs.default_recipe import ranking_recipe
from presspool.common.tasks.records.impressions import COLUMNS
from presspool.simulations.experiments.arms import Arm, Tables
from presspool.simulations.experiments.experiment import Experiment, Question
from presspool.simulations.experiments.pools import Pool, Record, share_of, write_pool
from presspool.simulations.newsroom.reads import make_reads

OUTLETS, READERS, TESTED = 4, 500, 2000
SEED = 20
SEEDS = (1, 2, 3)
EPSILONS = (8.0, math.inf)
TRAINED, POPULARITY, LIKENESS = "trained", "popularity, not private", "content similarity"


def pools(data: Path, folder: Path) -> list[Pool]:
    """Both; raises `DataError` where MIND is not there."""
    return [made(folder / "made-clicks"), mind(data, folder / "mind")]


def made(folder: Path, *, readers: int = READERS, tested: int = TESTED, seed: int = SEED) -> Pool:
    """Made clicks over four outlets."""
    reads = make_reads(outlets=OUTLETS, readers=readers, seed=seed, held_out=tested)
    rows = [(outlet, row) for outlet, table in reads.tables.items() for row in table.to_pylist()]
    nobodys = enumerate(reads.held_out.to_pylist())
    return _pool(
        [
            *(_record(outlet, row["reader"], row, test=False) for outlet, row in rows),
            *(_record("public", f"public-{i}", row, test=True) for i, row in nobodys),
        ],
        folder,
        name=f"made clicks over {OUTLETS} outlets",
        titles={"history": 5, "candidates": 5, "title_length": 16},
    )


def mind(data: Path, folder: Path) -> Pool:
    """Real impressions over two outlets, as far as their titles have text."""
    folder_of_it = data / "mind_subset"
    news = {row[0]: row[3] for row in _rows(folder_of_it / "news.tsv.gz")}
    records = []
    for _, reader, _, history, shown in _rows(folder_of_it / "behaviors.tsv.gz"):
        found = _with_text(news, history.split(), shown.split())
        if {1, 0} <= {*found["clicks"]}:
            outlet = f"outlet-{1 + (share_of(f'outlet {reader}') < 0.5)}"
            row = {name: json.dumps(values, ensure_ascii=False) for name, values in found.items()}
            records.append(_record(outlet, reader, row, test=share_of(reader) < 0.5))
    return _pool(
        records,
        folder,
        name="MIND's impressions with text over 2 outlets",
        titles={"history": 8, "candidates": 16, "title_length": 24},
    )


def _with_text(
    news: dict[str, str], history: Sequence[str], shown: Sequence[str]
) -> dict[str, list[str] | list[int]]:
    """Titles of MIND's ids; a candidate's says after a hyphen whether it was clicked."""
    pairs = [one.rsplit("-", 1) for one in shown]
    known = [(news[name], int(click)) for name, click in pairs if name in news]
    return {
        "history": [news[name] for name in history if name in news],
        "candidates": [title for title, _ in known],
        "clicks": [click for _, click in known],
    }


def _record(outlet: str, reader: str, row: dict[str, str], *, test: bool) -> Record:
    history, candidates, clicks = (row[name] for name in COLUMNS)
    return Record(
        outlet=outlet, reader=reader, text=history, label=candidates, clicks=clicks, test=test
    )


def _pool(records: Sequence[Record], folder: Path, *, name: str, titles: dict[str, int]) -> Pool:
    task = {"kind": "recommendation", **titles}
    return write_pool(records, folder, name=name, max_length=0, task=task, columns=COLUMNS)


def _rows(path: Path) -> Iterator[list[str]]:
    if not path.exists():
        raise DataError("missing file", where=str(path), expected="the subset of MIND")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        yield from csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)


def recipe(populations: Mapping[str, int], _classes: int, epsilon: float) -> Tables:
    """The default tables."""
    return ranking_recipe(populations=populations, epsilon=epsilon)


CLICKS = Experiment(
    name="clicks",
    pools=pools,
    arms=(
        Arm(name=POPULARITY, kind="popularity", recipe=recipe, seeds=(1,)),
        Arm(name=LIKENESS, kind="untrained", recipe=recipe, seeds=(1,)),
        Arm(name=TRAINED, kind="federated", recipe=recipe, epsilons=EPSILONS, seeds=SEEDS),
    ),
    questions=tuple(
        Question(
            text=f"trained less {baseline}, ε = {'∞' if math.isinf(epsilon) else f'{epsilon:g}'}",
            left=(TRAINED, epsilon),
            right=(baseline, math.inf),
        )
        for baseline in (POPULARITY, LIKENESS)
        for epsilon in EPSILONS
    ),
)
