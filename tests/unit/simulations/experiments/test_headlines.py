"""The experiment on a generating model: days kept apart, figures by tokens, shares of a gain."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.fakes.bases.language_bases import write_tiny_llama

from presspool.common.models.base_model import resolve
from presspool.common.runs.default_recipe import writing_recipe
from presspool.simulations.experiments.arms import Arm, Kind, Trial
from presspool.simulations.experiments.declared import headlines
from presspool.simulations.experiments.experiment import (
    Experiment,
    Question,
    ShareQuestion,
    jobs_of,
    run_experiment,
)
from presspool.simulations.experiments.jobs import run_job
from presspool.simulations.experiments.pools import (
    EVERYBODY,
    Pool,
    Record,
    write_few_shot,
    write_pool,
)
from presspool.simulations.experiments.results_page import draw, markdown
from presspool.simulations.experiments.tidy import Judged, difference, estimate, share

DAYS = ("20030301", "20030522", "20030523", "20030524", "20030525", "20030527")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small `abc_headlines`: on each day 40 headlines, and one that comes back every day."""
    monkeypatch.setattr(headlines, "READERS", 4)
    path = tmp_path / "data" / "abc_headlines" / "all.csv.gz"
    path.parent.mkdir(parents=True)
    with gzip.open(path, "wt", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["publish_date", "headline_text"])
        for day in DAYS:
            writer.writerows([day, f"council {n} votes on day {day}"] for n in range(40))
            writer.writerow([day, "rain again"])
    return tmp_path / "data"


def said_by(pool: Pool, name: str) -> list[str]:
    said: list[str] = pq.read_table(pool.folder / f"{name}.parquet")["answer"].to_pylist()
    return said


def test_a_days_headlines_are_on_one_side(data: Path, tmp_path: Path) -> None:
    days = (headlines.TEST_DAY, "99999999")
    pool = headlines.headline_pool(data, tmp_path / "pool", days=days)
    assert pool.readers == {f"outlet-{n + 1}": 4 for n in range(8)}
    assert set(pool.records.values()) == {8}
    train, test = said_by(pool, EVERYBODY), said_by(pool, "test")
    assert not set(train) & set(test)
    assert len(test) == 80
    assert all(said.endswith(("25", "27")) for said in test)
    assert {said[-8:] for said in train} <= {*DAYS[:2], "in again"[-8:]}


def test_examples_belong_to_no_reader_and_come_from_training_days(
    data: Path, tmp_path: Path
) -> None:
    pool = headlines.headline_pool(data, tmp_path / "pool", days=(headlines.TEST_DAY, "99999999"))
    plain, shown = (pq.read_table(file).to_pylist() for file in (pool.test, pool.few_shot))
    assert [row["answer"] for row in plain] == [row["answer"] for row in shown]
    examples = shown[0]["prompt"].split(headlines.ASKED)[1:-1]
    assert len(examples) == headlines.EXAMPLES
    assert not {said.strip() for said in examples} & {
        *said_by(pool, EVERYBODY),
        *said_by(pool, "test"),
    }
    assert shown[0]["prompt"].endswith(plain[0]["prompt"])


def test_the_search_is_judged_on_training_days(data: Path, tmp_path: Path) -> None:
    (pool,) = headlines.search_pools(data, tmp_path)
    assert {said[-2:] for said in said_by(pool, "test")} == {"23", "24"}
    whole = headlines.headline_pool(data, tmp_path / "whole", days=(headlines.TEST_DAY, "99999999"))
    assert said_by(pool, EVERYBODY) == said_by(whole, "outlet-1")


def test_the_real_headlines_fill_the_outlets(data_root: Path, tmp_path: Path) -> None:
    pool, articles = headlines.pools(data_root, tmp_path)
    assert set(pool.readers.values()) == {1000}
    assert len(said_by(pool, "test")) >= 250
    assert len(articles.readers) == 8
    assert 250 <= len(said_by(articles, "test")) < 400


# --- Figures -------------------------------------------------------------------------------------


def judged(kind: Kind, seed: int, nats: Any, tokens: Any = 1.0) -> Judged:
    figures = np.asarray(nats, float)
    pool = Pool(
        name="p",
        folder=Path("p"),
        readers={"a": 9},
        records={"a": 9},
        labels=(),
        max_length=8,
        task=headlines.TASK,
    )
    arm = Arm(name=kind, kind=kind, recipe={})
    return Judged(
        trial=Trial(pool=pool, arm=arm, epsilon=math.inf, seed=seed, jobs={}),
        pooled=figures,
        own=figures,
        outlet=np.array(["public"] * len(figures)),
        seconds=0.0,
        size=np.asarray(tokens, float),
    )


def test_a_headline_counts_by_its_tokens() -> None:
    found = estimate([judged("federated", 1, [1.0, 5.0], [3.0, 1.0])], "pooled")
    assert found.mean == pytest.approx(2.0)


def test_what_was_not_written_for_counts_nothing() -> None:
    one = dataclasses.replace(
        judged("federated", 1, [2.0] * 3, [1.0, 9.0, 1.0]), written=np.array([0.5, math.nan, 0.25])
    )
    assert estimate([one], "written").mean == pytest.approx(0.375)


def test_fewer_nats_are_better() -> None:
    found = difference(
        [judged("federated", 1, [2.0, 2.5])], [judged("local", 1, [3.0, 3.5])], "own"
    )
    assert (found.low, found.mean, found.high) == pytest.approx((1.0, 1.0, 1.0))


def test_a_share_of_the_gain_pairs_records_and_seeds() -> None:
    """The base was judged once; it stands beside each seed of the trained arms."""
    rng = np.random.default_rng(3)
    base = 7 + rng.normal(size=200)
    start = [judged("untrained", 1, base)]
    best = [judged("federated", seed, base - 1 - 0.1 * seed) for seed in (1, 2, 3)]
    kept = [judged("federated", seed, base - 0.8 * (1 + 0.1 * seed)) for seed in (1, 2, 3)]
    found = share(kept, start, best, "pooled")
    assert found.seeds == 3
    assert found.mean == pytest.approx(0.8)
    assert found.high - found.low < 1e-6


# --- The whole, on a tiny language model ----------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Experiment:
    """Every kind of arm, two outlets, a few headlines."""
    model = str(write_tiny_llama(tmp_path / "base"))
    tables = {
        **writing_recipe(),
        "model": {"id": model, **resolve(model, weights=None, tokenizer=None).pins},
        "adapter": {"rank": 2, "alpha": 4, "layers": 1, "targets": ["o_proj", "down_proj"]},
        "federation": {"rounds": 1, "local_steps": 1},
    }
    records = [
        Record(outlet=outlet, reader=f"{outlet}-{n // 2}", text="News:", label=said, test=n >= 24)
        for outlet in ("north", "south")
        for n in range(30)
        for said in [f"vote {n} held"]
    ]
    pool = write_pool(records, tmp_path / "p", name="p", max_length=24, task=headlines.TASK)
    write_few_shot(pool, "News:\nrain again\n\n")
    wide = {**tables, "task": {"max_length": 64}}
    federated = ("federated", math.inf)
    return Experiment(
        name="small",
        pools=lambda _data, _out: [pool],
        arms=(
            Arm(name="plain", kind="untrained", recipe=tables, seeds=(1,)),
            Arm(name="shown", kind="few-shot", recipe=wide, seeds=(1,)),
            Arm(name="federated", kind="federated", recipe=tables, seeds=(1,)),
            Arm(name="local", kind="local", recipe=tables, seeds=(1,)),
        ),
        questions=(
            ShareQuestion(
                text="how much?",
                kept=("local", math.inf),
                start=("plain", math.inf),
                best=federated,
                at_least=0.5,
            ),
            Question(text="below few-shot", left=federated, right=("shown", math.inf)),
        ),
    )


def test_a_generating_model_is_judged_by_its_nats(small: Experiment, tmp_path: Path) -> None:
    trials, out = small.trials(tmp_path, tmp_path, seeds=None), tmp_path / "out"
    for job in jobs_of(trials):
        run_job(job, out / "jobs")
        assert job.finished(out / "jobs")
    judged = run_experiment(trials, out, workers=1, on_done=lambda: None)
    plain, shown, federated, local = (one.mean("pooled") for one in judged)
    assert len({plain, shown, federated, local}) == 4
    assert plain == pytest.approx(math.log(320), abs=1.5)  # it knows nothing
    assert all(np.array_equal(one.size, judged[0].size) for one in judged)
    rows = pq.read_table(out / "results.parquet").to_pylist()
    assert all(row["nats"] > 0 for row in rows)
    text = markdown(small, judged)
    assert "| nats a token | perplexity | ROUGE-L | seeds |" in text
    for one in judged:
        assert one.written is not None
        assert np.count_nonzero(~np.isnan(one.written)) == len(one.written) == 12
        assert 0 <= one.mean("written") <= 1
    assert sum(row["rouge_l"] is not None for row in rows) == len(judged)
    assert "| how much? |" in text
    assert "of it; aim 0.50 |" in text
    assert "| below few-shot |" in text
    draw(small, judged, tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").stat().st_size > 1000
