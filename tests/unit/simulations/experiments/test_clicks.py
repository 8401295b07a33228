"""The experiment on clicks: pools of impressions, and baselines judged like a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from presspool.common.runs.run_file import EvaluationData
from presspool.simulations.experiments.arms import Arm, Kind, Tables, declare
from presspool.simulations.experiments.declared import clicks
from presspool.simulations.experiments.jobs import run_job
from presspool.simulations.experiments.pools import EVERYBODY, Pool
from presspool.simulations.newsroom.click_baselines import by_popularity, read_impressions


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return clicks.made(tmp_path / "made", readers=10, tested=20, seed=1)


@pytest.fixture
def recipe(contract_body: dict[str, Any]) -> Tables:
    return {
        **clicks.recipe({"a": 10}, 0, 8.0),
        "model": contract_body["model"],
        "federation": {"rounds": 1, "local_steps": 1},
    }


def figures(pool: Pool, recipe: Tables, kind: Kind, folder: Path) -> tuple[Any, Any]:
    trial = declare(pool, Arm(name=kind, kind=kind, recipe=recipe), 8.0, 1)
    job = trial.jobs[EVERYBODY]
    run_job(job, folder)
    return job.run.contract, job.figures(folder).each


def test_impressions_are_judged_by_the_auc_within_each(
    pool: Pool, recipe: Tables, tmp_path: Path
) -> None:
    contract, found = figures(pool, recipe, "popularity", tmp_path)
    shown, judged = (
        read_impressions(EvaluationData(data=file).records(contract))
        for file in (pool.folder / f"{EVERYBODY}.parquet", pool.test)
    )
    assert len(found) == len(judged) == 20
    assert found.mean() == pytest.approx(by_popularity(shown, judged)["auc"])
    alike = figures(pool, recipe, "untrained", tmp_path)[1]
    trained = figures(pool, recipe, "federated", tmp_path)[1]
    assert np.all((trained >= 0) & (trained <= 1))
    cold = np.array([not one.history for one in judged])
    assert cold.any()
    assert np.all(alike[cold] == 0.5)  # nothing is known of who has read nothing
    assert np.any(trained[cold] != 0.5)


def test_readers_of_mind_are_trained_on_or_tested_on(data_root: Path, tmp_path: Path) -> None:
    pool = clicks.mind(data_root, tmp_path)
    train, test = (
        pq.read_table(file).to_pylist()
        for file in (pool.folder / f"{EVERYBODY}.parquet", pool.test)
    )
    assert len(train) + len(test) == 119
    assert not {row["reader"] for row in train} & {row["reader"] for row in test}
    for row in (*train, *test):
        assert {*json.loads(row["clicks"])} == {0, 1}
        assert len(json.loads(row["clicks"])) == len(json.loads(row["candidates"]))
        assert len(json.loads(row["candidates"])) <= pool.task["candidates"]
