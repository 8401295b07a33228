"""The outlets experiment: no reader on both sides, stopped jobs go on, the table is true."""

from __future__ import annotations

import csv
import gzip
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.conftest import LABELS, made_rows

from presspool.common.errors import DataError
from presspool.simulations.experiments import outlets as experiment
from presspool.simulations.experiments.jobs import run_jobs
from presspool.simulations.pages import put_section, write_section

SOURCES = ("North Post", "South Echo", "Tiny Gazette")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with an article_bias of three sources, two of them larger than the third."""
    path = tmp_path / "data" / "article_bias" / "meta.csv.gz"
    path.parent.mkdir(parents=True)
    with gzip.open(path, "wt", newline="") as stream:
        writer = csv.DictWriter(stream, ["ID", "source", "topic", "authors", "title"])
        writer.writeheader()
        for source, readers in zip(SOURCES, (40, 30, 3), strict=True):
            for number, row in enumerate(made_rows(source, readers)):
                writer.writerow({
                    "ID": f"{source}{number}", "source": source, "topic": row["label"],
                    "authors": "" if number % 5 == 0 else row["reader"], "title": row["text"],
                })  # fmt: skip
    return tmp_path / "data"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, contract_body: dict[str, Any]) -> None:
    """The experiment on the tiny base: two outlets, three topics, two steps."""
    monkeypatch.setattr(experiment, "OUTLETS", 2)
    monkeypatch.setattr(experiment, "TOPICS", 3)
    keys = ("adapter", "federation", "privacy", "optimizer", "model")
    recipe = {key: dict(contract_body[key]) for key in keys}
    recipe["privacy"] = {"clip": 1.0, "sampling_rate": 0.5}
    recipe["federation"] = {"rounds": 1, "local_steps": 2}
    monkeypatch.setattr(experiment, "RECIPE", recipe)


@pytest.mark.usefixtures("small")
def test_readers_are_on_one_side_and_small_sources_are_left_out(data: Path, tmp_path: Path) -> None:
    articles = experiment.prepare_articles(
        data / "article_bias" / "meta.csv.gz", tmp_path / "files"
    )
    assert set(articles.populations) == {"north-post", "south-echo"}
    assert set(articles.topics) == set(LABELS)
    test = pq.read_table(tmp_path / "files" / "test.parquet").to_pylist()
    for name, population in articles.populations.items():
        train = pq.read_table(tmp_path / "files" / f"{name}.parquet").to_pylist()
        readers = {row["reader"] for row in train}
        assert len(readers) == population
        assert not readers & {row["reader"] for row in test}
        nameless = [row for row in train if "/row " in row["reader"]]
        assert len({row["reader"] for row in nameless}) == len(nameless) > 0


@pytest.mark.usefixtures("small")
def test_the_experiment_runs_and_a_second_start_runs_nothing(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    counted: list[int] = []

    def progress(total: int, done: int) -> Any:
        assert total == 2 * (1 + 2)
        counted.append(done)
        return lambda: counted.append(-1)

    # In this process: the small recipe is a patch that a spawned process would not see.
    articles = experiment.prepare_articles(data / "article_bias" / "meta.csv.gz", out / "data")
    jobs = [j for e in experiment.EPSILONS for j in experiment.declare(articles, e, 1)]
    run_jobs(jobs, out / "jobs", workers=1, measure=experiment.measure)
    before = {file: file.stat().st_mtime_ns for file in out.rglob("result.json")}
    rows = experiment.run_experiment(data=data, out=out, workers=1, seeds=[1], progress=progress)
    assert counted == [6]
    assert before == {file: file.stat().st_mtime_ns for file in out.rglob("result.json")}
    assert [(row.arm, row.epsilon) for row in rows] == [
        ("local", math.inf), ("federated", math.inf), ("local", 3.0), ("federated", 3.0),
    ]  # fmt: skip
    for row in rows:
        assert set(row.outlets) == {"north-post", "south-echo"}
        assert 0 <= row.pooled[0] <= 1
        assert row.own[0] == pytest.approx(sum(row.outlets.values()) / 2)
    page = experiment.markdown(rows, seeds=1)
    assert "| federated | 3 |" in page
    assert "| north-post |" in page


@pytest.mark.usefixtures("small")
def test_a_stopped_job_is_continued_to_the_same_adapter(data: Path, tmp_path: Path) -> None:
    articles = experiment.prepare_articles(data / "article_bias" / "meta.csv.gz", tmp_path / "data")
    job = experiment.declare(articles, math.inf, 1)[0]
    run_jobs([job], tmp_path / "jobs", workers=1, measure=experiment.measure)
    folder = tmp_path / "jobs" / job.name
    adapter = (folder / "adapter" / "adapter_model.safetensors").read_bytes()
    for name in ("measured.json", "result.json", "checkpoint.safetensors"):
        (folder / name).unlink()
    run_jobs([job], tmp_path / "jobs", workers=1, measure=experiment.measure)
    assert (folder / "adapter" / "adapter_model.safetensors").read_bytes() == adapter


def test_a_file_that_is_not_the_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        experiment.prepare_articles(tmp_path / "meta.csv.gz", tmp_path / "out")


def test_the_real_data_set_gives_eight_outlets(data_root: Path, tmp_path: Path) -> None:
    articles = experiment.prepare_articles(data_root / "article_bias" / "meta.csv.gz", tmp_path)
    assert len(articles.populations) == len(articles.topics) == 8
    test = pq.read_table(tmp_path / "test.parquet")
    train = sum(pq.read_table(tmp_path / f"{n}.parquet").num_rows for n in articles.populations)
    assert test.num_rows + train == 7701
    assert 0.25 < test.num_rows / 7701 < 0.35


def test_a_section_is_replaced_and_its_surroundings_stay(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\nBefore.\n")
    write_section(page, "a", "one")
    write_section(page, "b", "two")
    write_section(page, "a", "three")
    text = page.read_text()
    assert "Before." in text
    assert "one" not in text
    assert "<!-- a: begin -->\nthree\n<!-- a: end -->" in text
    assert text.index("three") < text.index("two")
    assert put_section(text, "a", "three") == text
