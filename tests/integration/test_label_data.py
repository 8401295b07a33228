"""One label and several on real texts, from the file to the answers; and the example's own run."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.conftest import REPOSITORY
from tests.fakes.made_runs import toml

import presspool
from presspool.client.data.check_data import check
from presspool.common.contract.doors import task_of
from presspool.common.data.tables import Columns
from presspool.common.runs.result_file import read_result
from presspool.common.runs.run_file import read_run_file
from presspool.simulations.simulate import SimulateOptions, simulate

Rows = list[tuple[str, str]]
READERS = 400


def sentiments(root: Path) -> Rows:
    """Two labels."""
    return [(row["text"], row["label"]) for row in table(root / "sst2" / "train.tsv.gz", "\t")]


def named_things(root: Path) -> Rows:
    """Several labels: kinds of names that a short message has."""
    with gzip.open(root / "wnut17" / "train.jsonl.gz", "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    return [
        (" ".join(row["tokens"]), "|".join({t[2:] for t in row["tags"]} - {""}) or "none")
        for row in rows
    ]


def table(path: Path, delimiter: str) -> Iterator[dict[str, str]]:
    text = io.StringIO(gzip.decompress(path.read_bytes()).decode())
    return csv.DictReader(text, delimiter=delimiter, quoting=csv.QUOTE_NONE)


NAMES = ["corporation", "creative-work", "group", "location", "person", "product"]
REAL: dict[str, tuple[Any, dict[str, Any]]] = {
    "sentiment": (sentiments, {"labels": ["0", "1"], "sure": 0.8}),
    "names": (
        named_things,
        {"labels": NAMES, "mode": "multi", "priors": [0.05, 0.04, 0.07, 0.13, 0.16, 0.04]},
    ),
}


def written(folder: Path, rows: Rows, task: dict[str, Any]) -> Path:
    """A run at ε = 8: two outlets of as many readers with a text each, and 300 public texts."""
    (folder / "data").mkdir(parents=True)
    for place, name in enumerate(("north-post", "south-echo")):
        part = rows[place * READERS : (place + 1) * READERS]
        lines = [{"reader": f"r{i}", "text": t, "label": y} for i, (t, y) in enumerate(part)]
        pq.write_table(pa.Table.from_pylist(lines), folder / "data" / f"{name}.parquet")
    held_out = [{"text": text, "label": label} for text, label in rows[2 * READERS :][:300]]
    pq.write_table(pa.Table.from_pylist(held_out), folder / "held_out.parquet")
    path = folder / "run.toml"
    body = {
        "recipe": "default",
        "task": task | {"max_length": 24},
        "outlets": {"north-post": READERS, "south-echo": READERS},
        "privacy": {"epsilon": 8.0},
        "simulation": {"data": "data", "workers": 1},
        "evaluation": {"data": "held_out.parquet"},
    }
    path.write_text(toml(body), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", REAL)
def test_real_labels_are_learned_under_privacy(name: str, data_root: Path, tmp_path: Path) -> None:
    source, task = REAL[name]
    rows = source(data_root)
    rows = rows[:: max(1, len(rows) // (2 * READERS + 300))]  # files are sorted by this and that
    run, out = written(tmp_path, rows, task), tmp_path / "out"
    asked = task_of(read_run_file(run).contract)
    report = check(
        tmp_path / "data" / "north-post.parquet",
        columns=Columns(),
        task=asked,
        records_per_reader=1,
        max_length=None,
        population=READERS,
    )
    assert (report.readers, set(report.labels)) == (READERS, set(task["labels"]))
    simulate(read_run_file(run), SimulateOptions(out=out, deterministic=7, workers=0))
    result = read_result(out)
    first, last = (entry.metrics for entry in (result.rounds[0], result.final))
    assert (last["loss"] or 9) < (first["loss"] or 0)  # nats, which priors do not move
    assert result.figures is not None
    assert [row.label for row in result.figures.labels] == task["labels"]
    answers = [one.answer for one in presspool.load(out).predict([text for text, _ in rows[:40]])]
    several = {part for answer in answers for part in answer.split("|")}
    assert several <= {*task["labels"], "none", "unsure"}


def test_the_example_of_several_topics_is_a_run(tmp_path: Path) -> None:
    example = read_run_file(REPOSITORY / "examples" / "topics.toml")
    simulate(example, SimulateOptions(out=tmp_path / "out", deterministic=7, workers=0))
    result = read_result(tmp_path / "out")
    assert result.status == "complete"
    assert result.figures is not None
    assert result.figures.abstention is not None
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "How sure, and how often right" in page
