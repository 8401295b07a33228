"""Declared experiments: pools that keep readers apart, jobs that go on, tables that are true."""

from __future__ import annotations

import csv
import gzip
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.conftest import LABELS, made_rows
from tests.fakes.grids.grid_parts import alive, wait_until

from presspool.common.base.errors import DataError
from presspool.common.contract.doors import METHODS, task_of
from presspool.common.runs.run_file import EvaluationData
from presspool.simulations.doc_sections import put_section, write_section
from presspool.simulations.experiments import arms, tidy
from presspool.simulations.experiments.arms import Arm, Trial
from presspool.simulations.experiments.cost import seconds
from presspool.simulations.experiments.declared import (
    agnews,
    clicks,
    headlines,
    heads,
    methods_compared,
    newsroom_tasks,
    outlets,
    pooled_trust,
    reader_unit,
    robust_rules,
    sweep,
)
from presspool.simulations.experiments.experiment import (
    Experiment,
    Question,
    jobs_of,
    run_experiment,
)
from presspool.simulations.experiments.jobs import run_job, run_jobs
from presspool.simulations.experiments.pools import EVERYBODY, Pool, Record, write_pool
from presspool.simulations.experiments.results_page import write_page
from presspool.simulations.experiments.tidy import Judged, difference, estimate

DECLARED = (
    agnews.AGNEWS,
    pooled_trust.POOLED,
    robust_rules.ROBUST,
    methods_compared.METHODS,
    methods_compared.SEARCH,
    newsroom_tasks.TASKS,
    agnews.SEARCH,
    outlets.OUTLETS,
    reader_unit.READERS,
    sweep.SWEEP,
    headlines.HEADLINES,
    headlines.SEARCH,
    heads.HEADS,
    heads.SEARCH,
    clicks.CLICKS,
)


def pool_of(labels: Sequence[str], folder: Path) -> Pool:
    """Two outlets, some labels, test records of both."""
    records = [
        Record(
            outlet=outlet,
            reader=f"{outlet}/{row['reader']}",
            text=row["text"],
            label=row["label"],
            test=number % 4 == 0,
        )
        for outlet, count in (("north-post", 40), ("south-echo", 24))
        for number, row in enumerate(made_rows(outlet, count))
        if row["label"] in labels
    ]
    return write_pool(records, folder, name="two", labels=labels, max_length=12)


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    """The pool of three labels."""
    return pool_of(LABELS, tmp_path / "pool")


@pytest.fixture
def recipe(contract_body: dict[str, Any]) -> dict[str, Any]:
    """Two private steps on the tiny base."""
    return {
        "model": contract_body["model"],
        "adapter": contract_body["adapter"],
        "federation": {"rounds": 1, "local_steps": 2},
        "privacy": {"clip": 1.0, "sampling_rate": 0.5},
        "optimizer": {"learning_rate": 1.0},
    }


@pytest.fixture
def small(pool: Pool, recipe: dict[str, Any]) -> Experiment:
    """Every kind of arm over the small pool."""
    return Experiment(
        name="small",
        pools=lambda _data, _out: [pool],
        arms=(
            Arm(name="untrained", kind="untrained", recipe=recipe, seeds=(1,)),
            Arm(name="local", kind="local", recipe=recipe, epsilons=(3.0, math.inf), seeds=(1, 2)),
            Arm(name="central", kind="central", recipe=recipe, seeds=(1,)),
            Arm(
                name="federated",
                kind="federated",
                recipe=recipe,
                epsilons=(3.0, math.inf),
                seeds=(1, 2),
            ),
        ),
        questions=(
            Question(text="does it pay?", left=("federated", 3.0), right=("local", 3.0)),
            Question(text="not run", left=("federated", 8.0), right=("local", 8.0)),
        ),
    )


def trials_of(experiment: Experiment, folder: Path) -> list[Trial]:
    return experiment.trials(folder, folder, seeds=None)


def test_an_experiment_runs_and_a_second_start_runs_nothing(
    small: Experiment, tmp_path: Path
) -> None:
    trials, out, counted = trials_of(small, tmp_path), tmp_path / "out", list[int]()
    jobs = jobs_of(trials)
    assert len(jobs) == len({job.name for job in jobs}) == 1 + 2 * 2 * 2 + 1 + 2 * 2
    for job in jobs:
        run_job(job, out / "jobs")
    before = {file: file.stat().st_mtime_ns for file in out.rglob("correct.npy")}
    judged = run_experiment(trials, out, workers=1, on_done=lambda: counted.append(1))
    assert counted == []
    assert before == {file: file.stat().st_mtime_ns for file in out.rglob("correct.npy")}
    rows = pq.read_table(out / "results.parquet").to_pylist()
    assert {row["arm"] for row in rows} == {"untrained", "local", "central", "federated"}
    own = [row for row in rows if row["arm"] == "federated" and row["figure"] == "own"]
    assert {row["outlet"] for row in own} == {EVERYBODY, "north-post", "south-echo"}
    page = tmp_path / "page.md"
    tables = write_page(small, judged, page)
    text = page.read_text()
    assert "| federated | 3 |" in text
    assert "| local | ∞ |" in text
    assert "| does it pay? |" in text
    assert "not run" not in text
    assert (tmp_path / "images" / "small.svg").read_text().startswith("<?xml")
    assert tables in text


def test_what_a_job_gets_right_is_what_its_adapter_gets_right(
    small: Experiment, pool: Pool, tmp_path: Path
) -> None:
    """From the released adapter alone, loaded the way that a user would."""
    from peft import PeftModel

    from presspool.common.models.models import base
    from presspool.common.runs.run_folder import RunFolder

    trial = next(t for t in trials_of(small, tmp_path) if t.arm.name == "federated")
    job = trial.jobs[EVERYBODY]
    run_job(job, tmp_path / "jobs")
    folder = RunFolder(tmp_path / "jobs" / job.name)
    contract = folder.read_contract()
    model = PeftModel.from_pretrained(base(contract), folder.adapter).eval()
    test = pq.read_table(pool.test).to_pylist()
    said = model(**task_of(contract).encode([row["text"] for row in test])).argmax(1).tolist()
    right = [LABELS[number] == row["label"] for number, row in zip(said, test, strict=True)]
    assert job.figures(tmp_path / "jobs")[0].tolist() == right


def test_a_stopped_job_is_continued_to_the_same_adapter(small: Experiment, tmp_path: Path) -> None:
    trial = next(t for t in trials_of(small, tmp_path) if t.arm.name == "federated")
    job = trial.jobs[EVERYBODY]
    run_jobs([job], tmp_path / "jobs", workers=1)
    folder = tmp_path / "jobs" / job.name
    adapter = (folder / "adapter" / "adapter_model.safetensors").read_bytes()
    for name in ("correct.npy", "result.json", "checkpoint.safetensors"):
        (folder / name).unlink()
    run_jobs([job], tmp_path / "jobs", workers=1)
    assert (folder / "adapter" / "adapter_model.safetensors").read_bytes() == adapter


KILLED = """
import os, signal
from presspool.simulations.experiments.jobs import WorkerPool, _begin

if __name__ == "__main__":
    pool = WorkerPool(1, _begin)
    print(pool.submit(os.getpid).result(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_experiment_leaves_no_worker_behind(tmp_path: Path) -> None:
    """It would go on with the jobs, beside the next start of the same experiment."""
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    with (tmp_path / "pid").open("w") as pid:  # a pipe would stay open in the worker
        subprocess.run([sys.executable, str(script)], check=False, stdout=pid)
    worker = int((tmp_path / "pid").read_text())
    assert wait_until(lambda: not alive(worker))


def test_time_grows_with_the_work(small: Experiment, tmp_path: Path) -> None:
    jobs = jobs_of(trials_of(small, tmp_path))
    assert 0 < seconds(jobs[:3], workers=1) < seconds(jobs, workers=1)
    assert seconds([job for job in jobs if not job.trained], workers=1) == 0


def test_the_time_of_a_run_that_stands_liars_is_that_of_its_steps(
    pool: Pool, recipe: dict[str, Any]
) -> None:
    robust = recipe | {"federation": recipe["federation"] | {"robust": "median", "attackers": 1}}
    three = replace(pool, readers=dict.fromkeys(("a", "b", "c"), 10))
    arm = Arm(name="robust", kind="federated", recipe=robust, seeds=(1,))
    (job,) = arms.declare(three, arm, math.inf, 1).jobs.values()
    assert seconds([job], workers=1) > 0


# --- Figures -------------------------------------------------------------------------------------


def judged(pool: Pool, seed: int, pooled: Any, own: Any = None) -> Judged:
    scores = np.asarray(pooled, float)
    return Judged(
        trial=Trial(
            pool=pool,
            arm=Arm(name="a", kind="federated", recipe={}),
            epsilon=3.0,
            seed=seed,
            jobs={},
        ),
        pooled=scores,
        own=scores if own is None else np.asarray(own, float),
        outlet=np.array(["a", "a", "a", "b"] * (len(scores) // 4)),
        seconds=0.0,
    )


def test_the_record_arms_promise_to_a_reader_is_worse_the_more_they_wrote(tmp_path: Path) -> None:
    """One record: the arm's own ε. Ten: far above it."""
    records = [
        Record(
            outlet="a",
            reader=f"r{number}",
            text=f"text {number} {i}",
            label="xy"[i % 2],
            test=number == 0,
        )
        for number in range(1, -1, -1)
        for i in range(10 if number else 1)
    ] + [Record(outlet="a", reader=f"s{i}", text="t", label="x", test=False) for i in range(30)]
    pool = write_pool(records, tmp_path, name="p", labels=("x", "y"), max_length=8)
    lines = [line.split("|") for line in reader_unit.group_table([pool]).splitlines()[2:]]
    said = {row[1].strip(): (int(row[2]), float(row[3].replace(",", ""))) for row in lines}
    (median, weak), (largest, none) = said["median"], said["largest"]
    assert (median, largest) == (1, 10)
    assert weak == pytest.approx(reader_unit.EPSILON, rel=0.01)
    assert none > 5 * reader_unit.EPSILON


def test_own_accuracy_counts_every_outlet_the_same(pool: Pool) -> None:
    one = judged(pool, 1, [1, 1, 1, 0])
    assert one.mean("pooled") == 0.75
    assert one.mean("own") == 0.5


def test_the_interval_is_that_of_the_binomial_where_seeds_agree(pool: Pool) -> None:
    rng = np.random.default_rng(1)
    same = (rng.random(4000) < 0.8).astype(float)
    found = estimate([judged(pool, 1, same), judged(pool, 2, same)], "pooled")
    half = 1.96 * math.sqrt(same.mean() * (1 - same.mean()) / 4000)
    assert found.mean == pytest.approx(same.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)


def test_seeds_that_disagree_widen_the_interval(pool: Pool) -> None:
    ones, zeros = np.ones(400), np.zeros(400)
    found = estimate([judged(pool, 1, ones), judged(pool, 2, zeros)], "pooled")
    assert (found.low, found.mean, found.high) == pytest.approx((0.0, 0.5, 1.0))


def test_a_difference_pairs_seeds_and_records(pool: Pool) -> None:
    """Two arms that differ on few records differ for sure, however noisy each of them is."""
    rng = np.random.default_rng(2)
    hard = (rng.random(400) < 0.5).astype(float)
    better = np.maximum(hard, np.arange(400) % 20 == 0)
    left = [judged(pool, seed, better) for seed in (1, 2, 3)]
    right = [judged(pool, seed, hard) for seed in (2, 1)]
    found = difference(left, right, "pooled")
    assert found.seeds == 2
    assert found.mean == pytest.approx((better - hard).mean())
    assert found.above_zero
    assert found.high - found.low < 0.04


# --- What is declared ----------------------------------------------------------------------------


@pytest.mark.parametrize("experiment", DECLARED, ids=lambda experiment: experiment.name)
def test_questions_are_about_declared_arms(experiment: Experiment) -> None:
    declared = {(arm.name, epsilon) for arm in experiment.arms for epsilon in arm.epsilons}
    for question in experiment.questions:
        assert set(question.arms) <= declared


@pytest.mark.parametrize("experiment", DECLARED, ids=lambda experiment: experiment.name)
def test_no_run_is_declared_twice(experiment: Experiment) -> None:
    runs = [
        (arm.name, epsilon, seed, pool)
        for arm in experiment.arms
        for epsilon in arm.epsilons
        for seed in arm.seeds
        for pool in arm.pools or ("all",)
    ]
    assert len(set(runs)) == len(runs)


def test_every_method_is_declared_and_makes_a_contract(pool: Pool) -> None:
    assert {arm.name for arm in methods_compared.METHODS.arms} == {*METHODS.names}
    for arm in methods_compared.METHODS.arms:
        contract = arms.declare(pool, arm, 8.0, 1).jobs[EVERYBODY].run.contract
        assert contract.adapter.method == arm.name


@pytest.mark.parametrize("experiment", [agnews.AGNEWS, outlets.OUTLETS], ids=lambda e: e.name)
def test_every_arm_that_an_honest_comparison_needs_is_there(experiment: Experiment) -> None:
    names = {arm.name for arm in experiment.arms}
    assert {"untrained", "head only", "local", "central", "federated"} <= names
    assert {arm.kind for arm in experiment.arms} == {"untrained", "local", "central", "federated"}


def test_the_heads_grid_is_judged_on_readers_who_neither_train_nor_test(
    data_root: Path, tmp_path: Path
) -> None:
    comments = next(one for one in heads.SETS if one.name == "comments")
    tested = comments.pool(data_root, tmp_path / "a", validated=False)
    validated = comments.pool(data_root, tmp_path / "b", validated=True)
    assert tested.readers == validated.readers
    groups = [
        set(pq.read_table(file)["reader"].to_pylist())
        for file in (tested.test, validated.test, tested.folder / f"{EVERYBODY}.parquet")
    ]
    assert all(groups)
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]


@pytest.mark.parametrize("labels", [LABELS, LABELS[:2]], ids=["three", "two"])
def test_the_regression_arm_fits_everybodys_records(
    labels: Sequence[str], recipe: dict[str, Any], tmp_path: Path
) -> None:
    """So it is right on most of them, where the untrained head guesses one."""
    pool = pool_of(labels, tmp_path / "own")
    head = {**recipe, "adapter": {"method": "head"}}
    arm = Arm(name="ceiling", kind="regression", recipe=lambda *_: head, seeds=(1,))
    (job,) = arms.declare(pool, arm, math.inf, 1).jobs.values()
    assert job.fitted is not None
    run_job(replace(job, test=EvaluationData(data=job.fitted)), tmp_path)
    assert job.figures(tmp_path).each.mean() > 1.5 / len(labels)
    assert job.seconds(tmp_path) == 0


def test_the_search_grid_never_reads_the_test_rows(data_root: Path, tmp_path: Path) -> None:
    (pool,) = agnews.search_pools(data_root, tmp_path)
    train = dict.fromkeys(text for text, _ in agnews.read_rows(data_root, "train_a"))
    validation = pq.read_table(pool.test)["text"].to_pylist()
    assert all(text in train for text in validation)
    assert 0.2 < len(validation) / len(train) < 0.3


def test_agnews_is_dealt_out_whole(data_root: Path, tmp_path: Path) -> None:
    four, twenty = agnews.pools(data_root, tmp_path)
    assert set(four.readers.values()) <= {1499, 1500}
    assert len(twenty.readers) == 20
    for pool in (four, twenty):
        assert sum(pool.records.values()) == 11_995
        assert pq.read_metadata(pool.test).num_rows == 7600


def test_people_are_on_one_side_and_at_one_outlet(data_root: Path, tmp_path: Path) -> None:
    (pool,) = reader_unit.pools(data_root, tmp_path)
    of = {
        name: set(pq.read_table(pool.folder / f"{name}.parquet")["reader"].to_pylist())
        for name in (*pool.readers, "test")
    }
    assert sum(len(people) for people in of.values()) == len(set().union(*of.values()))
    assert sum(pool.readers.values()) == sum(len(of[name]) for name in pool.readers)


def test_the_record_arm_has_the_reader_arms_noise() -> None:
    pool = Pool(
        name="p",
        folder=Path("p"),
        readers={"a": 500},
        records={"a": 4000},
        labels=("x", "y"),
        max_length=8,
    )
    record, reader = (
        arms.declare(pool, arm, reader_unit.EPSILON, 1).jobs[EVERYBODY].run.contract.with_noise()
        for arm in (reader_unit.RECORD, reader_unit.READERS.arms[1])
    )
    assert record.outlets == {"a": 4000}
    assert record.privacy.noise_multiplier == reader.privacy.noise_multiplier


def test_real_outlets_keep_readers_apart(data_root: Path, tmp_path: Path) -> None:
    (pool,) = outlets.pools(data_root, tmp_path)
    assert len(pool.readers) == len(pool.labels) == 8
    test = pq.read_table(pool.test)
    assert test.num_rows + sum(pool.records.values()) == 7701
    assert 0.25 < test.num_rows / 7701 < 0.35
    held_out = set(test["reader"].to_pylist())
    for name in pool.readers:
        own = set(pq.read_table(pool.folder / f"{name}.parquet")["reader"].to_pylist())
        assert len(own) == pool.readers[name]
        assert not own & held_out


def test_small_sources_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlets, "SOURCES", 2)
    path = tmp_path / "article_bias" / "meta.csv.gz"
    path.parent.mkdir()
    with gzip.open(path, "wt", newline="") as stream:
        writer = csv.DictWriter(stream, ["ID", "source", "topic", "authors", "title"])
        writer.writeheader()
        for source, count in (("North Post", 40), ("South Echo", 30), ("Tiny Gazette", 3)):
            for number, row in enumerate(made_rows(source, count)):
                writer.writerow(
                    {
                        "ID": f"{source}{number}",
                        "source": source,
                        "topic": row["label"],
                        "authors": "" if number % 5 == 0 else row["reader"],
                        "title": row["text"],
                    }
                )
    (pool,) = outlets.pools(tmp_path, tmp_path / "out")
    assert set(pool.readers) == {"north-post", "south-echo"}
    people = pq.read_table(pool.folder / f"{EVERYBODY}.parquet")["reader"].to_pylist()
    nameless = [person for person in people if "/row " in person]
    assert len(set(nameless)) == len(nameless) > 0


@pytest.mark.parametrize("pools", [agnews.pools, outlets.pools, reader_unit.pools])
def test_data_that_is_not_there_is_refused(pools: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        pools(tmp_path, tmp_path / "out")


def test_a_pool_without_test_records_is_refused(tmp_path: Path) -> None:
    one = Record(outlet="a", reader="r", text="t", label="x", test=False)
    with pytest.raises(DataError, match="empty pool"):
        write_pool([one], tmp_path, name="p", labels=("x", "y"), max_length=8)
    assert tidy.RESAMPLES >= 1000


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
