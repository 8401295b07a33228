"""Does it pay to join? Eight real outlets, each alone against all together.

Data: the eight largest sources of `article_bias` are the outlets, title → one of the eight topics
that are most frequent among them. A reader is an author; a row without one is a reader of its own.
Readers, not rows, are split into training and test (by a hash of their id: 30 % test), so nobody is
on both sides.

Arms: `local` trains eight models, each on one outlet, with the same steps and the same budget;
`federated` trains one. Both at reader ε = 3 and without noise. Declared populations are the numbers
of training readers. Noise is reproducible here (seeded): the experiment measures accuracy and
releases nothing.

Two figures: accuracy on the *pooled* test rows of all outlets (for `local`: the mean of the eight
models), and on each outlet's *own* test rows (mean over outlets).

Example: `run_experiment(data=Path("data"), out=Path("runs/experiments/outlets"), workers=2)`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from presspool.common.contract import parse_contract
from presspool.common.errors import DataError
from presspool.common.run_file import RunFile, Simulation
from presspool.common.run_folder import RunFolder
from presspool.common.statement import accountant
from presspool.common.tables import read_table
from presspool.simulations.experiments.jobs import Job, Measured, run_jobs
from presspool.simulations.pages import commit
from presspool.simulations.partitions import slug

OUTLETS, TOPICS = 8, 8
TEST_SHARE = 0.3
EPSILONS = (3.0, math.inf)
SEEDS = (1, 2, 3)

# Chosen on a part of the training readers (see docs/results.md), never on the test readers.
RECIPE: dict[str, Any] = {
    "adapter": {"rank": 4, "alpha": 8, "targets": ["query", "value"], "aggregation": "ffa"},
    "federation": {"rounds": 5, "local_steps": 4},
    "privacy": {
        "delta": 1e-5, "clip": {"adapter": 0.5, "head": 1.0}, "records_per_reader": 2,
        "sampling_rate": 0.2,
    },
    "optimizer": {"learning_rate": {"adapter": 1.0, "head": 40.0}, "schedule": "cosine"},
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Articles:
    """The experiment's data on disk.

    Attributes:
        folder: one Parquet file of training records for each outlet, and `test.parquet`.
        populations: outlet to number of training readers.
        topics: the labels.
    """

    folder: Path
    populations: Mapping[str, int]
    topics: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the result table.

    Attributes:
        arm: "local" or "federated".
        epsilon: reader-level ε; `math.inf` without noise.
        pooled: accuracy on all outlets' test rows, one value a seed.
        own: mean over outlets of the accuracy on their own test rows, one value a seed.
        outlets: outlet to accuracy on its own test rows, mean over seeds.
    """

    arm: str
    epsilon: float
    pooled: tuple[float, ...]
    own: tuple[float, ...]
    outlets: Mapping[str, float]


def run_experiment(
    *,
    data: Path,
    out: Path,
    workers: int,
    seeds: Sequence[int] = SEEDS,
    progress: Callable[[int, int], Callable[[], None]] = lambda _total, _done: lambda: None,
) -> list[Row]:
    """Run what is missing of the experiment and return its table.

    Args:
        data: folder of the data sets.
        out: the experiment's folder; run again with the same folder to continue.
        workers: runs at a time.
        seeds: one repetition each.
        progress: given all and finished jobs, returns what to call after each further job.

    Raises:
        DataError: the data set is not there.
    """
    articles = prepare_articles(data / "article_bias" / "meta.csv.gz", out / "data")
    pairs = [(seed, epsilon) for seed in seeds for epsilon in EPSILONS]
    jobs = [job for seed, epsilon in pairs for job in declare(articles, epsilon, seed)]
    done = sum((out / "jobs" / job.name / "measured.json").exists() for job in jobs)
    advance = progress(len(jobs), done)
    measured = run_jobs(jobs, out / "jobs", workers=workers, measure=measure, on_done=advance)
    return [
        summarise(articles, measured, arm, epsilon, seeds)
        for epsilon in reversed(EPSILONS)
        for arm in ("local", "federated")
    ]


def prepare_articles(file: Path, folder: Path) -> Articles:
    """Choose outlets and topics, split readers, and write the experiment's files.

    Raises:
        DataError: the file is missing or is not the data set.
    """
    columns = {key: key for key in ("ID", "source", "topic", "authors", "title")}
    rows = read_table(file, columns).to_pylist()
    sources = _most_common(rows, "source", OUTLETS)
    rows = [row for row in rows if row["source"] in sources]
    topics = _most_common(rows, "topic", TOPICS)
    rows = [row for row in rows if row["topic"] in topics and row["title"].strip()]
    if not rows:
        raise DataError("no articles", where=str(file), expected="the article_bias data set")
    folder.mkdir(parents=True, exist_ok=True)
    records = [_record(row) for row in rows]
    populations = {}
    for name in sorted({r["outlet"] for r in records}):
        own = [r for r in records if r["outlet"] == name and not r["test"]]
        populations[name] = len({r["reader"] for r in own})
        _write(folder / f"{name}.parquet", own)
    _write(folder / "test.parquet", [r for r in records if r["test"]])
    return Articles(folder=folder, populations=populations, topics=tuple(topics))


def declare(articles: Articles, epsilon: float, seed: int) -> list[Job]:
    """The jobs of one ε and seed: one federation, and each outlet alone."""
    everybody = articles.populations
    label = "inf" if math.isinf(epsilon) else f"{epsilon:g}"
    groups = {f"federated-{label}-s{seed}": everybody} | {
        f"local-{label}-s{seed}-{name}": {name: n} for name, n in everybody.items()
    }
    return [
        Job(name=name, seed=seed, run=_run_file(articles, members, epsilon, seed))
        for name, members in groups.items()
    ]


def measure(folder: Path) -> Measured:
    """Accuracy of a finished run on the test rows: pooled and by outlet."""
    from safetensors.numpy import load_file

    from presspool.server.evaluation import Evaluation

    run = RunFolder(folder)
    test = folder.parent.parent / "data" / "test.parquet"
    evaluation = Evaluation.load(run.read_contract(), test, text="text", label="label")
    right = evaluation.correct(load_file(run.checkpoint))
    outlet = np.array(pq.read_table(test)["outlet"].to_pylist())
    return {
        "pooled": float(right.mean()),
        "outlets": {name: float(right[outlet == name].mean()) for name in sorted(set(outlet))},
    }


def summarise(
    articles: Articles,
    measured: Mapping[str, Measured],
    arm: str,
    epsilon: float,
    seeds: Sequence[int],
) -> Row:
    """One table row out of what was measured."""
    label = "inf" if math.isinf(epsilon) else f"{epsilon:g}"
    names = list(articles.populations)
    pooled, own = [], []
    for seed in seeds:
        if arm == "federated":
            result = measured[f"federated-{label}-s{seed}"]
            pooled.append(result["pooled"])
            own.append([result["outlets"][name] for name in names])
        else:
            alone = [measured[f"local-{label}-s{seed}-{name}"] for name in names]
            pooled.append(mean(result["pooled"] for result in alone))
            own.append([r["outlets"][name] for r, name in zip(alone, names, strict=True)])
    return Row(
        arm=arm, epsilon=epsilon, pooled=tuple(pooled), own=tuple(mean(values) for values in own),
        outlets={name: mean(values[i] for values in own) for i, name in enumerate(names)},
    )  # fmt: skip


def to_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The table's rows as JSON values; ε is null where there was no noise."""
    return [
        {**asdict(row), "epsilon": None if math.isinf(row.epsilon) else row.epsilon} for row in rows
    ]


def markdown(rows: Sequence[Row], *, seeds: int) -> str:
    """The result tables as Markdown, with what is needed to make them again."""
    lines = [
        f"Made by `presspool experiment outlets` at commit {commit()}, "
        f"{'seed 1' if seeds == 1 else f'seeds 1 to {seeds}'}; "
        f"mean ± standard deviation over seeds; {accountant()}.",
        "",
        "| arm | reader ε | pooled accuracy | own accuracy (mean of outlets) |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append(
            f"| {row.arm} | {_eps(row.epsilon)} | {_spread(row.pooled)} | {_spread(row.own)} |"
        )
    lines += ["", "Own accuracy by outlet (mean over seeds):", ""]
    lines.append("| outlet | " + " | ".join(f"{r.arm} {_eps(r.epsilon)}" for r in rows) + " |")
    lines.append("| --- |" + " --- |" * len(rows))
    for name in rows[0].outlets:
        lines.append(f"| {name} | " + " | ".join(f"{r.outlets[name]:.3f}" for r in rows) + " |")
    return "\n".join(lines)


def _run_file(articles: Articles, members: Mapping[str, int], epsilon: float, seed: int) -> RunFile:
    body = json.loads(json.dumps(RECIPE)) | {
        "name": "outlets",
        "seed": seed,
        "task": {"labels": list(articles.topics), "max_length": 32},
        "outlets": dict(members),
    }
    body["federation"]["quorum"] = len(members)
    body["privacy"]["epsilon"] = epsilon
    return RunFile(
        contract=parse_contract(body),
        simulation=Simulation(data=articles.folder, partition="files"),
    )


def _record(row: Mapping[str, str]) -> dict[str, Any]:
    outlet = slug(row["source"])
    reader = f"{outlet}/{row['authors'].strip() or 'row ' + row['ID']}"
    spot = int.from_bytes(hashlib.sha256(reader.encode()).digest()[:4]) / 2**32
    return {"outlet": outlet, "reader": reader, "text": row["title"], "label": row["topic"],
            "test": spot < TEST_SHARE}  # fmt: skip


def _write(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    columns = ("outlet", "reader", "text", "label")
    pq.write_table(pa.table({c: [r[c] for r in records] for c in columns}), path)


def _most_common(rows: Sequence[Mapping[str, str]], column: str, count: int) -> list[str]:
    return [value for value, _ in Counter(row[column] for row in rows).most_common(count)]


def _eps(epsilon: float) -> str:
    return "∞" if math.isinf(epsilon) else f"{epsilon:g}"


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.3f} ± {stdev(values):.3f}" if len(values) > 1 else f"{values[0]:.3f}"
