"""Tuning: no reader's record, the pool's noise, every trial once, the best one proposed."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import LABELS, made_rows

from presspool.common.base.errors import DataError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.tasks.metric import Metric
from presspool.server.rounds.evaluation import HeldOut
from presspool.simulations import tune as tuning
from presspool.simulations.tune import proposal, trials_of, tune


@pytest.fixture
def public() -> HeldOut:
    rows = made_rows("archive", 120)
    return HeldOut(
        texts=[row["text"] for row in rows],
        labels=np.array([LABELS.index(row["label"]) for row in rows]),
    )


@pytest.fixture
def contract(contract_body: dict[str, Any]) -> Contract:
    privacy = {"epsilon": 3.0, "clip": {"adapter": 1.0, "head": 1.0}, "sampling_rate": 0.5}
    rates = {"learning_rate": {"adapter": 1.0, "head": 5.0}}
    outlets = {"north-post": 900, "south-echo": 600}
    body = {**contract_body, "privacy": privacy, "optimizer": rates, "outlets": outlets}
    return parse_contract(body)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "SAMPLING", ((0.5, 2), (1.0, 2)))


def test_every_trial_is_made_once_and_a_second_start_makes_none(
    contract: Contract, public: HeldOut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks: list[int] = []
    trials = tune(contract, public, tmp_path, on_trial=lambda: ticks.append(1))
    assert len(ticks) == trials_of(contract) >= len(trials) > 5
    assert trials[0].metrics["accuracy"] == max(trial.merit for trial in trials)
    lines = (tmp_path / "trials.jsonl").read_text().splitlines()
    assert len({json.loads(line)["contract"] for line in lines}) == len(lines) == len(trials)
    monkeypatch.setattr(tuning, "train_round", None)  # whoever trains now fails
    assert tune(contract, public, tmp_path) == trials


def test_trials_of_an_older_version_are_not_repeated(
    contract: Contract, public: HeldOut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, file = tune(contract, public, tmp_path), tmp_path / "trials.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    old = [{"contract": one["contract"], **one["metrics"]} for one in lines]
    file.write_text("".join(json.dumps(one) + "\n" for one in old))
    monkeypatch.setattr(tuning, "train_round", None)  # whoever trains now fails
    assert tune(contract, public, tmp_path) == trials


def test_the_best_trial_is_best_in_the_primary_metrics_direction(
    contract: Contract, public: HeldOut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A made task: its perplexity has to be small, and one candidate diverges."""
    perplexity = Metric(name="perplexity", title="Perplexity", higher_is_better=False, primary=True)
    values = iter([9.0, 9.0, None, 8.0, *[7.0] * 2, *[7.5] * 100])
    monkeypatch.setattr(tuning, "_PRIMARY", perplexity)
    monkeypatch.setattr(tuning._Bench, "_value", lambda *_: next(values))
    trials = tune(contract, public, tmp_path)
    assert [trials[0].metrics["perplexity"], trials[-1].metrics["perplexity"]] == [7.0, None]
    text = proposal(contract, trials, Path("archive.csv"), 120)
    assert "perplexity 7.000 on validation rows\n# (worst –)" in text


def test_the_proposal_is_a_part_of_a_run_file(
    contract: Contract, public: HeldOut, tmp_path: Path
) -> None:
    trials = tune(contract, public, tmp_path)
    text = proposal(contract, trials, Path("archive.csv"), len(public.labels))
    tables = tomllib.loads(text)
    best = contract.replace(privacy={"epsilon": None, "noise_multiplier": 1.0})
    merged = {
        k: {**v, "noise_multiplier": None} if k == "privacy" else v for k, v in tables.items()
    }
    proposed = best.replace(**merged).with_noise()
    assert proposed.plan.epsilon() <= 3.0
    assert proposed.privacy.noise_multiplier == trials[0].tables["privacy"]["noise_multiplier"]
    assert "archive.csv" in text


def test_the_made_outlet_has_the_pools_noise(contract: Contract, public: HeldOut) -> None:
    """Standard deviation of the noise on the mean gradient, in both."""
    bench = tuning._Bench(contract, public, Path("unused"))
    contract = contract.with_noise()
    small = bench._small(contract).plan
    (readers,) = bench._small(contract).outlets.values()
    weights = contract.weights()
    pool = math.sqrt(
        sum(
            (weights[name] * contract.plan.noise_std / contract.plan.expected_batch(n)) ** 2
            for name, n in contract.outlets.items()
        )
    )
    assert small.noise_std / small.expected_batch(readers) == pytest.approx(pool)
    assert small.steps == contract.steps


def test_where_the_coordinator_takes_the_steps_its_rates_are_tuned(
    contract: Contract, public: HeldOut, tmp_path: Path
) -> None:
    """Adam divides the outlets' own rate out; to move that would move nothing."""
    adam = contract.replace(
        server={"name": "adam", "learning_rate": {"adapter": 0.01, "head": 0.3}}
    )
    trials = tune(adam, public, tmp_path)
    assert len(trials) > 5
    assert len({str(trial.tables["server"]["learning_rate"]) for trial in trials}) > 3
    assert "[server]" in (text := proposal(adam, trials, Path("archive.csv"), 120))
    assert "[optimizer]" not in text


def test_too_few_public_rows_are_refused(contract: Contract, tmp_path: Path) -> None:
    few = HeldOut(texts=["a"] * 20, labels=np.zeros(20, np.int64))
    with pytest.raises(DataError, match="too few public rows"):
        tune(contract, few, tmp_path)
    assert not (tmp_path / "trials.jsonl").exists()
